// SPDX-License-Identifier: Apache-2.0
import AMQP091
import EpollConcurrency
import Testing

// DeletedQueueTests: queues of a client's topology that somebody else deletes again and again while they are consumed.
// Unless it is told otherwise, RabbitMQ 3 consumes from a queue of the same name that is there again, and drops what it
// delivers.

@Suite("Queues deleted under their consumers", .enabled(if: TestBroker.uri != nil), .timeLimit(.minutes(3)))
struct DeletedQueueTests {
    final class Arrivals: Sendable {
        let bodies = Locked<Set<String>>([])
    }

    static let count = 3
    static let rounds = 40

    @Test(
        "Each consumer gets what is published after each deletion, with few channels too",
        arguments: [4, 100] as [UInt16],
        [.classic(), .quorum()] as [any AMQPQueueKind]
    )
    func again(_ channelMax: UInt16, _ kind: any AMQPQueueKind) async throws {
        var configuration = try AMQPClientConfiguration(uri: #require(TestBroker.uri))
        configuration.channelMax = channelMax
        let name = "deleted-\(UInt64.random(in: 0 ... .max))"
        let queues = (0..<Self.count).map { "\(name).\($0)" }
        let topology = AMQPTopology { for queue in queues { $0.queue(queue, as: kind) } }
        let arrived = Arrivals()
        try await AMQPClient.withClient(configuration, topology: topology) { client in
            let consuming = queues.map { queue in
                Task {
                    try await client.consume(queue) { deliveries in
                        try await deliveries.process(maxConcurrency: 2) { delivery in
                            let body = delivery.body.string
                            arrived.bodies.withLock { _ = $0.insert(body) }
                        }
                    }
                }
            }
            try await AMQPConnection.withConnection(AMQPClientConfiguration(uri: #require(TestBroker.uri))) { other in
                // RabbitMQ 3 does not tell every consumer of a quorum queue that it is deleted.
                let version = other.serverProperties["version"]?.stringValue ?? ""
                let rounds = kind is AMQPQuorumQueue && version.hasPrefix("3.") ? 1 : Self.rounds
                for round in 0..<rounds {
                    for (number, queue) in queues.enumerated() {
                        let body = "\(round).\(number)"
                        // A message that is confirmed just before a deletion is deleted too.
                        let deadline = ContinuousClock.now + .seconds(20)
                        while !arrived.bodies.withLock({ $0.contains(body) }), ContinuousClock.now < deadline {
                            try? await client.withPublisher {
                                try await $0.publish(AMQPMessage(body), to: .queue(queue), mandatory: true)
                            }
                            // The broker needs the time between two deletions to make the mistake.
                            try await Task.sleep(for: .milliseconds(10))
                        }
                        try #require(arrived.bodies.withLock { $0.contains(body) }, "\(body)")
                    }
                    for queue in queues { try await other.withChannel { _ = try await $0.deleteQueue(queue) } }
                }
            }
            client.beginShutdown()
            for task in consuming { try await task.value }
        }
        try await AMQPConnection.withConnection(AMQPClientConfiguration(uri: #require(TestBroker.uri))) { other in
            for queue in queues { try? await other.withChannel { _ = try await $0.deleteQueue(queue) } }
        }
    }
}
