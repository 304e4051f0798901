// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// AMQPClientTests: the client over an in-process broker that drops links, refuses and forgets. The dialogue of each step
// of a recovery is in RecoveryDialogueTests, the truth in the fault suite against RabbitMQ.

@Suite("Client", .timeLimit(.minutes(1)))
struct AMQPClientTests {
    static let orders = AMQPTopology { $0.queue("orders", boundTo: "amq.topic", routingKey: "order.*") }

    /// A task that reads a queue to the end of its consumer, and what that ended with.
    static func reading(_ queue: String, with client: AMQPClient) -> Task<AMQPError?, Never> {
        Task {
            do {
                try await client.consume(queue) { deliveries in for try await _ in deliveries {} }
                return nil
            } catch {
                return error as? AMQPError
            }
        }
    }

    /// A configuration that comes back soon.
    static func quick(_ broker: InProcessBroker) -> AMQPClientConfiguration {
        var configuration = broker.configuration
        configuration.recovery.initialDelay = .milliseconds(1)
        configuration.recovery.maximumDelay = .milliseconds(20)
        configuration.operationTimeout = .seconds(10)
        return configuration
    }

    @Test("The topology is declared before anything is published or consumed")
    func topology() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.quick(broker), topology: Self.orders) { client in
                try await client.withPublisher { publisher in
                    try await publisher.publish(
                        "42",
                        to: .exchange("amq.topic", routingKey: "order.placed"),
                        mandatory: true
                    )
                }
                let body = try await client.consume("orders") { deliveries in
                    for try await delivery in deliveries {
                        let settlement = try delivery.ack()
                        #expect(settlement == .settled)
                        return delivery.body.string
                    }
                    return ""
                }
                #expect(body == "42")
                #expect(await broker.connections().count == 2)
            }
            try await broker.waitUntilAllHaveLeft()
            #expect(await broker.queue("orders")?.unacknowledged == 0)
            #expect(await broker.depth(of: "orders") == 0)
        }
    }

    @Test("Nothing is connected that nobody needs")
    func lazy() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.quick(broker)) { client in
                try await client.withPublisher { _ in }
                #expect(await broker.connections().isEmpty)
                try await client.withChannel { _ = try await $0.declareQueue("q") }
                #expect(await broker.connections().count == 1)
            }
        }
    }

    @Test("F1: a consumer continues in the same sequence when the link drops; its deliveries are stale")
    func consumerRecovers() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.quick(broker), topology: Self.orders) { client in
                try await client.withPublisher { publisher in
                    for index in 0..<3 { try await publisher.publish("\(index)", to: .queue("orders")) }
                }
                var events = client.events.makeAsyncIterator()
                var seen: [String] = []
                var settlements: [AMQPSettlement] = []
                try await client.consume("orders", prefetch: 1) { deliveries in
                    for try await delivery in deliveries {
                        seen.append("\(delivery.body.string)\(delivery.redelivered ? "r" : "")")
                        if seen.count == 1 || seen.count == 3 {
                            await broker.dropConnections()
                            #expect(await events.nextLoss(of: .consuming) != nil)
                        }
                        settlements.append(try delivery.ack())
                        if seen.count == 5 { break }
                    }
                }
                // The first was stale and came again; so did the second on the second connection.
                #expect(seen == ["0", "0r", "1", "1r", "2"])
                #expect(settlements == [.stale, .settled, .stale, .settled, .settled])
                #expect(await broker.queue("orders")?.unacknowledged == 0)
                #expect(await broker.depth(of: "orders") == 0)
            }
        }
    }

    @Test(
        "F10: a queue of the topology that was deleted is declared again, and its consumer goes on",
        arguments: [2047, 1] as [UInt16]
    )
    func queueRecreated(channels: UInt16) async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = Self.quick(broker)
            configuration.channelMax = channels
            try await AMQPClient.withClient(configuration, topology: Self.orders) { client in
                try await client.consume("orders") { deliveries in
                    async let deletions: Void = { () async throws in
                        try await client.withPublisher { publisher in
                            let destination = AMQPDestination.exchange("amq.topic", routingKey: "order.placed")
                            for index in 0..<3 {
                                #expect(await broker.deleteQueue("orders"))
                                try await broker.waitUntil(queue: "orders") { $0?.consumers == 1 }
                                try await publisher.publish("\(index)", to: destination, mandatory: true)
                                try await broker.waitUntil(queue: "orders") {
                                    $0?.ready == 0 && $0?.unacknowledged == 0
                                }
                            }
                        }
                    }()
                    var seen: [String] = []
                    for try await delivery in deliveries {
                        seen.append(delivery.body.string)
                        let settlement = try delivery.ack()
                        #expect(settlement == .settled)
                        if seen.count == 3 { break }
                    }
                    #expect(seen == ["0", "1", "2"])
                    try await deletions
                }
            }
        }
    }

    @Test("A temporary queue is made anew, with its bindings, on each connection")
    func temporaryQueue() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.quick(broker)) { client in
                let queue = AMQPConsumerQueue.temporary(boundTo: "amq.topic", routingKeys: ["log.#", "audit"])
                try await client.consume(queue, acknowledgement: .automatic) { deliveries in
                    async let names: Set<String> = { () async throws in
                        var names: Set<String> = []
                        for key in ["log.info", "audit"] {
                            while await broker.bindings(from: "amq.topic").count < 2 { await Task.yield() }
                            try await client.withPublisher {
                                try await $0.publish("m", to: .exchange("amq.topic", routingKey: key), mandatory: true)
                            }
                            let name = try #require(await broker.queues().first?.name)
                            try await broker.waitUntil(queue: name) { $0?.ready == 0 }
                            names.insert(name)
                            await broker.dropConnections()
                        }
                        return names
                    }()
                    var keys: [String] = []
                    for try await delivery in deliveries {
                        keys.append(delivery.routingKey)
                        if keys.count == 2 { break }
                    }
                    #expect(keys == ["log.info", "audit"])
                    let count = try await names.count
                    #expect(count == 2)
                }
            }
        }
    }

    @Test("An unconfirmed publish is unknown when the link drops, and the publisher continues")
    func unknown() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.quick(broker), topology: Self.orders) { client in
                try await client.withPublisher { publisher in
                    await broker.confirm(.hold)
                    let publish = Task { try await publisher.publish("lost", to: .queue("orders")) }
                    let receipt = try await publisher.enqueue("lost too", to: .queue("orders"))
                    try await publisher.send("and this", to: .queue("orders"))
                    try await broker.waitUntil(depthOf: "orders", is: 3)
                    await broker.dropConnections()
                    let error = await #expect(throws: AMQPError.self) { try await publish.value }
                    #expect(error?.code == .unknownOutcome)
                    #expect(error?.isSafeToRetry == false)
                    guard case .unknown = await receipt.outcome() else {
                        Issue.record("the receipt knows more than anybody can")
                        return
                    }
                    await broker.confirm(.release)
                    try await publisher.publish("next", to: .queue("orders"))
                    // The one nobody waited for is told of here, once.
                    let unasked = await #expect(throws: AMQPError.self) { try await publisher.waitForConfirms() }
                    #expect(unasked?.code == .unknownOutcome)
                    try await publisher.waitForConfirms()
                    #expect(publisher.counts.published == 4)
                    #expect(publisher.counts.unknown == 3)
                    #expect(publisher.counts.confirmed == 1)
                }
            }
            #expect(await broker.depth(of: "orders") == 4)
        }
    }

    @Test("With an outbox what was unconfirmed is published again, in order, with the same message id")
    func outbox() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.quick(broker), topology: Self.orders) { client in
                try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                    await broker.confirm(.hold)
                    try await publisher.send("a", to: .queue("orders"))
                    let receipt = try await publisher.enqueue("b", to: .queue("orders"))
                    let publish = Task { try await publisher.publish("c", to: .queue("orders")) }
                    let batch = Task { await publisher.publish(contentsOf: ["d", "e"], to: .queue("orders")) }
                    try await broker.waitUntil(depthOf: "orders", is: 5)
                    #expect(receipt.knownOutcome == nil)
                    await broker.dropConnections()
                    await broker.confirm(.release)
                    try await publish.value
                    #expect(await receipt.outcome() == .confirmed)
                    #expect(receipt.knownOutcome == .confirmed)
                    #expect(await batch.value == [.confirmed, .confirmed])
                    try await publisher.waitForConfirms()
                }
                // At least once: the first copies were in the queue already.
                var bodies: [String: [String?]] = [:]
                var order: [String] = []
                try await client.consume("orders") { deliveries in
                    for try await delivery in deliveries {
                        let body = delivery.body.string
                        bodies[body, default: []].append(try delivery.properties().messageID)
                        order.append(body)
                        try delivery.ack()
                        if order.count == 10 { break }
                    }
                }
                #expect(bodies.keys.sorted() == ["a", "b", "c", "d", "e"])
                for ids in bodies.values {
                    #expect(ids.count == 2)
                    #expect(ids[0] != nil)
                    #expect(Set(ids).count == 1)
                }
                #expect(order.last { ["a", "b"].contains($0) } == "b")
                #expect(order[5...].firstIndex(of: "a")! < order[5...].firstIndex(of: "b")!)
            }
        }
    }

    @Test("A full outbox holds publishers back until confirms come, or their deadline")
    func outboxBound() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.quick(broker), topology: Self.orders) { client in
                try await client.withPublisher(outbox: .octets(2000)) { publisher in
                    await broker.confirm(.hold)
                    let body = AMQPMessage(AMQPBody([UInt8](repeating: 1, count: 600)))
                    try await publisher.send(body, to: .queue("orders"))
                    try await publisher.send(body, to: .queue("orders"))
                    #expect(try publisher.tryEnqueue(body, to: .queue("orders")) == nil)
                    let error = await #expect(throws: AMQPError.self) {
                        try await publisher.send(body, to: .queue("orders"), timeout: .milliseconds(20))
                    }
                    #expect(error?.code == .timedOut)
                    #expect(error?.isSafeToRetry == true)
                    let waiting = Task { try await publisher.send(body, to: .queue("orders")) }
                    await broker.confirm(.release)
                    try await waiting.value
                }
                #expect(await broker.depth(of: "orders") == 3)
            }
        }
    }

    @Test("A stream continues over lost links and loses nothing with an outbox")
    func streamRecovers() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.quick(broker), topology: Self.orders) { client in
                let summary = try await client.withPublisher(maxInFlight: 50, outbox: .octets(1 << 20)) { publisher in
                    let messages = AsyncStream<AMQPMessage> { continuation in
                        for index in 0..<500 { continuation.yield(AMQPMessage("\(index)")) }
                        continuation.finish()
                    }
                    async let dropping: Void = { () async throws in
                        for depth in [100, 200] {
                            try await broker.waitUntil(queue: "orders") { $0?.ready ?? 0 >= depth }
                            await broker.dropConnections()
                        }
                    }()
                    let summary = try await publisher.publish(stream: messages, to: .queue("orders"))
                    try await dropping
                    return summary
                }
                #expect(summary.confirmed == 500)
                #expect(summary.total == 500)
                var bodies: Set<String> = []
                let depth = try #require(await broker.depth(of: "orders"))
                #expect(depth >= 500)
                try await client.consume("orders", acknowledgement: .automatic) { deliveries in
                    var left = depth
                    for try await delivery in deliveries {
                        bodies.insert(delivery.body.string)
                        left -= 1
                        if left == 0 { break }
                    }
                }
                #expect(bodies.count == 500)
            }
        }
    }

    @Test("A publish waits for the connection that is being made again, and is written once")
    func waitsForConnection() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.quick(broker), topology: Self.orders) { client in
                try await client.withPublisher { publisher in
                    try await publisher.publish("1", to: .queue("orders"))
                    var events = client.events.makeAsyncIterator()
                    await broker.refuseConnections(true)
                    await broker.dropConnections()
                    let late = await #expect(throws: AMQPError.self) {
                        while true {
                            try await publisher.publish("x", to: .queue("orders"), timeout: .milliseconds(30))
                        }
                    }
                    #expect(late?.code == .timedOut || late?.code == .unknownOutcome)
                    #expect(await events.nextLoss(of: .publishing) != nil)
                    let waiting = Task { try await publisher.publish("2", to: .queue("orders")) }
                    await broker.refuseConnections(false)
                    try await waiting.value
                }
            }
        }
    }

    @Test("A channel the broker closed because of a publish is made again for the next")
    func publisherChannelRecovers() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.quick(broker), topology: Self.orders) { client in
                try await client.withPublisher { publisher in
                    for _ in 0..<3 {
                        let error = await #expect(throws: AMQPError.self) {
                            try await publisher.publish("x", to: .exchange("nowhere"))
                        }
                        #expect(error?.code == .refused)
                        #expect(error?.scope == .operation)
                        #expect(error?.replyCode == .notFound)
                        try await publisher.publish("1", to: .queue("orders"))
                    }
                }
                #expect(await broker.depth(of: "orders") == 3)
                #expect(await broker.connections().count == 1)
            }
        }
    }

    @Test("Requests are answered over the loss of both connections")
    func rpc() async throws {
        try await InProcessBroker.withBroker { broker in
            let topology = AMQPTopology { $0.queue("double") }
            try await AMQPClient.withClient(Self.quick(broker), topology: topology) { client in
                let server = Task {
                    try await client.serveRPC("double", maxConcurrency: 4) { request in
                        AMQPMessage("\((Int(request.body.string) ?? 0) * 2)")
                    }
                }
                try await client.withRPCClient { rpc in
                    for number in 0..<3 {
                        var answer: AMQPDelivery?
                        while answer == nil {
                            do {
                                answer = try await rpc.call(AMQPMessage("\(number)"), to: .queue("double"))
                            } catch let error as AMQPError where error.scope == .connection {
                                continue
                            }
                        }
                        #expect(answer?.body.string == "\(number * 2)")
                        await broker.dropConnections()
                    }
                }
                server.cancel()
                _ = await server.result
            }
        }
    }

    @Test("Blocked publishers are seen as events")
    func blocked() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(Self.quick(broker), topology: Self.orders) { client in
                var events = client.events.makeAsyncIterator()
                try await client.withPublisher { publisher in
                    try await publisher.publish("1", to: .queue("orders"))
                    await broker.setAlarm("low on memory")
                    let publish = Task { try await publisher.publish("2", to: .queue("orders")) }
                    var seen: [AMQPClientEvent.Kind] = []
                    while seen.last != .unblocked, let event = await events.next(isolation: nil) {
                        seen.append(event.kind)
                        if case .blocked(let reason) = event.kind {
                            #expect(reason == "low on memory")
                            await broker.setAlarm(nil)
                        }
                    }
                    #expect(
                        seen == [.connected(broker.configuration.addresses[0]), .blocked("low on memory"), .unblocked]
                    )
                    try await publish.value
                }
            }
        }
    }
}

extension AMQPClientEvents.AsyncIterator {
    /// Waits until the client has noticed that a connection is gone.
    mutating func nextLoss(of role: AMQPConnectionRole) async -> AMQPError? {
        while let event = await self.next(isolation: nil) {
            if event.connection == role, case .disconnected(let error) = event.kind { return error }
        }
        return nil
    }
}

extension InProcessBroker {
    /// Waits until the broker has seen the end of every connection.
    func waitUntilAllHaveLeft() async throws {
        while await !self.connections().isEmpty {
            try Task.checkCancellation()
            await Task.yield()
        }
    }
}
