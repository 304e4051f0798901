// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Glibc
import InMemoryLogging
import Logging
import Testing

// LoggingTests: what is logged, at which level, with which metadata; and that no body or secret ever is.

@Suite("Logging", .timeLimit(.minutes(1)))
struct LoggingTests {
    struct Broken: Error {}

    static func withConnection(
        _ level: Logger.Level,
        _ body: (InProcessBroker, AMQPConnection) async throws -> Void
    ) async throws -> [InMemoryLogHandler.Entry] {
        let handler = InMemoryLogHandler()
        var logger = Logger(label: "test", factory: { _ in handler })
        logger.logLevel = level
        var options = InProcessBroker.Options()
        options.users = ["app": "pass-word-secret"]
        try await InProcessBroker.withBroker(options) { broker in
            var configuration = broker.configuration
            configuration.connectionName = "billing"
            try await AMQPConnection.withConnection(configuration, logger: logger) { try await body(broker, $0) }
        }
        return handler.entries
    }

    @Test("Connections and channels are logged at debug, with the server and the connection's name")
    func debug() async throws {
        let entries = try await Self.withConnection(.debug) { _, connection in
            try await connection.withChannel { _ in }
        }
        #expect(
            entries.map(\.message) == ["tuned", "connected", "channel opened", "channel ended", "connection ended"]
        )
        #expect(entries.allSatisfy { $0.level == .debug })
        for entry in entries {
            #expect(entry.metadata["server.address"] != nil)
            #expect(entry.metadata["messaging.client.id"] == "billing")
        }
        #expect(entries[0].metadata["amqp.heartbeat"] != nil)
        #expect(entries[2].metadata["amqp.channel"] == "1")
    }

    @Test("Events that cannot be thrown are logged at info, and dropped messages at warning")
    func info() async throws {
        let entries = try await Self.withConnection(.info) { broker, connection in
            try await connection.withChannel { channel in
                try await channel.declareQueue("q")
                let message = AMQPMessage("the-body", properties: BasicProperties(messageID: "order-1"))
                try await channel.publish(message, to: .queue("q"))
                try await broker.waitUntil(depthOf: "q", is: 1)
                let deliveries = try await channel.deliveries(from: "q")
                async let processing: Void = deliveries.process(requeue: .never) { _ in throw Broken() }
                try await broker.waitUntil(depthOf: "q", is: 0)
                try await channel.cancel(deliveries)
                try await processing
            }
            // Closing it under the alarm would wait for a broker that does not read.
            let channel = try await connection.openChannel()
            await broker.setAlarm("low on memory")
            try? await channel.publish("m", to: .queue("q"), timeout: .milliseconds(1))
            await eventually("it is blocked") { connection.blockedReason != nil }
            await broker.setAlarm(nil)
            await eventually("it goes on") { connection.blockedReason == nil }
        }
        #expect(
            entries.map(\.message) == [
                "a handler failed; its message is dead-lettered or dropped", "the broker blocks publishers",
                "the broker lets publishers go on",
            ]
        )
        #expect(entries.map(\.level) == [.warning, .info, .info])
        #expect(entries[0].metadata["amqp.message_id"] == "order-1")
        #expect(entries[0].metadata["amqp.queue"] == "q")
        #expect(entries[0].metadata["amqp.routing_key"] == "q")
        #expect(entries[0].metadata["amqp.delivery_tag"] == "1")
        #expect(entries[0].metadata["amqp.channel"] == "1")
    }

    @Test("Every frame is logged at trace, without bodies, properties and passwords")
    func trace() async throws {
        let entries = try await Self.withConnection(.trace) { broker, connection in
            try await connection.withChannel { channel in
                try await channel.declareQueue("q")
                let properties = BasicProperties(headers: ["token": "header-secret"], messageID: "id-secret")
                try await channel.publish(AMQPMessage("body-secret", properties: properties), to: .queue("q"))
                try await broker.waitUntil(depthOf: "q", is: 1)
                try await channel.consume("q", acknowledgement: .automatic) { deliveries in
                    for try await _ in deliveries { break }
                }
            }
            try await connection.updateSecret("token-secret", reason: "it is time")
        }
        let frames = entries.filter { $0.level == .trace }.map { entry in
            (entry.metadata["amqp.direction"]?.description ?? "", entry.message.description)
        }
        #expect(frames.first?.1 == "protocol header 0-9-1")
        for (direction, text) in [
            ("sent", "StartOk"), ("sent", "Publish"), ("sent", "body, 11 octets"),
            ("sent", "header of a body of 11 octets"), ("received", "Deliver"), ("received", "body, 11 octets"),
        ] {
            #expect(frames.contains { $0.0 == direction && $0.1.contains(text) }, "\(direction) \(text)")
        }
        for entry in entries { #expect(!"\(entry)".contains("secret"), "\(entry)") }
    }

    @Test("AMQP_TRACE=1 prints the frames, without bodies and secrets")
    func environment() async throws {
        let child = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
            setenv("AMQP_TRACE", "1", 1)
            _ = try await LoggingTests.withConnection(.critical) { broker, connection in
                try await connection.withChannel { channel in
                    try await channel.declareQueue("q")
                    try await channel.publish("body-secret", to: .queue("q"))
                    try await broker.waitUntil(depthOf: "q", is: 1)
                }
            }
        }
        let output = String(decoding: child?.standardErrorContent ?? [], as: UTF8.self)
        #expect(output.contains("-> protocol header 0-9-1"))
        #expect(output.contains("<- channel 0"))
        #expect(output.contains("-> channel 1 body, 11 octets"))
        #expect(!output.contains("secret"))
    }
}
