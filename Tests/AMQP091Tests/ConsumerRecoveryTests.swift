// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Testing

// ConsumerRecoveryTests: what a client's consumer does about a topology of which a part is gone, about the mistakes of
// its peer, and how it ends. The steps of a recovery are in RecoveryDialogueTests, streams in the integration tests.

@Suite("Consumers of a client", .timeLimit(.minutes(1)))
struct ConsumerRecoveryTests {
    static let events = AMQPTopology {
        $0.exchange("source", type: .topic)
        $0.exchange("events", type: .topic)
        $0.bind(exchange: "events", to: "source", routingKey: "#")
        $0.queue("first", boundTo: "events", routingKey: "first.#")
        $0.queue("second", boundTo: "events", routingKey: "#")
    }

    @Test("A queue comes back with its bindings and their exchanges, and so do the bindings of other queues")
    func wholeTopology() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: Self.events) { client in
                try await client.consume("first") { deliveries in
                    async let deletions: Void = { () async throws in
                        try await client.withChannel { channel in
                            try await channel.deleteExchange("events")
                            try await channel.deleteExchange("source")
                            try await channel.deleteQueue("first")
                        }
                        try await broker.waitUntil(queue: "first") { $0?.consumers == 1 }
                        try await client.withPublisher { publisher in
                            let destination = AMQPDestination.exchange("source", routingKey: "first.a")
                            try await publisher.publish("1", to: destination, mandatory: true)
                        }
                    }()
                    for try await delivery in deliveries {
                        #expect(delivery.body.string == "1")
                        try delivery.ack()
                        break
                    }
                    try await deletions
                    #expect(await broker.depth(of: "second") == 1)
                }
            }
        }
    }

    @Test("A queue that is deleted while its consumer is busy is declared, and takes messages", arguments: [1, 3])
    func whileBusy(_ times: Int) async throws {
        // A message that is routed has reached this queue.
        let topology = AMQPTopology {
            $0.exchange("source", type: .fanout)
            $0.queue("first", boundTo: "source")
        }
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: topology) { client in
                try await client.consume("first") { deliveries in
                    var iterator = deliveries.makeAsyncIterator()
                    for number in 1...times {
                        try await client.withChannel { channel in
                            try await channel.deleteExchange("source")
                            try await channel.deleteQueue("first")
                        }
                        // Nobody asks for the next delivery meanwhile.
                        try await broker.waitUntil(queue: "first") { $0 != nil }
                        try await client.withPublisher { publisher in
                            var isRouted = false
                            while !isRouted {
                                do {
                                    let message = AMQPMessage("\(number)")
                                    try await publisher.publish(message, to: .exchange("source"), mandatory: true)
                                    isRouted = true
                                } catch let error as AMQPError where error.code == .returned {}
                            }
                        }
                        let delivery = try await iterator.next()
                        #expect(delivery?.body.string == "\(number)")
                        try delivery?.ack()
                    }
                }
            }
        }
    }

    @Test("A queue of the topology that is missing when a consumer starts is declared", arguments: [1, 3])
    func missingAtTheStart(_ times: Int) async throws {
        let topology = AMQPTopology {
            $0.exchange("events", type: .fanout)
            $0.queue("feed", as: .classic(exclusive: true, autoDelete: true), boundTo: "events")
        }
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: topology) { client in
                for number in 0..<times {
                    try await client.consume("feed") { deliveries in
                        try await client.withPublisher { publisher in
                            try await publisher.publish("\(number)", to: .exchange("events"), mandatory: true)
                        }
                        for try await delivery in deliveries {
                            #expect(delivery.body.string == "\(number)")
                            try delivery.ack()
                            break
                        }
                    }
                    // It goes with its last consumer.
                    #expect(await broker.queue("feed") == nil)
                }
            }
        }
    }

    static let passing: [InProcessBroker.MethodOrder] = [
        .refuse(.accessRefused, "queue 'first' in vhost '/' in exclusive use"), .refuse(.resourceLocked, "locked"),
        .drop(.before), .drop(.during), .drop(.after), .refuse(.connectionForced, "shutdown"),
    ]

    @Test(
        "A consumer that is refused for a while when it starts, or loses its link, starts in its time",
        arguments: passing
    )
    func refusedAtTheStart(_ order: InProcessBroker.MethodOrder) async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: Self.events) { client in
                for _ in 0..<3 { await broker.onNext(Basic.Consume.id, order) }
                try await client.consume("first", timeout: .seconds(50)) { deliveries in
                    try await client.withPublisher { try await $0.publish("1", to: .queue("first")) }
                    for try await delivery in deliveries {
                        try delivery.ack()
                        break
                    }
                }
            }
        }
    }

    @Test("A consumer that is refused for longer than its timeout gets the broker's words")
    func refusedForLong() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: Self.events) { client in
                try await client.consume("first", timeout: .seconds(50)) { _ in }
                let text = "queue 'first' in vhost '/' in exclusive use"
                for _ in 0..<100 { await broker.onNext(Basic.Consume.id, .refuse(.accessRefused, text)) }
                let start = ContinuousClock.now
                let error = await #expect(throws: AMQPError.self) {
                    try await client.consume("first", timeout: .seconds(2)) { _ in }
                }
                #expect(error?.replyCode == .accessRefused)
                #expect(error?.replyText.contains("in exclusive use") == true)
                #expect(ContinuousClock.now - start < .seconds(30))
                await broker.cancelMethodOrders()
            }
        }
    }

    @Test("A queue that is not in the topology stays missing: its consumer says so at once")
    func missingForGood() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: Self.events) { client in
                let error = await #expect(throws: AMQPError.self) { try await client.consume("other") { _ in } }
                #expect(error?.replyCode == .notFound)
            }
        }
    }

    @Test("A consumer whose queue is made again needs no second channel")
    func noFreeChannel() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.channelMax = 1
            try await AMQPClient.withClient(configuration, topology: Self.events) { client in
                try await client.consume("first") { deliveries in
                    var iterator = deliveries.makeAsyncIterator()
                    for number in 0..<3 {
                        async let deletion: Void = { () async throws in
                            #expect(await broker.deleteQueue("first"))
                            try await broker.waitUntil(queue: "first") { $0?.consumers == 1 }
                            try await client.withPublisher { publisher in
                                let destination = AMQPDestination.exchange("events", routingKey: "first.a")
                                try await publisher.publish("\(number)", to: destination, mandatory: true)
                            }
                        }()
                        let delivery = try #require(try await iterator.next())
                        #expect(delivery.body.string == "\(number)")
                        try delivery.ack()
                        try await deletion
                    }
                }
            }
        }
    }

    @Test("A loop that was left during a loss continues where it stopped, in the middle of what came in one read")
    func loopAfterALoss() async throws {
        try await InProcessBroker.withBroker { broker in
            let port = try #require(broker.configuration.addresses.first?.port)
            try await FaultProxy.withProxy(to: port) { proxy in
                var configuration = AMQPClientTests.quick(broker)
                configuration.addresses = [.host("127.0.0.1", port: proxy.port)]
                try await AMQPClient.withClient(configuration, topology: Self.events) { client in
                    try await client.consume("first", prefetch: 100) { deliveries in
                        let publishing = try await broker.connect()
                        try await publishing.withPublisher { publisher in
                            for number in 0..<30 { try await publisher.send("\(number)", to: .queue("first")) }
                        }
                        try await publishing.close()
                        var numbers: [Int] = []
                        // All deliveries that were not settled before the loss are delivered again.
                        for limit in [5, 17, 29, 30] {
                            for try await delivery in deliveries {
                                let number = Int(delivery.body.string) ?? -1
                                if numbers.isEmpty, limit == 5 { proxy.resetAll() }
                                guard try delivery.ack() == .settled else { continue }
                                numbers.append(number)
                                if number >= limit - 1 { break }
                            }
                        }
                        var first: [Int] = []
                        for number in numbers where !first.contains(number) { first.append(number) }
                        #expect(first == Array(0..<30))
                    }
                }
            }
        }
    }

    @Test("A damaged octet ends the connection, and every consumer of the client continues on the next one")
    func violation() async throws {
        try await InProcessBroker.withBroker { broker in
            let port = try #require(broker.configuration.addresses.first?.port)
            try await FaultProxy.withProxy(to: port) { proxy in
                var configuration = AMQPClientTests.quick(broker)
                configuration.addresses = [.host("127.0.0.1", port: proxy.port)]
                try await AMQPClient.withClient(configuration, topology: Self.events) { client in
                    var events = client.events.makeAsyncIterator()
                    try await client.consume("first") { deliveries in
                        var iterator = deliveries.makeAsyncIterator()
                        for number in 0..<3 {
                            // The frame's type: no frame begins with it.
                            proxy.set(.corrupt(at: 0, mask: 0x70))
                            let publishing = try await broker.connect()
                            try await publishing.withPublisher {
                                try await $0.publish("\(number)", to: .queue("first"))
                            }
                            try await publishing.close()
                            let loss = await events.nextLoss(of: .consuming)
                            #expect(loss?.code == .protocolViolation)
                            proxy.set(.none)
                            let delivery = try #require(try await iterator.next())
                            #expect(delivery.body.string == "\(number)")
                            try delivery.ack()
                        }
                    }
                }
            }
        }
    }

    @Test("A shutdown awaited in a handler does not wait for that handler", arguments: [1, 4])
    func shutdownInHandler(_ maxConcurrency: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            // Longer than the test may take.
            configuration.recovery.shutdownTimeout = .seconds(600)
            let client = AMQPClient(configuration, topology: Self.events)
            let running = Task { try await client.run() }
            try await client.withPublisher { try await $0.publish("end", to: .queue("first")) }
            try await client.consume("first") { deliveries in
                try await deliveries.process(maxConcurrency: maxConcurrency) { _ in await client.shutdown() }
            }
            try await running.value
            #expect(await broker.depth(of: "first") == 0)
            try await broker.waitUntilAllHaveLeft()
        }
    }

    @Test("A shutdown awaited in the scope of a publisher does not wait for that scope")
    func shutdownInScope() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.recovery.shutdownTimeout = .seconds(600)
            let client = AMQPClient(configuration, topology: Self.events)
            let running = Task { try await client.run() }
            try await client.withPublisher { publisher in
                try await publisher.publish("end", to: .queue("first"))
                await client.shutdown()
            }
            try await running.value
        }
    }

    @Test("The next single active consumer continues where an orderly shutdown ended", arguments: [1, 3])
    func singleActiveConsumer(_ maxConcurrency: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            let setUp = try await broker.connect()
            try await setUp.withChannel { channel in
                _ = try await channel.declareQueue("line", as: .quorum(singleActiveConsumer: true))
            }
            try await setUp.withPublisher { publisher in
                for number in 0..<100 { try await publisher.send("\(number)", to: .queue("line")) }
            }
            let numbers = try await Self.consumeInTurns(broker.configuration, "line", maxConcurrency, count: 100)
            #expect(Set(numbers) == Set(0..<100))
            if maxConcurrency == 1 { #expect(numbers == Array(0..<100)) }
            try await setUp.close()
        }
    }

    /// Clients one after the other, two at a time, each shut down in order after some messages.
    static func consumeInTurns(
        _ configuration: AMQPClientConfiguration,
        _ queue: String,
        _ maxConcurrency: Int,
        count: Int
    ) async throws -> [Int] {
        let box = Seen()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for turn in 0..<2 {
                group.addTask {
                    while box.count < count {
                        let client = AMQPClient(configuration)
                        async let running: Void = client.run()
                        let limit = box.count + 7 + turn
                        try await client.consume(queue, prefetch: 20) { deliveries in
                            async let watch: Void = {
                                while box.count < min(limit, count) { try? await Task.sleep(for: .milliseconds(1)) }
                                client.beginShutdown()
                            }()
                            try await deliveries.process(maxConcurrency: maxConcurrency) { delivery in
                                box.add(Int(delivery.body.string) ?? -1)
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
        return box.numbers
    }

    private final class Seen: Sendable {
        private let state = Locked<[Int]>([])
        var numbers: [Int] { self.state.withLock { $0 } }
        var count: Int { self.state.withLock { Set($0).count } }
        func add(_ number: Int) { self.state.withLock { $0.append(number) } }
    }
}
