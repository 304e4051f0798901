// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

// RefusedInOutboxTests: on RabbitMQ, a message that the broker refuses is found in an outbox, by whatever its text names
// or does not name, and reported alone; and an exchange of the topology that was deleted is declared by who publishes to it.

@Suite("Refused in an outbox", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct RefusedInOutboxTests {
    /// Messages for which RabbitMQ closes the channel.
    enum Culprit: String, CaseIterable, Sendable {
        case exchange, internalExchange, userID
        /// The text names nothing of the message.
        case header, directReply

        func message(_ number: Int) -> AMQPMessage {
            let properties =
                switch self {
                case .exchange, .internalExchange: BasicProperties()
                case .userID: BasicProperties(userID: "somebody")
                case .header: BasicProperties(headers: ["CC": "no array"])
                case .directReply: BasicProperties(replyTo: "amq.rabbitmq.reply-to")
                }
            return AMQPMessage(AMQPBody("\(number)"), properties: properties)
        }

        func destination(_ queue: String) -> AMQPDestination {
            switch self {
            case .exchange: .exchange("missing")
            case .internalExchange: .exchange(queue + ".internal")
            case .userID, .header, .directReply: .queue(queue)
            }
        }
    }

    static func withClient(
        _ topology: AMQPTopology,
        _ body: (AMQPClient) async throws -> Void
    ) async throws {
        var configuration = try AMQPClientConfiguration(uri: #require(TestBroker.uri))
        configuration.recovery.initialDelay = .milliseconds(10)
        try await AMQPClient.withClient(configuration, topology: topology, body)
        try await TestBroker.withChannel { channel in
            for queue in topology.queues { try await channel.deleteQueue(queue.name) }
            for exchange in topology.exchanges { try await channel.deleteExchange(exchange.name) }
        }
    }

    @Test(
        "The refused messages are refused, each other one is confirmed, and they keep their order",
        arguments: Culprit.allCases
    )
    func culprits(_ culprit: Culprit) async throws {
        let queue = TopologyTests.unique("outbox")
        let topology = AMQPTopology {
            $0.queue(queue)
            $0.exchange(queue + ".internal", type: .fanout, isInternal: true)
        }
        try await Self.withClient(topology) { client in
            let publisher = try client.openPublisher(outbox: .octets(1 << 20))
            let bad: Set = [3, 10, 11, 19]
            var receipts: [AMQPPublishReceipt] = []
            for number in 0..<20 {
                receipts.append(
                    bad.contains(number)
                        ? try await publisher.enqueue(culprit.message(number), to: culprit.destination(queue))
                        : try await publisher.enqueue(AMQPMessage("\(number)"), to: .queue(queue))
                )
            }
            for (number, receipt) in receipts.enumerated() {
                let outcome = await receipt.outcome()
                guard bad.contains(number) else {
                    #expect(outcome == .confirmed, "\(number)")
                    continue
                }
                guard case .refused(let error) = outcome else {
                    Issue.record("\(number) ended as \(outcome)")
                    continue
                }
                #expect(!error.isSafeToRetry)
                #expect(error.callSite?.fileID.hasSuffix("RefusedInOutboxTests.swift") == true)
            }
            try await publisher.close()
            var seen: [Int] = []
            try await client.consume(queue) { deliveries in
                for try await delivery in deliveries {
                    let number = Int(delivery.body.string) ?? -1
                    if !seen.contains(number) { seen.append(number) }
                    try delivery.ack()
                    if seen.count == 16 { break }
                }
            }
            #expect(seen == (0..<20).filter { !bad.contains($0) })
        }
    }

    @Test(
        "An exchange of the topology that was deleted is declared by a publish, a batch and a request",
        arguments: [false, true]
    )
    func missingExchange(hasOutbox: Bool) async throws {
        let name = TopologyTests.unique("deleted")
        let topology = AMQPTopology {
            $0.exchange(name, type: .topic)
            $0.queue(name + ".q", boundTo: name, routingKey: "a")
            $0.queue(name + ".rpc", boundTo: name, routingKey: "rpc")
        }
        let destination = AMQPDestination.exchange(name, routingKey: "a")
        try await Self.withClient(topology) { client in
            func delete() async throws { try await client.withChannel { try await $0.deleteExchange(name) } }
            try await client.withPublisher(outbox: hasOutbox ? .octets(1 << 20) : .none) { publisher in
                try await publisher.publish("0", to: destination, mandatory: true)
                try await delete()
                try await publisher.publish("1", to: destination, mandatory: true)
                try await delete()
                // Of two in flight, to an exchange that was there, nobody knows which the broker refused.
                let messages: [AMQPMessage] = hasOutbox ? ["2", "3"] : ["2"]
                let batch = await publisher.publish(contentsOf: messages, to: destination, mandatory: true)
                #expect(batch == messages.map { _ in .confirmed })
                if !hasOutbox { try await publisher.publish("3", to: destination, mandatory: true) }
            }
            let server = Task { try await client.serveRPC(name + ".rpc") { AMQPMessage("\($0.body.string)!") } }
            try await client.withRPCClient { rpc in
                try await delete()
                let reply = try await rpc.call("x", to: .exchange(name, routingKey: "rpc"))
                #expect(reply.body.string == "x!")
            }
            server.cancel()
            _ = await server.result
            var seen: [String] = []
            try await client.consume(name + ".q") { deliveries in
                for try await delivery in deliveries {
                    seen.append(delivery.body.string)
                    try delivery.ack()
                    if seen.count == 4 { break }
                }
            }
            #expect(seen == ["0", "1", "2", "3"])
        }
    }
}
