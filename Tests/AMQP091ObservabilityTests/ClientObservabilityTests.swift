// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import InMemoryLogging
import Logging
import Testing

#if MetricsSupport
    import Metrics
    import MetricsTestKit
#endif
#if TracingSupport
    import InMemoryTracing
    import Tracing
#endif

// ClientObservabilityTests: what a client and its outboxes tell beyond their connections: an outage at `notice`, what is
// given up or dropped at `warning`, the books of an outbox as metrics, one span for a batch.

@Suite("What a client tells", .timeLimit(.minutes(1)))
struct ClientObservabilityTests {
    struct Broken: Error {}

    static let topology = AMQPTopology { $0.queue("q") }

    static func configuration(_ broker: InProcessBroker) -> AMQPClientConfiguration {
        var configuration = broker.configuration
        configuration.recovery.initialDelay = .milliseconds(1)
        configuration.recovery.maximumDelay = .milliseconds(20)
        configuration.recovery.shutdownTimeout = .milliseconds(100)
        return configuration
    }

    /// A logger at a level, and where its entries go.
    static func logger(_ level: Logger.Level) -> (Logger, InMemoryLogHandler) {
        let handler = InMemoryLogHandler()
        var logger = Logger(label: "test", factory: { _ in handler })
        logger.logLevel = level
        return (logger, handler)
    }

    // MARK: logs

    @Test("The loss of a connection and its return are told at notice, each with its role")
    func outage() async throws {
        let (logger, handler) = Self.logger(.notice)
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.configuration(broker), topology: Self.topology, logger: logger) {
                client in
                try await client.withPublisher { publisher in
                    try await publisher.publish("1", to: .queue("q"))
                    let isRecovered = Task { [events = client.events] in
                        _ = await events.first { if case .recovered = $0.kind { true } else { false } }
                    }
                    await broker.dropConnections()
                    await isRecovered.value
                    try await publisher.publish("2", to: .queue("q"))
                }
            }
        }
        let entries = handler.entries
        #expect(!entries.isEmpty)
        #expect(entries.allSatisfy { $0.level == .notice }, "\(entries)")
        #expect(entries.first?.message.description.hasPrefix("publishing connection: lost") == true, "\(entries)")
        #expect(entries.last?.message.description.hasPrefix("publishing connection: recovered") == true, "\(entries)")
        #expect(entries.allSatisfy { $0.metadata["amqp.connection"] == "publishing" })
    }

    @Test("What a shutdown gives up is told once, at warning, with its count")
    func givenUp() async throws {
        let (logger, handler) = Self.logger(.warning)
        try await InProcessBroker.withBroker { broker in
            let client = AMQPClient(Self.configuration(broker), topology: Self.topology, logger: logger)
            let running = Task { try await client.run() }
            let publisher = try client.openPublisher(outbox: .octets(1 << 20))
            try await publisher.publish("first", to: .queue("q"))
            await broker.confirm(.hold)
            for number in 0..<3 { try await publisher.send(AMQPMessage("\(number)"), to: .queue("q")) }
            await broker.refuseConnections(true)
            await broker.dropConnections()
            await client.shutdown()
            _ = await running.result
        }
        let entries = handler.entries.filter { $0.message.description.contains("gave up") }
        #expect(entries.count == 1, "\(handler.entries)")
        #expect(entries.first?.level == .warning)
        #expect(entries.first?.message.description.contains("3 unconfirmed messages") == true, "\(entries)")
    }

    @Test("A message that an outbox is refused is told at warning, with the broker's words and the line that sent it")
    func refused() async throws {
        let (logger, handler) = Self.logger(.warning)
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.configuration(broker), topology: Self.topology, logger: logger) {
                client in
                _ = try? await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                    try await publisher.send("bad", to: .exchange("missing"))
                    try await publisher.send("good", to: .queue("q"))
                }
            }
        }
        #expect(handler.entries.map(\.level) == [.warning], "\(handler.entries)")
        let text = handler.entries.first?.message.description ?? ""
        #expect(text.contains("404"))
        #expect(text.contains("missing"))
        #expect(text.contains("ClientObservabilityTests.swift"))
    }

    @Test(
        "A message dropped because its handler failed is told at warning with its message-id, by consumers and servers"
    )
    func dropped() async throws {
        let (logger, handler) = Self.logger(.warning)
        try await InProcessBroker.withBroker { broker in
            let topology = AMQPTopology {
                $0.queue("q")
                $0.queue("requests")
            }
            try await AMQPClient.withClient(Self.configuration(broker), topology: topology, logger: logger) { client in
                try await client.withPublisher { publisher in
                    for queue in ["q", "requests"] {
                        let message = AMQPMessage("body", properties: BasicProperties(messageID: "id-\(queue)"))
                        try await publisher.publish(message, to: .queue(queue))
                    }
                }
                let consumer = Task {
                    try await client.consume("q") { try await $0.process(requeue: .never) { _ in throw Broken() } }
                }
                let server = Task { try await client.serveRPC("requests") { _ in throw Broken() } }
                await eventually("both are told") { handler.entries.count == 2 }
                for task in [consumer, server] {
                    task.cancel()
                    _ = await task.result
                }
                for queue in ["q", "requests"] { #expect(await broker.queue(queue)?.ready == 0) }
            }
        }
        let entries = handler.entries.sorted { "\($0.metadata)" < "\($1.metadata)" }
        #expect(entries.map(\.level) == [.warning, .warning])
        #expect(Set(entries.map { "\($0.metadata["amqp.message_id"] ?? "none")" }) == ["id-q", "id-requests"])
        #expect(!"\(entries)".contains("body"))
    }

    // MARK: metrics

    #if MetricsSupport
        @Test("The books of an outbox are metrics: what is held, refused and given up")
        func books() async throws {
            let metrics = TestMetrics()
            func held() -> Double { MetricsTests.value(metrics, "rabbitmq.outbox_held") }
            try await InProcessBroker.withBroker { broker in
                try await withMetricsFactory(metrics) {
                    let client = AMQPClient(Self.configuration(broker), topology: Self.topology)
                    let running = Task { try await client.run() }
                    let publisher = try client.openPublisher(outbox: .octets(1 << 20))
                    let other = try client.openPublisher(outbox: .octets(1 << 20))
                    for publisher in [publisher, other] { try await publisher.publish("first", to: .queue("q")) }
                    try await publisher.send("bad", to: .exchange("missing"))
                    await MetricsTests.expect(metrics, "rabbitmq.outbox_refused", 1)
                    await broker.confirm(.hold)
                    for _ in 0..<3 { try await publisher.send("m", to: .queue("q")) }
                    try await other.send("m", to: .queue("q"))
                    await eventually("four are held, not \(held())") { held() == 4 }
                    await broker.refuseConnections(true)
                    await broker.dropConnections()
                    await client.shutdown()
                    _ = await running.result
                }
            }
            #expect(held() == 0)
            #expect(MetricsTests.total(metrics, "rabbitmq.outbox_given_up") == 4)
            #expect(MetricsTests.total(metrics, "rabbitmq.outbox_refused") == 1)
        }

        @Test("An outbox that ends in order leaves nothing held, and nothing refused or given up")
        func booksInOrder() async throws {
            let metrics = TestMetrics()
            try await InProcessBroker.withBroker { broker in
                try await withMetricsFactory(metrics) {
                    try await AMQPClient.withClient(Self.configuration(broker), topology: Self.topology) { client in
                        try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                            for _ in 0..<10 { try await publisher.send("m", to: .queue("q")) }
                        }
                    }
                }
            }
            #expect(MetricsTests.value(metrics, "rabbitmq.outbox_held") == 0)
            #expect(MetricsTests.total(metrics, "rabbitmq.outbox_refused") == 0)
            #expect(MetricsTests.total(metrics, "rabbitmq.outbox_given_up") == 0)
            #expect(metrics.counters(label: "rabbitmq.outbox_refused").count == 1)
        }
    #endif

    // MARK: spans

    #if TracingSupport
        @Test(
            "A batch of a client's publisher has one span, with the number of its messages",
            arguments: [false, true]
        )
        func batch(hasOutbox: Bool) async throws {
            let tracer = InMemoryTracer()
            try await InProcessBroker.withBroker { broker in
                try await withTracer(tracer) {
                    try await AMQPClient.withClient(Self.configuration(broker), topology: Self.topology) { client in
                        try await client.withPublisher(outbox: hasOutbox ? .octets(1 << 20) : .none) { publisher in
                            let outcomes = await publisher.publish(contentsOf: ["1", "2", "3"], to: .queue("q"))
                            #expect(outcomes == [.confirmed, .confirmed, .confirmed])
                        }
                    }
                }
            }
            let spans = TracingTests.spans(tracer, "publish")
            #expect(spans.count == 1)
            #expect(spans.first?.attributes.get("messaging.batch.message_count") == .int64(3))
        }

        @Test("A batch of a client's publisher that fails says so in its span", arguments: [false, true])
        func failedBatch(hasOutbox: Bool) async throws {
            let tracer = InMemoryTracer()
            try await InProcessBroker.withBroker { broker in
                try await withTracer(tracer) {
                    try await AMQPClient.withClient(Self.configuration(broker), topology: Self.topology) { client in
                        let publisher = try client.openPublisher(outbox: hasOutbox ? .octets(1 << 20) : .none)
                        try await publisher.publish("0", to: .queue("q"))
                        await broker.confirm(.nackNext(1))
                        let outcomes = await publisher.publish(contentsOf: ["1", "2"], to: .queue("q"))
                        #expect(outcomes == [.nacked, .confirmed])
                    }
                }
            }
            let spans = TracingTests.spans(tracer, "publish")
            #expect(spans.count == 2)
            #expect(spans.last?.attributes.get("error.type") == "nacked")
        }
    #endif
}
