// SPDX-License-Identifier: Apache-2.0
#if TracingSupport
    import AMQP091
    import AMQP091Testing
    import InMemoryTracing
    import Testing
    import Tracing

    // TracingTests: spans by their names, kinds and attributes, and the trace's way from a publisher to a consumer.

    @Suite("Tracing", .timeLimit(.minutes(1)))
    struct TracingTests {
        struct Broken: Error {}

        static func withConnection(
            _ change: (inout AMQPClientConfiguration) -> Void = { _ in },
            _ body: (InProcessBroker, AMQPConnection, InMemoryTracer) async throws -> Void
        ) async throws {
            let tracer = InMemoryTracer()
            try await InProcessBroker.withBroker { broker in
                var configuration = broker.configuration
                configuration.connectionName = "billing"
                change(&configuration)
                try await withTracer(tracer) {
                    try await AMQPConnection.withConnection(configuration) { connection in
                        try await connection.withChannel { channel in
                            try await channel.declareExchange("orders", type: .topic)
                            try await channel.declareQueue("billing")
                            try await channel.bindQueue("billing", to: "orders", routingKey: "order.*")
                        }
                        try await body(broker, connection, tracer)
                    }
                }
            }
        }

        static let orders = AMQPDestination.exchange("orders", routingKey: "order.placed")

        /// Processes so many deliveries and ends.
        static func process(
            _ connection: AMQPConnection,
            _ count: Int,
            _ handler: @escaping @Sendable (AMQPDelivery) async throws -> Void
        ) async throws {
            try await connection.withChannel { channel in
                try await channel.consume("billing") { deliveries in
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        let (ended, continuation) = AsyncStream.makeStream(of: Void.self)
                        group.addTask {
                            try await deliveries.process(requeue: .never) { delivery in
                                defer { continuation.yield() }
                                try await handler(delivery)
                            }
                        }
                        var iterator = ended.makeAsyncIterator()
                        for _ in 0..<count { await iterator.next() }
                        try await channel.cancel(deliveries)
                        try await group.waitForAll()
                    }
                }
            }
        }

        static func spans(_ tracer: InMemoryTracer, _ prefix: String) -> [FinishedInMemorySpan] {
            tracer.finishedSpans.filter { $0.operationName == prefix || $0.operationName.hasPrefix(prefix + " ") }
        }

        @Test("A publish is a producer's span with the attributes of the conventions")
        func publish() async throws {
            try await Self.withConnection { broker, connection, tracer in
                try await connection.withPublisher { publisher in
                    let properties = BasicProperties(correlationID: "c-1", messageID: "m-1")
                    try await publisher.publish(AMQPMessage("42", properties: properties), to: Self.orders)
                }
                let span = try #require(Self.spans(tracer, "publish").first)
                #expect(Self.spans(tracer, "publish").count == 1)
                #expect(span.operationName == "publish orders:order.placed")
                #expect(span.kind == .producer)
                #expect(span.attributes.get("messaging.system") == "rabbitmq")
                #expect(span.attributes.get("messaging.operation.name") == "publish")
                #expect(span.attributes.get("messaging.operation.type") == "send")
                #expect(span.attributes.get("messaging.destination.name") == "orders:order.placed")
                #expect(span.attributes.get("messaging.rabbitmq.destination.routing_key") == "order.placed")
                #expect(span.attributes.get("messaging.message.id") == "m-1")
                #expect(span.attributes.get("messaging.message.conversation_id") == "c-1")
                #expect(span.attributes.get("messaging.client.id") == "billing")
                #expect(span.attributes.get("server.address") == "127.0.0.1")
                #expect(span.attributes.get("network.peer.address") == "127.0.0.1")
                let port = try #require(broker.port)
                #expect(span.attributes.get("server.port") == .int64(Int64(port)))
                #expect(span.attributes.get("network.peer.port") == .int64(Int64(port)))
                #expect(span.attributes.get("messaging.message.body.size") == nil)
            }
        }

        @Test("Every way to publish has its span, and a batch has one for all")
        func waysToPublish() async throws {
            try await Self.withConnection { _, connection, tracer in
                try await connection.withPublisher { publisher in
                    try await publisher.send("1", to: Self.orders)
                    _ = try await publisher.enqueue("2", to: Self.orders)
                    _ = try publisher.tryEnqueue("3", to: Self.orders)
                    _ = await publisher.publish(contentsOf: ["4", "5"], to: Self.orders)
                    let (stream, continuation) = AsyncStream.makeStream(of: AMQPMessage.self)
                    continuation.yield("6")
                    continuation.finish()
                    _ = try await publisher.publish(stream: stream, to: Self.orders)
                }
                let counts = Self.spans(tracer, "publish").map { $0.attributes.get("messaging.batch.message_count") }
                #expect(counts == [nil, nil, nil, .int64(2), nil])
                // All six carry the trace.
                var traced: [String?] = []
                try await connection.withChannel { channel in
                    while let delivery = try await channel.get("billing", acknowledgement: .automatic) {
                        traced.append(try delivery.properties().headers?["in-memory-span-id"]?.stringValue)
                    }
                }
                #expect(
                    traced
                        == Self.spans(tracer, "publish").flatMap { span in
                            [String](
                                repeating: span.spanID,
                                count: span.attributes.get("messaging.batch.message_count") == nil ? 1 : 2
                            )
                        }
                )
                #expect(tracer.activeSpans.isEmpty)
            }
        }

        @Test("A handler is a consumer's span that links to the publisher's, and its settlement is a child of it")
        func processLinks() async throws {
            try await Self.withConnection { _, connection, tracer in
                try await connection.withPublisher { try await $0.publish("42", to: Self.orders) }
                try await Self.process(connection, 1) { _ in
                    InstrumentationSystem.tracer.startSpan("inside").end()
                }
                let publish = try #require(Self.spans(tracer, "publish").first)
                let process = try #require(Self.spans(tracer, "process").first)
                #expect(process.operationName == "process orders:order.placed:billing")
                #expect(process.kind == .consumer)
                #expect(process.links.compactMap { $0.context.inMemorySpanContext?.spanID } == [publish.spanID])
                #expect(process.traceID != publish.traceID)
                #expect(process.attributes.get("messaging.operation.type") == "process")
                #expect(process.attributes.get("messaging.rabbitmq.message.delivery_tag") == .int64(1))
                #expect(process.attributes.get("network.peer.address") == nil)
                #expect(process.errors.isEmpty)
                let inside = try #require(Self.spans(tracer, "inside").first)
                #expect(inside.parentSpanID == process.spanID)
                let ack = try #require(Self.spans(tracer, "ack").first)
                #expect(ack.parentSpanID == process.spanID)
                #expect(ack.kind == .client)
                #expect(ack.attributes.get("messaging.operation.type") == "settle")
                #expect(ack.attributes.get("messaging.rabbitmq.message.delivery_tag") == .int64(1))
            }
        }

        @Test("With correlation by parent, publisher and consumer are one trace")
        func processChild() async throws {
            try await Self.withConnection({ $0.tracing.correlation = .parent }) { _, connection, tracer in
                try await connection.withPublisher { try await $0.publish("42", to: Self.orders) }
                try await Self.process(connection, 1) { _ in }
                let publish = try #require(Self.spans(tracer, "publish").first)
                let process = try #require(Self.spans(tracer, "process").first)
                #expect(process.traceID == publish.traceID)
                #expect(process.parentSpanID == publish.spanID)
                #expect(process.links.isEmpty)
            }
        }

        @Test("A failure sets the error type of its span, from a fixed set")
        func failures() async throws {
            try await Self.withConnection { broker, connection, tracer in
                let publisher = try await connection.openPublisher()
                await broker.confirm(.nackNext(1))
                try? await publisher.publish("1", to: Self.orders)
                try? await publisher.publish("2", to: .queue("nowhere"), mandatory: true)
                try await publisher.publish("3", to: Self.orders)
                try await Self.process(connection, 1) { _ in throw Broken() }
                await broker.closeConnections()
                try? await publisher.publish("4", to: Self.orders)
                let kinds = tracer.finishedSpans.compactMap { span in
                    span.attributes.get("error.type").map {
                        "\(span.attributes.get("messaging.operation.name")!) \($0)"
                    }
                }
                #expect(kinds.count == 4)
                let errors = tracer.finishedSpans.filter { !$0.errors.isEmpty }
                #expect(
                    errors.map { $0.attributes.get("error.type") } == [
                        "nacked", "returned", "Broken", "connection-forced",
                    ]
                )
                #expect(errors.allSatisfy { $0.status?.code == .error })
                // The failed handler's delivery was rejected, in a separate span.
                #expect(Self.spans(tracer, "reject").count == 1)
            }
        }

        @Test("A get, its link and each settlement are spans; a broker-named queue is not in a span's name")
        func getAndSettle() async throws {
            try await Self.withConnection({ $0.tracing.recordsBodySize = true }) { _, connection, tracer in
                try await connection.withChannel { channel in
                    let queue = try await channel.declareQueue("", exclusive: true)
                    try await channel.publish("1", to: .queue(queue.name))
                    var delivery: AMQPDelivery?
                    while delivery == nil { delivery = try await channel.get(queue.name) }
                    try delivery?.reject(requeue: false)
                    let publish = try #require(Self.spans(tracer, "publish").first)
                    #expect(publish.operationName == "publish")
                    #expect(publish.attributes.get("messaging.destination.anonymous") == true)
                    #expect(publish.attributes.get("messaging.destination.temporary") == true)
                    #expect(publish.attributes.get("messaging.message.body.size") == .int64(1))
                    let receive = try #require(Self.spans(tracer, "receive").last)
                    #expect(receive.kind == .client)
                    #expect(receive.links.compactMap { $0.context.inMemorySpanContext?.spanID } == [publish.spanID])
                    #expect(receive.attributes.get("messaging.destination.name") == .string(queue.name))
                    #expect(Self.spans(tracer, "reject").first?.attributes.get("messaging.operation.name") == "reject")
                }
            }
        }

        @Test("A loop has the same span")
        func ownLoop() async throws {
            try await Self.withConnection { _, connection, tracer in
                try await connection.withPublisher { try await $0.publish("42", to: Self.orders) }
                try await connection.withChannel { channel in
                    try await channel.consume("billing") { deliveries in
                        for try await delivery in deliveries {
                            try await delivery.withSpan { try delivery.ack() }
                            break
                        }
                    }
                }
                let process = try #require(Self.spans(tracer, "process").first)
                #expect(process.links.count == 1)
                #expect(Self.spans(tracer, "ack").first?.parentSpanID == process.spanID)
            }
        }

        @Test("Attribute names and a template for span names can be chosen")
        func names() async throws {
            try await Self.withConnection({
                $0.tracing.attributeNames.system = "my.system"
                $0.tracing.destinationTemplate = "orders:order.{event}"
            }) { _, connection, tracer in
                try await connection.withPublisher { try await $0.publish("42", to: Self.orders) }
                let span = try #require(tracer.finishedSpans.first)
                #expect(span.operationName == "publish orders:order.{event}")
                #expect(span.attributes.get("messaging.destination.template") == "orders:order.{event}")
                #expect(span.attributes.get("my.system") == "rabbitmq")
                #expect(span.attributes.get("messaging.system") == nil)
            }
        }

        @Test("Without tracing or without a tracer there are no spans and no headers")
        func off() async throws {
            try await Self.withConnection({ $0.tracing.isEnabled = false }) { _, connection, tracer in
                try await connection.withPublisher { try await $0.publish("42", to: Self.orders) }
                try await Self.process(connection, 1) {
                    let properties = try $0.properties(); #expect(properties.headers == nil)
                }
                #expect(tracer.finishedSpans.isEmpty)
            }
        }

        @Test("The spans of a publisher and a consumer in two processes join into one trace")
        func twoProcesses() async throws {
            try await InProcessBroker.withBroker { broker in
                try await AMQPConnection.withConnection(broker.uri) { connection in
                    try await connection.withChannel { try await $0.declareQueue("billing") }
                }
                let uri = broker.uri
                let child = await #expect(
                    processExitsWith: .success,
                    observing: [\.standardOutputContent]
                ) { [uri = uri as String] in
                    let tracer = InMemoryTracer()
                    try await withTracer(tracer) {
                        try await AMQPConnection.withConnection(uri) { connection in
                            try await connection.withPublisher { try await $0.publish("42", to: .queue("billing")) }
                        }
                    }
                    let span = try #require(tracer.finishedSpans.first)
                    print("SPAN \(span.traceID) \(span.spanID)")
                }
                let output = String(decoding: child?.standardOutputContent ?? [], as: UTF8.self)
                let line = try #require(output.split(separator: "\n").first { $0.hasPrefix("SPAN ") })
                let ids = line.split(separator: " ").dropFirst().map(String.init)
                let tracer = InMemoryTracer()
                var configuration = broker.configuration
                configuration.tracing.correlation = .parent
                try await withTracer(tracer) {
                    try await AMQPConnection.withConnection(configuration) { connection in
                        try await Self.process(connection, 1) { _ in }
                    }
                }
                let process = try #require(Self.spans(tracer, "process").first)
                #expect([process.traceID, process.parentSpanID] == ids)
            }
        }
    }
#endif
