// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Synchronization
import Testing

// ReportedFaultTests: faults that users of other clients have reported about consumers that recover, tried here. Each test
// names the report's repository and number.

@Suite("Reported faults of consumers", .timeLimit(.minutes(1)))
struct ReportedFaultTests {
    static let topology = AMQPTopology { $0.queue("q", boundTo: "amq.topic", routingKey: "#") }

    static func publish(_ body: String, to broker: InProcessBroker) async throws {
        let connection = try await broker.connect()
        try await connection.withPublisher { publisher in
            let destination = AMQPDestination.exchange("amq.topic", routingKey: "a")
            try await publisher.publish(AMQPMessage(body), to: destination, mandatory: true)
        }
        try await connection.close()
    }

    /// Orders something for a recovery, drops the links, and expects the next message.
    private static func recovers(
        _ configure: (inout AMQPClientConfiguration) -> Void = { _ in },
        from fault: (InProcessBroker) async throws -> Void
    ) async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configure(&configuration)
            try await AMQPClient.withClient(configuration, topology: Self.topology) { client in
                // The first connection is not part of the test, and takes its time when all tests start at once.
                try await client.consume("q", prefetch: 10, timeout: .seconds(50)) { deliveries in
                    var iterator = deliveries.makeAsyncIterator()
                    for number in 0..<2 {
                        try await fault(broker)
                        async let publishing: Void = { () async throws in
                            // The reader makes the next consumer.
                            try await broker.waitUntil(queue: "q") { $0?.consumers == 1 }
                            try await Self.publish("\(number)", to: broker)
                        }()
                        var delivery = try #require(try await iterator.next())
                        // A late answer may have started a consumer that was given up: its delivery comes again.
                        while delivery.body.string != "\(number)" { delivery = try #require(try await iterator.next()) }
                        try delivery.ack()
                        try await publishing
                    }
                }
            }
            try await broker.waitUntil(queue: "q") { $0?.unacknowledged == 0 }
            #expect(await broker.depth(of: "q") == 0)
        }
    }

    @Test("rabbitmq-dotnet-client 1993: the reply to basic.consume comes later than its timeout during a recovery")
    func lateConsumeOk() async throws {
        try await Self.recovers({ $0.operationTimeout = .seconds(6) }) { broker in
            await broker.onNext(Basic.Consume.id, .delay(.seconds(7)))
            await broker.dropConnections()
        }
    }

    @Test(
        "rabbitmq-dotnet-client 658: the link drops again at each step of a recovery",
        arguments: [
            Basic.Qos.id, Basic.Consume.id, Channel.Open.id, Queue.Declare.id, Queue.Bind.id,
        ]
    )
    func lostDuringRecovery(_ method: MethodID) async throws {
        try await Self.recovers { broker in
            await broker.onNext(method, .drop(.before), .drop(.during), .drop(.after))
            await broker.dropConnections()
        }
    }

    @Test("rabbitmq-amqp-java-client 83: a stream or queue that is not ready closes the connection (541)")
    func notReady() async throws {
        try await Self.recovers { broker in
            let refusal = InProcessBroker.MethodOrder.refuse(.internalError, "noproc")
            await broker.onNext(Basic.Consume.id, refusal, refusal, refusal)
            await broker.dropConnections()
        }
    }

    @Test("A consumer on which the broker fails each time (541) is told, and does not end the connection for ever")
    func neverReady() async throws {
        let error = await #expect(throws: AMQPError.self) {
            try await Self.recovers { broker in
                let refusal = InProcessBroker.MethodOrder.refuse(.internalError, "noproc")
                for _ in 0..<20 { await broker.onNext(Basic.Consume.id, refusal) }
                await broker.dropConnections()
            }
        }
        #expect(error?.replyCode == .internalError)
    }

    @Test("aio-pika 577 and metricq 25: an exclusive queue is still locked when the client is back")
    func locked() async throws {
        try await Self.recovers { broker in
            let refusal = InProcessBroker.MethodOrder.refuse(
                .resourceLocked,
                "cannot obtain exclusive access to locked queue"
            )
            await broker.onNext(Basic.Consume.id, refusal, refusal)
            await broker.dropConnections()
        }
    }

    @Test("spring-amqp 818, 1934 and 1963: queues go away while the connection stays, again and again")
    func queuesGoAway() async throws {
        try await Self.recovers { broker in
            #expect(await broker.deleteQueue("q"))
        }
    }

    @Test("amqp091-go 18 and lapin 222: a reader that waits learns that the link was lost, without recovery")
    func waitingReader() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            _ = try await channel.declareQueue("q")
            let deliveries = try await channel.deliveries(from: "q")
            let reading = Task { for try await _ in deliveries {} }
            await broker.dropConnections()
            let error = await #expect(throws: AMQPError.self) { try await reading.value }
            #expect(error?.code == .connectionClosed)
        }
    }

    @Test("streadway/amqp 48: channels are opened and queues declared in the loop over deliveries")
    func callsInTheLoop() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                try await connection.withChannel { channel in
                    _ = try await channel.declareQueue("q")
                    for number in 0..<20 { try await channel.publish(AMQPMessage("\(number)"), to: .queue("q")) }
                    try await channel.consume("q") { deliveries in
                        var count = 0
                        for try await delivery in deliveries {
                            try await connection.withChannel { inner in
                                _ = try await inner.declareQueue("q-\(count)")
                                try await inner.publish("copy", to: .queue("q-\(count)"))
                            }
                            _ = try await channel.inspectQueue("q")
                            try delivery.ack()
                            count += 1
                            if count == 20 { break }
                        }
                        #expect(count == 20)
                    }
                }
            }
        }
    }

    @Test("amqp091-go 225: a consumer that was given up for its late reply is not left running")
    func givenUp() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = broker.configuration
            configuration.operationTimeout = .seconds(10)
            try await AMQPConnection.withConnection(configuration) { connection in
                try await connection.withChannel { channel in
                    _ = try await channel.declareQueue("q")
                    try await channel.publish("m", to: .queue("q"))
                    await broker.onNext(Basic.Consume.id, .delay(.milliseconds(300)))
                    let error = await #expect(throws: AMQPError.self) {
                        _ = try await channel.deliveries(from: "q", timeout: .milliseconds(50))
                    }
                    #expect(error?.code == .timedOut)
                    // The broker reads nothing before it has started the consumer.
                    _ = try await channel.inspectQueue("q")
                    try await broker.waitUntil(queue: "q") { $0?.consumers == 0 && $0?.ready == 1 }
                    let message = try #require(try await channel.get("q"))
                    try message.ack()
                }
            }
        }
    }
}
