// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// PublisherTopologyTests: an exchange of the topology that is deleted while the connection is up is declared again by
// whoever publishes to it, a bounded number of times. What consumers do about a missing queue is in ConsumerRecoveryTests.

@Suite("Publishers and a missing exchange", .timeLimit(.minutes(1)))
struct PublisherTopologyTests {
    static let topology = AMQPTopology {
        $0.exchange("events", type: .topic)
        $0.exchange("other", type: .fanout)
        $0.queue("q", boundTo: "events", routingKey: "#")
        $0.queue("double", boundTo: "events", routingKey: "double")
    }
    static let destination = AMQPDestination.exchange("events", routingKey: "a")

    static func withClient(_ body: (InProcessBroker, AMQPClient) async throws -> Void) async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: Self.topology) {
                try await body(broker, $0)
            }
        }
    }

    static func delete(_ client: AMQPClient, _ exchange: String = "events") async throws {
        try await client.withChannel { try await $0.deleteExchange(exchange) }
    }

    /// The kinds of a client's events so far, once the client has ended.
    static func kinds(_ client: AMQPClient) -> Task<[AMQPClientEvent.Kind], Never> {
        let events = client.events
        return Task {
            var kinds: [AMQPClientEvent.Kind] = []
            for await event in events { kinds.append(event.kind) }
            return kinds
        }
    }

    static func repairs(_ kinds: [AMQPClientEvent.Kind]) -> Int {
        kinds.count { if case .topologyDeclaredAgain = $0 { true } else { false } }
    }

    @Test(
        "A publish to an exchange that was deleted declares the topology again and succeeds",
        arguments: [false, true]
    )
    func publish(hasOutbox: Bool) async throws {
        try await Self.withClient { broker, client in
            let kinds = Self.kinds(client)
            try await client.withPublisher(outbox: hasOutbox ? .octets(1 << 20) : .none) { publisher in
                try await publisher.publish("0", to: Self.destination, mandatory: true)
                for number in 1...3 {
                    try await Self.delete(client)
                    try await publisher.publish(AMQPMessage("\(number)"), to: Self.destination, mandatory: true)
                }
            }
            #expect(try await OutboxTests.bodies(client, 4) == ["0", "1", "2", "3"])
            await client.shutdown()
            #expect(Self.repairs(await kinds.value) == 3)
            #expect(await !kinds.value.contains { if case .publishRefused = $0 { true } else { false } })
        }
    }

    @Test("With an outbox every way to publish gets through to an exchange that was deleted")
    func outbox() async throws {
        try await Self.withClient { broker, client in
            try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                try await Self.delete(client)
                try await publisher.send("0", to: Self.destination)
                try await publisher.send("1", to: Self.destination)
                try await publisher.waitForConfirms()
                try await Self.delete(client)
                let receipt = try await publisher.enqueue("2", to: Self.destination)
                #expect(await receipt.outcome() == .confirmed)
                try await Self.delete(client)
                let batch = await publisher.publish(contentsOf: ["3", "4"], to: Self.destination)
                #expect(batch == [.confirmed, .confirmed])
                try await Self.delete(client)
                let stream = AsyncStream { continuation in
                    for number in 5..<10 { continuation.yield(AMQPMessage("\(number)")) }
                    continuation.finish()
                }
                let summary = try await publisher.publish(stream: stream, to: Self.destination)
                #expect(summary.confirmed == 5)
            }
            #expect(try await OutboxTests.bodies(client, 10) == (0..<10).map { "\($0)" })
        }
    }

    @Test("Without an outbox a batch gets through, and what is not kept is refused once; the next publish gets through")
    func withoutOutbox() async throws {
        try await Self.withClient { broker, client in
            try await client.withPublisher { publisher in
                try await Self.delete(client)
                let batch = await publisher.publish(contentsOf: ["0", "1", "2"], to: Self.destination, mandatory: true)
                #expect(batch == [.confirmed, .confirmed, .confirmed])

                try await Self.delete(client)
                try await publisher.send("lost", to: Self.destination)
                let error = await OutboxTests.failure { try await publisher.waitForConfirms() }
                #expect(error?.code == .refused)
                try await publisher.send("3", to: Self.destination, mandatory: true)
                try await publisher.waitForConfirms()

                try await Self.delete(client)
                let receipt = try await publisher.enqueue("lost", to: Self.destination)
                guard case .refused = await receipt.outcome() else {
                    Issue.record("\(await receipt.outcome())")
                    return
                }
                let next = try await publisher.enqueue("4", to: Self.destination, mandatory: true)
                #expect(await next.outcome() == .confirmed)
            }
            #expect(try await OutboxTests.bodies(client, 5) == (0..<5).map { "\($0)" })
        }
    }

    @Test("A request to an exchange that was deleted is answered")
    func rpc() async throws {
        try await Self.withClient { broker, client in
            let server = Task {
                try await client.serveRPC("double") { AMQPMessage("\((Int($0.body.string) ?? 0) * 2)") }
            }
            try await client.withRPCClient { rpc in
                for number in 1...3 {
                    try await Self.delete(client)
                    let reply = try await rpc.call(
                        AMQPMessage("\(number)"),
                        to: .exchange("events", routingKey: "double")
                    )
                    #expect(reply.body.string == "\(number * 2)")
                }
            }
            server.cancel()
            _ = await server.result
        }
    }

    @Test("Ten publishers that find the exchange missing at once all get through, with few declarations")
    func many() async throws {
        try await Self.withClient { broker, client in
            let kinds = Self.kinds(client)
            let publishers = try (0..<10).map {
                try client.openPublisher(outbox: $0 % 2 == 0 ? .octets(1 << 20) : .none)
            }
            for publisher in publishers { try await publisher.publish("0", to: Self.destination) }
            try await Self.delete(client)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for publisher in publishers {
                    group.addTask {
                        while true {
                            do {
                                return try await publisher.publish("1", to: Self.destination, mandatory: true)
                            } catch let error as AMQPError where error.code == .returned {
                                // The exchange was there again, and its binding was not yet.
                                await Task.yield()
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(await broker.depth(of: "q") == 20)
            for publisher in publishers { try await publisher.close() }
            await client.shutdown()
            #expect((1...10).contains(Self.repairs(await kinds.value)))
        }
    }

    @Test(
        "An exchange that stays missing is given up after three attempts, with the broker's words",
        arguments: [false, true]
    )
    func bounded(hasOutbox: Bool) async throws {
        try await Self.withClient { broker, client in
            let kinds = Self.kinds(client)
            let error = await OutboxTests.failure {
                try await client.withPublisher(outbox: hasOutbox ? .octets(1 << 20) : .none) { publisher in
                    try await publisher.publish("0", to: Self.destination)
                    for _ in 0..<10 {
                        await broker.onNext(Basic.Publish.id, .refuse(.notFound, "no exchange 'events' in vhost '/'"))
                    }
                    try await publisher.publish("1", to: Self.destination)
                }
            }
            #expect(error?.code == .refused)
            #expect(error?.replyCode == .notFound)
            #expect(error?.replyText.contains("'events'") == true)
            await broker.cancelMethodOrders()
            await client.shutdown()
            #expect((3...4).contains(Self.repairs(await kinds.value)))
        }
    }

    @Test("An exchange that cannot be declared is an event, and its publish is refused", arguments: [false, true])
    func undeclarable(hasOutbox: Bool) async throws {
        try await Self.withClient { broker, client in
            let kinds = Self.kinds(client)
            let error = await OutboxTests.failure {
                try await client.withPublisher(outbox: hasOutbox ? .octets(1 << 20) : .none) { publisher in
                    try await publisher.publish("0", to: Self.destination)
                    try await Self.delete(client)
                    // As another user's exchange of this name and another type.
                    try await client.withChannel { try await $0.declareExchange("events", type: .fanout) }
                    try await publisher.publish("1", to: Self.destination)
                    try await Self.delete(client)
                    for _ in 0..<20 {
                        await broker.onNext(Exchange.Declare.id, .refuse(.accessRefused, "no permission"))
                    }
                    try await publisher.publish("2", to: Self.destination)
                }
            }
            await broker.cancelMethodOrders()
            #expect(error?.code == .refused)
            #expect(error?.replyCode == .notFound)
            await client.shutdown()
            #expect(await kinds.value.contains { if case .topologyIncomplete = $0 { true } else { false } })
        }
    }

    @Test("An exchange that is not in the topology is not declared, and its publish is refused at once")
    func notOfTopology() async throws {
        try await Self.withClient { broker, client in
            let kinds = Self.kinds(client)
            let error = await OutboxTests.failure {
                try await client.withPublisher { try await $0.publish("1", to: .exchange("event")) }
            }
            #expect(error?.code == .refused)
            await client.shutdown()
            #expect(Self.repairs(await kinds.value) == 0)
        }
    }
}
