// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Synchronization
import Testing

@testable import AMQPBench

// LinkTests: connections and channels of a run that are made again, over an in-process broker that drops them.

@Suite("Link and lane", .timeLimit(.minutes(1)))
struct LinkTests {
    /// Counts what it connects.
    final class Connects: Sendable {
        private let number = Atomic(0)
        let broker: InProcessBroker
        var count: Int { self.number.load(ordering: .relaxed) }

        init(_ broker: InProcessBroker) { self.broker = broker }

        func link() async throws -> Link {
            Link(try await AMQPConnection.connect(self.broker.configuration)) {
                self.number.add(1, ordering: .relaxed)
                return try await AMQPConnection.connect(self.broker.configuration)
            }
        }
    }

    @Test("All who miss a lost connection get the same new one")
    func sharedRenewal() async throws {
        try await InProcessBroker.withBroker { broker in
            let connects = Connects(broker)
            let link = try await connects.link()
            let lost = link.connection
            await broker.dropConnections()
            let renewed = try await withThrowingTaskGroup { group in
                for _ in 0..<8 { group.addTask { try await link.renewed(after: lost) } }
                return try await group.reduce(into: []) { $0.append(ObjectIdentifier($1)) }
            }
            #expect(Set(renewed).count == 1)
            #expect(connects.count == 1)
            #expect(link.connection !== lost)
            // Who comes late gets it too, and no other is made.
            #expect(try await link.renewed(after: lost) === link.connection)
            #expect(connects.count == 1)
            await link.close(timeout: .seconds(5))
        }
    }

    @Test("A broker that is away is tried until it is back")
    func patience() async throws {
        try await InProcessBroker.withBroker { broker in
            let connects = Connects(broker)
            let link = try await connects.link()
            await broker.refuseConnections(true)
            await broker.dropConnections()
            async let renewed = link.renewed(after: link.connection)
            while connects.count < 3 { await Task.yield() }
            await broker.refuseConnections(false)
            #expect(try await renewed === link.connection)
            link.abort()
        }
    }

    @Test("A link that has ended makes no further connection")
    func ended() async throws {
        try await InProcessBroker.withBroker { broker in
            let link = try await Connects(broker).link()
            let connection = link.connection
            await link.close(timeout: .seconds(5))
            await #expect(throws: (any Error).self) { try await link.renewed(after: connection) }
            try await broker.waitUntilAllHaveGone()
        }
    }

    @Test("What a lane's channels have counted adds up over a lost connection")
    func lane() async throws {
        try await InProcessBroker.withBroker { broker in
            let link = try await Connects(broker).link()
            let counter = Restored()
            let lane = try await Lane(on: link, window: 10) { connection in
                try await connection.withChannel { _ = try await $0.declareQueue("q") }
                counter.add()
            }
            try await link.connection.withChannel { _ = try await $0.declareQueue("q") }
            try await lane.channel.publishAndConfirm("1", to: .queue("q"))
            #expect(lane.confirmCounts.confirmed == 1)
            #expect(!lane.hasRecovered)
            await broker.dropConnections()
            try await lane.renew()
            #expect(!lane.hasRecovered)
            try await lane.channel.publishAndConfirm("2", to: .queue("q"))
            #expect(lane.hasRecovered)
            #expect(lane.confirmCounts.confirmed == 2)
            #expect(counter.count == 1)
            link.abort()
        }
    }

    private final class Restored: Sendable {
        private let number = Atomic(0)
        var count: Int { self.number.load(ordering: .relaxed) }
        func add() { self.number.add(1, ordering: .relaxed) }
    }
}

extension InProcessBroker {
    /// Waits until no connection is left.
    func waitUntilAllHaveGone() async throws {
        while await !self.connections().isEmpty {
            try Task.checkCancellation()
            await Task.yield()
        }
    }
}
