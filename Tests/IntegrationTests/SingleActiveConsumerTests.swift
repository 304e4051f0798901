// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Synchronization
import Testing

@Suite(
    "Single active consumers",
    .enabled(if: TestBroker.uri != nil, TestBroker.isMissing),
    .timeLimit(.minutes(2))
)
struct SingleActiveConsumerTests {
    private final class Seen: Sendable {
        private let state = Mutex<[Int]>([])
        var numbers: [Int] { self.state.withLock { $0 } }
        var count: Int { self.state.withLock { Set($0).count } }
        func add(_ number: Int) { self.state.withLock { $0.append(number) } }
    }

    enum Kind: CaseIterable { case classic, quorum }

    @Test(
        "Clients that are shut down in order hand a queue over without a step back",
        arguments: Kind.allCases,
        [true, false]
    )
    func noStepBack(_ kind: Kind, _ isInTopology: Bool) async throws {
        let uri = try #require(TestBroker.uri)
        let queue = TopologyTests.unique("line")
        let count = 400
        var topology = AMQPTopology()
        switch kind {
        case .classic: topology.queue(queue, as: .classic(singleActiveConsumer: true))
        case .quorum: topology.queue(queue, as: .quorum(singleActiveConsumer: true))
        }
        let declared = topology
        try await TestBroker.withConnection { connection in
            #expect(try await connection.declare(declared).isClean)
            try await connection.withPublisher { publisher in
                for number in 0..<count { try await publisher.send("\(number)", to: .queue(queue)) }
            }
        }
        let seen = Seen()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for turn in 0..<2 {
                group.addTask {
                    while seen.count < count {
                        let client = AMQPClient(
                            try AMQPClientConfiguration(uri: uri),
                            topology: isInTopology ? declared : AMQPTopology()
                        )
                        async let running: Void = client.run()
                        let limit = min(seen.count + 19 + turn * 7, count)
                        try await client.consume(queue, prefetch: 20) { deliveries in
                            async let watch: Void = {
                                while seen.count < limit { try? await Task.sleep(for: .milliseconds(1)) }
                                client.beginShutdown()
                            }()
                            try await deliveries.process { delivery in
                                seen.add(Int(delivery.body.string) ?? -1)
                                try await Task.sleep(for: .milliseconds(1))
                            }
                            await watch
                        }
                        await client.shutdown()
                        try await running
                    }
                }
            }
            try await group.waitForAll()
        }
        // Deliveries in process when the shutdown began are acknowledged, so none is delivered twice.
        #expect(seen.numbers == Array(0..<count))
        try await TestBroker.withChannel { _ = try await $0.deleteQueue(queue) }
    }
}
