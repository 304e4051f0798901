// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// AcknowledgementTimeoutTests: deliveries that are not acknowledged in time, by order and by the limit of the options.
// RabbitMQ's behaviour with x-consumer-timeout is in AMQP091Conformance.

@Suite("In-process broker: late acknowledgements", .timeLimit(.minutes(1)))
struct AcknowledgementTimeoutTests {
    private static func consuming(
        _ broker: InProcessBroker,
        type: String,
        messages: Int = 2
    ) async throws -> ScriptedClient {
        let client = try await ScriptedClient.connect(broker.configuration)
        try await client.login(broker.configuration)
        let arguments: FieldTable = ["x-queue-type": .string(type)]
        try await client.call(.queueDeclare(.init(queue: "q", durable: true, arguments: arguments)))
        try await client.call(.basicConsume(.init(queue: "q", consumerTag: "c")))
        for number in 1...messages {
            try client.publish("\(number)", key: "q")
            _ = try await client.delivery()
        }
        return client
    }

    @Test("Before 4.3 a late acknowledgement closes the channel", arguments: ["classic", "quorum"])
    func closes(type: String) async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(.v4_0)) { broker in
            let client = try await Self.consuming(broker, type: type)
            #expect(await broker.timeOutAcknowledgements(of: "q"))
            let close = try await client.expectClose()
            #expect(close.code == .preconditionFailed)
            #expect(
                close.text
                    == "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 "
                    + "ms. This timeout value can be configured, see consumers doc guide to learn more"
            )
            #expect(await broker.depth(of: "q") == 2)
        }
    }

    @Test("A late consumer of a quorum queue is cancelled, gets no deliveries, and ends when the client answers")
    func cancels() async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(.v4_3)) { broker in
            let client = try await Self.consuming(broker, type: "quorum")
            #expect(await broker.timeOutAcknowledgements(of: "q"))
            for _ in 1...2 { #expect(try await client.expect(Basic.Cancel.self).consumerTag == "c") }
            let queue = try #require(await broker.queue("q"))
            #expect(queue.ready == 2)
            #expect(queue.unacknowledged == 0)
            #expect(queue.consumers == 1)
            // Settling a timed-out delivery is not an error and changes nothing.
            try client.send(.basicAck(.init(deliveryTag: DeliveryTag(1))))
            try client.send(.basicCancel(.init(consumerTag: "c", noWait: true)))
            try client.send(.basicReject(.init(deliveryTag: DeliveryTag(2), requeue: false)))
            try await client.expectNothing(before: "q")
            #expect(await broker.queue("q")?.consumers == 0)
            #expect(await broker.depth(of: "q") == 2)
        }
    }

    @Test("A late consumer that settles its deliveries gets new ones")
    func resumes() async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(.v4_3)) { broker in
            let client = try await Self.consuming(broker, type: "quorum", messages: 1)
            await broker.timeOutAcknowledgements(of: "q")
            _ = try await client.expect(Basic.Cancel.self)
            try client.send(.basicAck(.init(deliveryTag: DeliveryTag(1))))
            let (deliver, event) = try await client.delivery()
            #expect(deliver.consumerTag == "c")
            #expect(deliver.deliveryTag == DeliveryTag(2))
            #expect(event.properties.headers?["x-acquired-count"] == .int64(1))
            #expect(event.properties.headers?["x-delivery-count"] == nil)
        }
    }

    @Test("Since 4.3 classic queues have no limit on the time to acknowledge")
    func classic() async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(.v4_3)) { broker in
            let client = try await Self.consuming(broker, type: "classic")
            await broker.setConsumerTimeout(.zero)
            await broker.timeOutAcknowledgements(of: "q")
            try await client.expectNothing(before: "q")
            #expect(await broker.queue("q")?.unacknowledged == 2)
        }
    }

    @Test("The acknowledgement timeout applies to unacknowledged deliveries, also when it is changed")
    func limit() async throws {
        var options = InProcessBroker.Options(version: .v3_10)
        options.consumerTimeout = .seconds(3600)
        try await InProcessBroker.withBroker(options) { broker in
            let client = try await Self.consuming(broker, type: "classic")
            await broker.setConsumerTimeout(.milliseconds(10))
            let close = try await client.expectClose()
            #expect(close.text.contains("Timeout value used: 10 ms"))
        }
    }

    @Test("An unacknowledged message of basic.get that is late closes the channel of a quorum queue's client")
    func get() async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(.v4_3)) { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            let arguments: FieldTable = ["x-queue-type": "quorum"]
            try await client.call(.queueDeclare(.init(queue: "q", durable: true, arguments: arguments)))
            try client.publish("m", key: "q")
            #expect(try await client.get("q", noAck: false) != nil)
            await broker.timeOutAcknowledgements(of: "q")
            #expect(try await client.expectClose().code == .preconditionFailed)
            #expect(await broker.depth(of: "q") == 1)
        }
    }

    @Test("A dead letter of at-least-once waits for a queue that accepts it")
    func atLeastOnce() async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(.v4_3)) { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            let arguments: FieldTable = [
                "x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead",
                "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
            ]
            try await client.call(.queueDeclare(.init(queue: "q", durable: true, arguments: arguments)))
            for body in ["1", "2"] {
                try client.publish(body, key: "q")
                let event = try #require(try await client.get("q", noAck: false))
                guard case .basicGetOk(let ok) = event.method else { return }
                try client.send(.basicReject(.init(deliveryTag: ok.deliveryTag, requeue: false)))
            }
            let full: FieldTable = ["x-max-length": 1, "x-overflow": "reject-publish"]
            try await client.call(.queueDeclare(.init(queue: "dead", durable: true, arguments: full)))
            try await broker.waitUntil(depthOf: "dead", is: 1)
            #expect(try await client.get("dead")?.text == "1")
            try await broker.waitUntil(depthOf: "dead", is: 1)
            #expect(try await client.get("dead")?.text == "2")
        }
    }
}
