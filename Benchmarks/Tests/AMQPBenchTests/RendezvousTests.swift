// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Testing

@testable import AMQPBench

// RendezvousTests: several instances that agree through an in-process broker, each on a connection of its own.

@Suite("Rendezvous", .timeLimit(.minutes(1)))
struct RendezvousTests {
    /// One instance: its connection and its part.
    struct Instance: Sendable {
        let connection: AMQPConnection
        let part: Rendezvous
    }

    static let options = RunOptions(command: "both", warmup: 0, interval: 1)

    /// Joins as many instances as there are options.
    static func join(_ options: [RunOptions], _ broker: InProcessBroker) async throws -> [Instance] {
        try await withThrowingTaskGroup { group in
            for options in options {
                let count = options.instances ?? 1
                group.addTask {
                    let connection = try await AMQPConnection.connect(broker.configuration)
                    let part = try await Rendezvous.join(id: "t", count: count, options: options, on: connection)
                    return Instance(connection: connection, part: part)
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
    }

    static func several(_ count: Int) -> [RunOptions] {
        var options = Self.options
        options.instances = count
        return (0..<count).map { number in
            options.labels = ["host": "\(number)"]
            return options
        }
    }

    @Test("One of all leads, each has a number of its own, and the leader gets the reports of all")
    func agree() async throws {
        try await InProcessBroker.withBroker { broker in
            let instances = try await Self.join(Self.several(3), broker)
            #expect(instances.count { $0.part.isLeader } == 1)
            #expect(instances.map(\.part.index).sorted() == [0, 1, 2])
            let counts = try await withThrowingTaskGroup(of: UInt64?.self, returning: [UInt64].self) { group in
                for (number, instance) in instances.enumerated() {
                    group.addTask {
                        try await instance.part.meet("start")
                        var report = Report.example()
                        report.wholeRun.published = UInt64(1) << UInt64(number)
                        let reports = try await instance.part.gather(report)
                        #expect((reports != nil) == instance.part.isLeader)
                        await instance.part.leave(timeout: .seconds(5))
                        try await instance.connection.close()
                        return reports?.map(\.wholeRun.published).reduce(0, +)
                    }
                }
                return try await group.reduce(into: []) { if let count = $1 { $0.append(count) } }
            }
            #expect(counts == [7])
            try await broker.waitUntil(queue: "amqp-bench-t-leader") { $0 == nil }
            #expect(await broker.queues().isEmpty)
        }
    }

    @Test("Instances that were given different options are all told")
    func disagree() async throws {
        try await InProcessBroker.withBroker { broker in
            var options = Self.several(2)
            options[1].size = 7
            await withTaskGroup { group in
                for options in options {
                    group.addTask {
                        let error = await #expect(throws: BenchFailure.self) { try await Self.join([options], broker) }
                        #expect(error?.description.contains("same options") == true)
                    }
                }
            }
        }
    }

    @Test("An instance that has gone is noticed by the others, whether it led or not", arguments: [true, false])
    func death(_ isLeader: Bool) async throws {
        try await InProcessBroker.withBroker { broker in
            let instances = try await Self.join(Self.several(3), broker)
            let dead = try #require(instances.first { $0.part.isLeader == isLeader })
            dead.connection.abort()
            await withTaskGroup { group in
                for instance in instances where instance.part.index != dead.part.index {
                    group.addTask {
                        let error = await #expect(throws: BenchFailure.self) { try await instance.part.meet("start") }
                        #expect(error?.description.contains("has gone before the step start") == true)
                        #expect(error?.status == ExitStatus.failed)
                        instance.connection.abort()
                    }
                }
            }
        }
    }

    @Test("What all have said counts, also when one of them has left since")
    func leftAfterwards() async throws {
        try await InProcessBroker.withBroker { broker in
            let instances = try await Self.join(Self.several(2), broker)
            let follower = try #require(instances.first { !$0.part.isLeader })
            let leader = try #require(instances.first { $0.part.isLeader })
            async let reports = leader.part.gather(.example())
            #expect(try await follower.part.gather(.example()) == nil)
            follower.connection.abort()
            #expect(try await reports?.count == 2)
            leader.connection.abort()
        }
    }
}
