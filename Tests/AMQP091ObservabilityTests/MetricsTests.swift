// SPDX-License-Identifier: Apache-2.0
#if MetricsSupport
    import AMQP091
    import AMQP091Testing
    import Metrics
    import MetricsTestKit
    import Testing

    // MetricsTests: every instrument by its exact name, against the in-process broker.

    @Suite("Metrics", .timeLimit(.minutes(1)))
    struct MetricsTests {
        /// Runs `body` with a connection that reports to separate metrics.
        static func withConnection(
            _ body: (InProcessBroker, AMQPConnection, TestMetrics) async throws -> Void
        ) async throws {
            let metrics = TestMetrics()
            try await InProcessBroker.withBroker { broker in
                try await withMetricsFactory(metrics) {
                    try await AMQPConnection.withConnection(broker.configuration) { connection in
                        try await body(broker, connection, metrics)
                    }
                }
            }
        }

        static func total(_ metrics: TestMetrics, _ label: String) -> Int64 { metrics.counterTotal(label: label) }

        static func value(_ metrics: TestMetrics, _ label: String) -> Double {
            metrics.meters(label: label).reduce(0) { $0 + ($1.lastValue ?? 0) }
        }

        static func expect(_ metrics: TestMetrics, _ label: String, _ value: Int64) async {
            await eventually("\(label) is \(value), not \(Self.total(metrics, label))") {
                Self.total(metrics, label) == value
            }
        }

        @Test("Publishes are counted by outcome")
        func publishes() async throws {
            try await Self.withConnection { broker, connection, metrics in
                try await connection.withChannel { try await $0.declareQueue("q") }
                try await connection.withPublisher { publisher in
                    for _ in 0..<10 { try await publisher.send("m", to: .queue("q")) }
                    try await publisher.waitForConfirms()
                    await broker.confirm(.nackNext(1))
                    await #expect(throws: AMQPError.self) { try await publisher.publish("m", to: .queue("q")) }
                    await #expect(throws: AMQPError.self) {
                        try await publisher.publish("m", to: .queue("nowhere"), mandatory: true)
                    }
                    let long = String(repeating: "x", count: 256)
                    await #expect(throws: AMQPError.self) { try await publisher.publish("m", to: .queue(long)) }
                }
                await Self.expect(metrics, "rabbitmq.published", 12)
                await Self.expect(metrics, "messaging.client.sent.messages", 12)
                await Self.expect(metrics, "rabbitmq.acknowledged_published", 11)
                await Self.expect(metrics, "rabbitmq.not_acknowledged_published", 1)
                await Self.expect(metrics, "rabbitmq.unrouted_published", 1)
                await Self.expect(metrics, "rabbitmq.failed_to_publish", 1)
                await eventually("nothing is unconfirmed") { Self.value(metrics, "rabbitmq.unconfirmed") == 0 }
                #expect(Self.total(metrics, "rabbitmq.bytes_sent") > 0)
                #expect(Self.total(metrics, "rabbitmq.bytes_received") > 0)
            }
        }

        @Test("Unconfirmed publishes are a gauge, from which an ended channel is removed")
        func unconfirmed() async throws {
            try await Self.withConnection { broker, connection, metrics in
                await broker.confirm(.hold)
                let publisher = try await connection.openPublisher()
                for _ in 0..<3 { try await publisher.send("m", to: .queue("q")) }
                await eventually("three are unconfirmed") { Self.value(metrics, "rabbitmq.unconfirmed") == 3 }
                await eventually("one channel") { Self.value(metrics, "rabbitmq.channels") == 1 }
                let other = try await connection.openChannel()
                await #expect(throws: AMQPError.self) { try await other.inspectQueue("nowhere") }
                await eventually("the other has come and gone") { Self.value(metrics, "rabbitmq.channels") == 1 }
                await broker.confirm(.release)
                try await publisher.close()
                await eventually("no channel") { Self.value(metrics, "rabbitmq.channels") == 0 }
                await eventually("none is unconfirmed") { Self.value(metrics, "rabbitmq.unconfirmed") == 0 }
            }
        }

        @Test("Deliveries and their settlements are counted")
        func deliveries() async throws {
            try await Self.withConnection { broker, connection, metrics in
                try await connection.withChannel { channel in
                    try await channel.declareQueue("q")
                    for index in 0..<8 { try await channel.publish("\(index)", to: .queue("q")) }
                    try await channel.consume("q") { deliveries in
                        var iterator = deliveries.makeAsyncIterator()
                        var taken: [AMQPDelivery] = []
                        while taken.count < 8, let next = try await iterator.next(isolation: nil) { taken.append(next) }
                        try taken[0].ack()
                        try taken[3].ack(multiple: true)
                        try taken[4].reject(requeue: false)
                        try taken[6].nack(requeue: false, multiple: true)
                        try taken[7].nack(requeue: true)
                        #expect(throws: AMQPError.self) { try taken[7].ack() }
                    }
                }
                await Self.expect(metrics, "rabbitmq.acknowledged", 4)
                await Self.expect(metrics, "rabbitmq.rejected", 3)
                await eventually("at least one went back") { Self.total(metrics, "rabbitmq.requeued") >= 1 }
                await eventually("eight came") { Self.total(metrics, "rabbitmq.consumed") >= 8 }
                let consumed = "messaging.client.consumed.messages"
                await eventually("and as messages too") { Self.total(metrics, consumed) >= 8 }
            }
        }

        @Test("A get counts as a received message, and is timed")
        func gets() async throws {
            try await Self.withConnection { broker, connection, metrics in
                try await connection.withChannel { channel in
                    try await channel.declareQueue("q")
                    try await channel.publish("m", to: .queue("q"))
                    try await broker.waitUntil(depthOf: "q", is: 1)
                    _ = try await channel.get("q", acknowledgement: .automatic)
                }
                let counters = metrics.counters(label: "messaging.client.consumed.messages")
                let received = counters.filter { counter in
                    counter.dimensions.contains { $0.0 == "messaging.operation.name" && $0.1 == "receive" }
                }
                await eventually("one was received") { received.reduce(0) { $0 + $1.totalValue } == 1 }
                let timers = metrics.timers(label: "messaging.client.operation.duration")
                #expect(timers.map(\.values.count) == [1])
                let dimensions = Dictionary(uniqueKeysWithValues: timers[0].dimensions)
                #expect(dimensions["messaging.operation.name"] == "receive")
                #expect(dimensions["messaging.operation.type"] == "receive")
                #expect(dimensions["error.type"] == nil)
            }
        }

        @Test("Confirmed publishes and handlers are timed, failures with their kind")
        func durations() async throws {
            struct Broken: Error {}
            try await Self.withConnection { broker, connection, metrics in
                try await connection.withChannel { try await $0.declareQueue("q") }
                try await connection.withPublisher { publisher in
                    try await publisher.publish("good", to: .queue("q"))
                    try await publisher.publish("bad", to: .queue("q"))
                    await broker.confirm(.nackNext(1))
                    await #expect(throws: AMQPError.self) { try await publisher.publish("m", to: .queue("q")) }
                }
                try await connection.withChannel { channel in
                    let deliveries = try await channel.deliveries(from: "q")
                    async let processing: Void = deliveries.process(requeue: .never) { delivery in
                        if delivery.body.string == "bad" { throw Broken() }
                    }
                    let timers = { metrics.timers(label: "messaging.process.duration") }
                    await eventually("two handlers were timed") { timers().reduce(0) { $0 + $1.values.count } == 2 }
                    try await channel.cancel(deliveries)
                    try await processing
                    let kinds = timers().map { timer in timer.dimensions.first { $0.0 == "error.type" }?.1 ?? "-" }
                    #expect(kinds.sorted() == ["-", "Broken"])
                }
                let publishes = metrics.timers(label: "messaging.client.operation.duration")
                let counts = publishes.map { timer in
                    (timer.dimensions.first { $0.0 == "error.type" }?.1 ?? "-", timer.values.count)
                }
                #expect(Dictionary(uniqueKeysWithValues: counts) == ["-": 2, "nacked": 1])
            }
        }

        @Test("Instruments name the system, the operation and the server")
        func dimensions() async throws {
            try await Self.withConnection { broker, connection, metrics in
                let sent = try #require(metrics.counters(label: "messaging.client.sent.messages").first)
                let dimensions = Dictionary(uniqueKeysWithValues: sent.dimensions)
                #expect(dimensions["messaging.system"] == "rabbitmq")
                #expect(dimensions["messaging.operation.name"] == "publish")
                #expect(dimensions["server.address"] == "127.0.0.1")
                #expect(dimensions["server.port"] == broker.port.map { "\($0)" })
            }
        }

        @Test("Two connections to one broker share their instruments, which outlive both")
        func sharing() async throws {
            let metrics = TestMetrics()
            try await InProcessBroker.withBroker { broker in
                try await withMetricsFactory(metrics) {
                    try await AMQPConnection.withConnection(broker.configuration) { _ in
                        try await AMQPConnection.withConnection(broker.configuration) { _ in
                            await eventually("two connections") { Self.value(metrics, "rabbitmq.connections") == 2 }
                        }
                        await eventually("one connection") { Self.value(metrics, "rabbitmq.connections") == 1 }
                    }
                    await eventually("no connection") { Self.value(metrics, "rabbitmq.connections") == 0 }
                }
                #expect(metrics.meters(label: "rabbitmq.connections").count == 1)
            }
        }

        @Test("A blocked connection is a gauge, and a lost one leaves none")
        func blocked() async throws {
            try await Self.withConnection { broker, connection, metrics in
                let publisher = try await connection.openPublisher()
                try await publisher.publish("m", to: .queue("q"))
                await broker.setAlarm("low on memory")
                try? await publisher.send("m", to: .queue("q"), timeout: .milliseconds(1))
                await eventually("it is blocked") { Self.value(metrics, "rabbitmq.blocked") == 1 }
                await broker.dropConnections()
                await eventually("all gauges are 0") {
                    ["rabbitmq.blocked", "rabbitmq.connections", "rabbitmq.channels", "rabbitmq.unconfirmed"]
                        .allSatisfy { Self.value(metrics, $0) == 0 }
                }
            }
        }

        @Test("A client counts its reconnects")
        func recoveries() async throws {
            let metrics = TestMetrics()
            try await InProcessBroker.withBroker { broker in
                try await withMetricsFactory(metrics) {
                    try await AMQPClient.withClient(broker.configuration) { client in
                        try await client.withPublisher { publisher in
                            try await publisher.publish("m", to: .queue("q"))
                            await broker.dropConnections()
                            // The first may have been written before the loss was noticed.
                            while (try? await publisher.publish("m", to: .queue("q"))) == nil {}
                        }
                    }
                }
            }
            #expect(Self.total(metrics, "rabbitmq.recoveries") >= 1)
            await eventually("no connection") { Self.value(metrics, "rabbitmq.connections") == 0 }
        }

        @Test("Without a metrics system no instrument is created")
        func absent() async throws {
            let metrics = TestMetrics()
            try await InProcessBroker.withBroker { broker in
                try await AMQPConnection.withConnection(broker.configuration) { connection in
                    // A factory that comes later is not asked.
                    try await withMetricsFactory(metrics) {
                        try await connection.withPublisher { try await $0.publish("m", to: .queue("q")) }
                    }
                }
            }
            #expect(metrics.counters.isEmpty && metrics.meters.isEmpty && metrics.timers.isEmpty)
        }
    }
#endif
