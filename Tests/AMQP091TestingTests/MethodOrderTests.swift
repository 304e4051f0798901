// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// MethodOrderTests: what a client sees when one method of it is not answered, late, refused or cut off, at every step of
// a conversation; and that octets in pieces of any size are the same to it.

@Suite("Faults of methods", .timeLimit(.minutes(1)))
struct MethodOrderTests {
    /// Connects, and does one thing of every kind.
    private static func converse(_ broker: InProcessBroker) async throws {
        var configuration = broker.configuration
        configuration.connectTimeout = .seconds(5)
        configuration.operationTimeout = .seconds(5)
        let connection = try await AMQPConnection.connect(configuration)
        do {
            let channel = try await connection.openChannel()
            try await channel.declareExchange("e", type: .fanout)
            try await channel.declareQueue("q")
            try await channel.bindQueue("q", to: "e", routingKey: "")
            try await channel.enableConfirms()
            try await channel.publishAndConfirm(AMQPMessage("m"), to: .exchange("e"))
            let message = try #require(try await channel.get("q"))
            try message.reject(requeue: true)
            try await channel.setPrefetch(count: 10)
            let deliveries = try await channel.deliveries(from: "q")
            var iterator = deliveries.makeAsyncIterator()
            try #require(try await iterator.next(isolation: nil)).ack()
            try await channel.cancel(deliveries)
            try await channel.deleteQueue("q")
            try await channel.close()
            try await connection.close()
        } catch {
            try? await connection.close(timeout: .seconds(1))
            throw error
        }
    }

    static let steps: [MethodID] = [
        .connectionStartOk, .connectionTuneOk, .connectionOpen, .channelOpen, .exchangeDeclare, .queueDeclare,
        .queueBind, .confirmSelect, .basicPublish, .basicGet, .basicReject, .basicQos, .basicConsume, .basicAck,
        .basicCancel, .queueDelete, .channelClose, .connectionClose,
    ]

    @Test(
        "A link that drops before, during or after any step fails the step or the next, and never hangs",
        arguments: steps
    )
    func drops(_ step: MethodID) async throws {
        for moment in [InProcessBroker.MethodOrder.Moment.before, .during, .after] {
            try await InProcessBroker.withBroker { broker in
                await broker.onNext(step, .drop(moment))
                do {
                    try await Self.converse(broker)
                    // Closing a closed channel is not an error.
                    let isClose = step == .channelClose || step == .connectionClose
                    #expect(isClose || (step == .queueDelete && moment == .after), "\(step) \(moment)")
                } catch let error as AMQPError {
                    // A link that ends behind the credentials is a probable refusal.
                    let codes: [AMQPError.Code] = [
                        .connectFailed, .connectionClosed,
                        step == .connectionStartOk ? .authenticationFailed : .connectFailed,
                        // The publish after confirm.select may have been written.
                        [.confirmSelect, .basicPublish].contains(step) ? .unknownOutcome : .connectFailed,
                    ]
                    #expect(codes.contains(error.code), "\(step) \(moment): \(error)")
                }
                // The order is used up.
                try await Self.converse(broker)
            }
        }
    }

    @Test("A refused step fails with the code and text, and its scope is closed", arguments: steps)
    func refusals(_ step: MethodID) async throws {
        try await InProcessBroker.withBroker { broker in
            await broker.onNext(step, .refuse(.resourceLocked, "on order"))
            do {
                try await Self.converse(broker)
                // A refused close is a close; and what is refused after the last reply comes too late to be seen.
                #expect([.connectionClose, .channelClose, .basicAck].contains(step))
            } catch let error as AMQPError {
                let text = "RESOURCE_LOCKED - on order"
                #expect(error.replyText == text || "\(error)".contains("on order"), "\(step): \(error)")
            }
            try await Self.converse(broker)
        }
    }

    @Test("A lost reply ends the call at its deadline, and the method took effect")
    func lost() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            await broker.onNext(.queueDeclare, .loseAnswer)
            let error = await #expect(throws: AMQPError.self) {
                try await channel.declareQueue("q", timeout: .milliseconds(30))
            }
            #expect(error?.code == .timedOut)
            #expect(await broker.queue("q") != nil)
            await broker.onNext(.connectionClose, .loseAnswer)
            let close = await #expect(throws: AMQPError.self) { try await connection.close(timeout: .milliseconds(30)) }
            #expect(close?.code == .timedOut)
            #expect(!connection.isOpen)
        }
    }

    @Test("A lost confirm leaves its publish unknown, and the message in the queue")
    func lostConfirm() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            try await channel.enableConfirms()
            await broker.onNext(.basicPublish, .loseAnswer)
            let error = await #expect(throws: AMQPError.self) {
                try await channel.publishAndConfirm(AMQPMessage("m"), to: .queue("q"), timeout: .milliseconds(30))
            }
            #expect(error?.code == .unknownOutcome)
            #expect(await broker.depth(of: "q") == 1)
            try await channel.publishAndConfirm(AMQPMessage("m"), to: .queue("q"))
            try await connection.close()
        }
    }

    @Test("A late reply delays its own connection only")
    func late() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            await broker.onNext(.queueDeclare, .delay(.milliseconds(20)))
            try await channel.declareQueue("late")
            await broker.onNext(.queueDeclare, .delay(.seconds(3600)))
            let error = await #expect(throws: AMQPError.self) {
                try await channel.declareQueue("too late", timeout: .milliseconds(30))
            }
            #expect(error?.code == .timedOut)
            let other = try await broker.connect()
            try await other.withChannel { _ = try await $0.declareQueue("in time") }
            #expect(await broker.queues().map(\.name) == ["in time", "late"])
            try await other.close()
            await broker.dropConnections("it would wait for an hour")
        }
    }

    @Test("Faults of one kind apply in turn, and can be removed")
    func several() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            await broker.onNext(.queueDeclare, .refuse(.accessRefused, "first"), .refuse(.notFound, "second"))
            for text in ["ACCESS_REFUSED - first", "NOT_FOUND - second"] {
                let channel = try await connection.openChannel()
                let error = await #expect(throws: AMQPError.self) { try await channel.declareQueue("q") }
                #expect(error?.replyText == text)
            }
            await broker.onNext(.queueDeclare, .refuse(.accessRefused, "third"))
            await broker.cancelMethodOrders()
            try await connection.withChannel { _ = try await $0.declareQueue("q") }
            try await connection.close()
        }
    }

    @Test("Octets in pieces of any size are equal to a client", arguments: [1, 2, 3, 7, 8, 9, 100, 4096])
    func pieces(_ size: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            await broker.splitWrites(every: size)
            let paired = try await broker.connect()
            try await Self.exchange(over: paired)
            if size >= 7 {
                let tcp = try await AMQPConnection.connect(broker.configuration)
                try await Self.exchange(over: tcp)
            }
            await broker.splitWrites(every: nil)
        }
    }

    private static func exchange(over connection: AMQPConnection) async throws {
        try await connection.withChannel { channel in
            let queue = try await channel.declareQueue(exclusive: true)
            try await channel.enableConfirms()
            var message = AMQPMessage("the body")
            message.properties.headers = ["n": 1, "text": "ü"]
            for _ in 0..<3 { try await channel.publishAndConfirm(message, to: .queue(queue.name)) }
            try await channel.consume(queue.name) { deliveries in
                var count = 0
                for try await delivery in deliveries {
                    #expect(delivery.body.string == "the body")
                    #expect(try delivery.properties().headers == message.properties.headers)
                    try delivery.ack()
                    count += 1
                    if count == 3 { break }
                }
            }
        }
        try await connection.close()
    }
}
