// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// AMQPClientEndingTests: how a client and its consumers end: every ending of a consumer with its reason, refusals that
// end the attempts, failover before that, and the order of a shutdown.

@Suite("Client, endings", .timeLimit(.minutes(1)))
struct AMQPClientEndingTests {
    // MARK: consumers

    /// A permanent ending of a consumer, and the error its reader gets.
    enum Ending: String, CaseIterable, Sendable {
        case scopeLeft, taskCancelled, queueMissingFromTheStart, queueDeletedForGood, channelClosed
        case clientShutDown, clientCancelled
    }

    @Test("Each ending of a consumer gives its reason, and none hangs", arguments: Ending.allCases)
    func consumerEndings(_ ending: Ending) async throws {
        try await InProcessBroker.withBroker { broker in
            let setUp = try await broker.connect()
            if ending != .queueMissingFromTheStart {
                try await setUp.withChannel { _ = try await $0.declareQueue("q") }
            }
            try await setUp.close()
            let client = AMQPClient(AMQPClientTests.quick(broker))
            let running = Task { try await client.run() }
            let reading = Task { () -> AMQPError? in
                do {
                    try await client.consume("q") { deliveries in
                        if ending == .scopeLeft { return }
                        for try await _ in deliveries {}
                    }
                    return nil
                } catch {
                    return error as? AMQPError
                }
            }
            if ending != .scopeLeft, ending != .queueMissingFromTheStart {
                try await broker.waitUntil(queue: "q") { $0?.consumers == 1 }
            }
            switch ending {
            case .scopeLeft, .queueMissingFromTheStart: break
            case .taskCancelled: reading.cancel()
            case .queueDeletedForGood: #expect(await broker.deleteQueue("q"))
            case .channelClosed: await broker.closeChannels(.preconditionFailed, "a mistake")
            case .clientShutDown: await client.shutdown()
            case .clientCancelled: running.cancel()
            }
            let error = await reading.value
            switch ending {
            case .scopeLeft, .clientShutDown: #expect(error == nil)
            case .taskCancelled: #expect(error?.code == .cancelled)
            case .queueMissingFromTheStart, .queueDeletedForGood:
                #expect(error?.code == .channelClosed)
                #expect(error?.replyCode == .notFound)
            case .channelClosed:
                #expect(error?.code == .channelClosed)
                #expect(error?.replyCode == .preconditionFailed)
            case .clientCancelled: #expect(error?.code == .connectionClosed)
            }
            await client.shutdown()
            try await running.value
            try await broker.waitUntilAllHaveLeft()
        }
    }

    /// A login that is refused for a while, to a client that was let in before.
    enum Refusal: String, CaseIterable, Sendable {
        case password, virtualHostMissing, connectionLimit, virtualHostDown

        func refuse(_ broker: InProcessBroker) async {
            let open = Connection.Open.id
            switch self {
            case .password: await broker.setPassword(nil, of: "guest")
            case .virtualHostMissing: await broker.onNext(open, .refuse(.notAllowed, "vhost / not found"))
            case .connectionLimit:
                await broker.onNext(
                    open,
                    .refuse(
                        .notAllowed,
                        "access to vhost '/' refused for user 'guest': connection limit (1) is reached"
                    )
                )
            case .virtualHostDown:
                await broker.onNext(
                    open,
                    .refuse(.notAllowed, "access to vhost '/' refused for user 'guest': vhost '/' is down")
                )
            }
        }
    }

    @Test("A client that was let in before keeps trying when its login is refused", arguments: Refusal.allCases)
    func refusedLater(_ refusal: Refusal) async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: AMQPClientTests.orders) { client in
                let events = client.events
                try await client.consume("orders") { deliveries in
                    await refusal.refuse(broker)
                    await broker.dropConnections()
                    async let sending: Void = { () async throws in
                        var refused = false
                        for await event in events {
                            guard case .connectFailed(let error) = event.kind else { continue }
                            refused = refused || error.replyCode != nil
                            break
                        }
                        #expect(refused)
                        await broker.setPassword("guest", of: "guest")
                        try await client.withPublisher { try await $0.publish("again", to: .queue("orders")) }
                    }()
                    for try await delivery in deliveries {
                        #expect(delivery.body.string == "again")
                        try delivery.ack()
                        break
                    }
                    try await sending
                }
            }
        }
    }

    @Test(
        "A first login that is refused for a while is tried again",
        arguments: [Refusal.connectionLimit, .virtualHostDown]
    )
    func refusedFirst(_ refusal: Refusal) async throws {
        try await InProcessBroker.withBroker { broker in
            await refusal.refuse(broker)
            try await AMQPClient.withClient(AMQPClientTests.quick(broker)) { client in
                try await client.withChannel { _ in }
            }
        }
    }

    @Test("A topology that the broker will never declare ends run(), one that fails inside the broker is tried again")
    func topologyNever() async throws {
        try await InProcessBroker.withBroker { broker in
            func run(_ orders: InProcessBroker.MethodOrder...) async throws {
                for order in orders { await broker.onNext(Queue.Declare.id, order) }
                let topology = AMQPTopology { $0.queue("q") }
                try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: topology) { client in
                    try await client.withChannel { _ in }
                }
            }
            let failure = InProcessBroker.MethodOrder.refuse(.internalError, "failed inside")
            try await run(failure, failure)
            let never = await OutboxTests.failure {
                try await run(.refuse(.internalError, "Feature `transient_nonexcl_queues` is deprecated."))
            }
            #expect(never?.replyCode == .internalError || never?.code == .topologyRefused, "\(never as Any)")
            await broker.cancelMethodOrders()
            let stubborn = await OutboxTests.failure { try await run(failure, failure, failure, failure, failure) }
            #expect(stubborn?.replyCode == .internalError, "\(stubborn as Any)")
        }
    }

    @Test("A delivery that is not settled in time ends the channel of its consumer, which continues with another")
    func acknowledgementTimeout() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: AMQPClientTests.orders) { client in
                try await client.consume("orders") { deliveries in
                    try await client.withPublisher { try await $0.publish("late", to: .queue("orders")) }
                    var iterator = deliveries.makeAsyncIterator()
                    let late = try #require(try await iterator.next(isolation: nil))
                    await broker.closeChannels(
                        .preconditionFailed,
                        "delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms."
                    )
                    let again = try #require(try await iterator.next(isolation: nil))
                    #expect(again.body.string == "late")
                    #expect(again.redelivered)
                    #expect(try late.ack() == .stale)
                    #expect(try again.ack() == .settled)
                }
            }
        }
    }

    // MARK: the attempts

    @Test("Refused credentials and an unknown virtual host end the attempts and every wait", arguments: [true, false])
    func refused(isPassword: Bool) async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            if isPassword {
                configuration.authentication = .plain(username: "guest", password: "wrong")
            } else {
                configuration.virtualHost = "nowhere"
            }
            let client = AMQPClient(configuration)
            var events = client.events.makeAsyncIterator()
            let running = Task { try await client.run() }
            let publish = await #expect(throws: AMQPError.self) {
                try await client.withPublisher { try await $0.publish("x", to: .queue("q")) }
            }
            let code: AMQPError.Code = isPassword ? .authenticationFailed : .virtualHostRefused
            #expect(publish?.code == code)
            let run = await #expect(throws: AMQPError.self) { try await running.value }
            #expect(run?.code == code)
            let late = await #expect(throws: AMQPError.self) { try await client.withChannel { _ in } }
            #expect(late?.isSafeToRetry == true)
            var kinds: [AMQPClientEvent.Kind] = []
            while let event = await events.next(isolation: nil) { kinds.append(event.kind) }
            #expect(kinds.contains { if case .ended(let error?) = $0 { error.code == code } else { false } })
            #expect(!"\(kinds)".contains("wrong"))
        }
    }

    @Test("A topology the broker refuses ends the client at its first connection, with the argument in the text")
    func topologyRefused() async throws {
        try await InProcessBroker.withBroker { broker in
            let setUp = try await broker.connect()
            try await setUp.withChannel { _ = try await $0.declareQueue("orders", arguments: ["x-max-length": 10]) }
            try await setUp.close()
            let error = await #expect(throws: AMQPError.self) {
                try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: AMQPClientTests.orders) {
                    try await $0.withChannel { _ in }
                }
            }
            #expect(error?.code == .topologyRefused)
            #expect(error?.replyText.contains("'orders'") == true, "\(error?.replyText ?? "")")
        }
    }

    @Test("After a reconnect an inequivalent topology is an event, and the rest continues")
    func topologyIncomplete() async throws {
        try await InProcessBroker.withBroker { broker in
            let topology = AMQPTopology {
                $0.queue("orders")
                $0.queue("other")
            }
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: topology) { client in
                var events = client.events.makeAsyncIterator()
                try await client.withChannel { channel in
                    try await channel.deleteQueue("other")
                    _ = try await channel.declareQueue("other", durable: true, arguments: ["x-max-length": 10])
                }
                await broker.dropConnections()
                var problems: [AMQPTopologyReport.Entity] = []
                while problems.isEmpty, let event = await events.next(isolation: nil) {
                    if case .topologyIncomplete(let report) = event.kind { problems = report.problems.map(\.entity) }
                }
                #expect(problems == [.queue("other")])
                try await client.withChannel { _ = try await $0.inspectQueue("orders") }
            }
        }
    }

    @Test("An exclusive queue that is still locked is tried again until it is free")
    func locked() async throws {
        try await InProcessBroker.withBroker { broker in
            let owner = try await broker.connect()
            let channel = try await owner.openChannel()
            _ = try await channel.declareQueue("mine", exclusive: true)
            let topology = AMQPTopology { $0.queue("mine", as: .classic(durable: false, exclusive: true)) }
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: topology) { client in
                async let consuming: Void = client.consume("mine") { _ in }
                while await broker.connections().count < 2 { await Task.yield() }
                try await owner.close()
                try await consuming
                // Publishers do not declare what belongs to the consuming connection.
                try await client.withPublisher { try await $0.publish("x", to: .queue("mine")) }
            }
        }
    }

    @Test("Addresses that refuse, or take the connection and say nothing, are passed over for one that answers")
    func failover() async throws {
        try await InProcessBroker.withBroker { frozen in
            await frozen.pause()
            try await InProcessBroker.withBroker { live in
                var configuration = AMQPClientTests.quick(live)
                configuration.addresses =
                    [.host("127.0.0.1", port: 1)] + frozen.configuration.addresses + configuration.addresses
                configuration.recovery.shufflesAddresses = false
                configuration.recovery.attemptDelay = .milliseconds(20)
                try await AMQPClient.withClient(configuration) { client in
                    var events = client.events.makeAsyncIterator()
                    try await client.withChannel { _ in }
                    #expect(await events.next(isolation: nil)?.kind == .connected(live.configuration.addresses[0]))
                    // The next attempt begins with the one that is known to be good.
                    for _ in 0..<3 {
                        await live.dropConnections()
                        var recovered: AMQPClientEvent.Kind?
                        while recovered == nil, let event = await events.next(isolation: nil) {
                            if case .recovered = event.kind { recovered = event.kind }
                        }
                        #expect(recovered == .recovered(live.configuration.addresses[0]))
                    }
                }
            }
            await frozen.resume()
        }
    }

    @Test("The losers of a race of addresses leave no connection behind")
    func race() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.addresses = Array(repeating: configuration.addresses[0], count: 4)
            configuration.recovery.attemptDelay = .nanoseconds(1)
            try await AMQPClient.withClient(configuration) { client in
                try await client.withChannel { _ in }
                while await broker.connections().count != 1 { await Task.yield() }
            }
            try await broker.waitUntilAllHaveLeft()
        }
    }

    @Test("Three hundred forced reconnects leave nothing behind, and work all the same")
    func manyReconnects() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: AMQPClientTests.orders) { client in
                try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                    try await client.consume("orders", prefetch: 10) { deliveries in
                        let drops = 300
                        async let publishing: Void = { () async throws in
                            for index in 0..<drops {
                                try await publisher.publish(AMQPMessage("\(index)"), to: .queue("orders"))
                                await broker.dropConnections()
                            }
                            try await publisher.publish("end", to: .queue("orders"))
                        }()
                        var seen: Set<String> = []
                        for try await delivery in deliveries {
                            seen.insert(delivery.body.string)
                            try delivery.ack()
                            if seen.count == drops + 1 { break }
                        }
                        try await publishing
                    }
                    #expect(await broker.connections().count <= 2)
                }
            }
        }
    }

    // MARK: shutdown

    @Test("A shutdown finishes what is being processed, puts the rest back and confirms what was published")
    func shutdownDrains() async throws {
        try await InProcessBroker.withBroker { broker in
            let client = AMQPClient(AMQPClientTests.quick(broker), topology: AMQPClientTests.orders)
            let running = Task { try await client.run() }
            try await client.withPublisher { publisher in
                let outcomes = await publisher.publish(
                    contentsOf: (0..<100).map { AMQPMessage("\($0)") },
                    to: .queue("orders")
                )
                let areConfirmed = outcomes.allSatisfy { $0.isConfirmed }
                #expect(areConfirmed)
            }
            let (started, start) = AsyncStream.makeStream(of: Void.self)
            let (gate, open) = AsyncStream.makeStream(of: Void.self)
            let worker = Task {
                try await client.withPublisher { results in
                    try await client.consume("orders", prefetch: 50) { deliveries in
                        try await deliveries.process(maxConcurrency: 4) { delivery in
                            start.yield()
                            for await _ in gate {}
                            try await results.send(AMQPMessage(delivery.body.copy()), to: .queue("results"))
                        }
                    }
                }
            }
            let setUp = try await broker.connect()
            try await setUp.withChannel { _ = try await $0.declareQueue("results", durable: true) }
            try await setUp.close()
            var begun = 0
            for await _ in started {
                begun += 1
                if begun == 4 { break }
            }
            client.beginShutdown()
            try await broker.waitUntil(queue: "orders") { $0?.consumers == 0 }
            #expect(await broker.queue("orders")?.unacknowledged ?? 0 >= 4)
            open.finish()
            try await worker.value
            try await running.value
            #expect(await broker.depth(of: "results") == 4)
            #expect(await broker.depth(of: "orders") == 96)
            #expect(await broker.queue("orders")?.unacknowledged == 0)
            try await broker.waitUntilAllHaveLeft()
            let late = await #expect(throws: AMQPError.self) { try await client.consume("orders") { _ in } }
            #expect(late?.isSafeToRetry == true)
        }
    }

    @Test("A shutdown that is not obeyed ends at its deadline")
    func shutdownDeadline() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.recovery.shutdownTimeout = .milliseconds(50)
            let client = AMQPClient(configuration, topology: AMQPClientTests.orders)
            let running = Task { try await client.run() }
            let (gate, open) = AsyncStream.makeStream(of: Void.self)
            let (started, start) = AsyncStream.makeStream(of: Void.self)
            let stubborn = Task {
                try await client.consume("orders") { _ in
                    start.yield()
                    for await _ in gate {}
                }
            }
            for await _ in started { break }
            await client.shutdown()
            try await running.value
            open.finish()
            try await stubborn.value
        }
    }

    @Test("A shutdown ends at its deadline although the broker says nothing any more")
    func shutdownOfSilence() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.recovery.shutdownTimeout = .milliseconds(50)
            // A wait for the broker's replies would exceed the time limit of this test.
            configuration.operationTimeout = .seconds(600)
            let client = AMQPClient(configuration, topology: AMQPClientTests.orders)
            let running = Task { try await client.run() }
            let publisher = try client.openPublisher()
            try await publisher.publish("1", to: .queue("orders"))
            let worker = Task {
                try await client.consume("orders", prefetch: 1) { deliveries in
                    for try await delivery in deliveries { try delivery.ack() }
                }
            }
            try await broker.waitUntil(queue: "orders") { $0?.consumers == 1 && $0?.ready == 0 }
            await broker.pause()
            try await publisher.send("2", to: .queue("orders"))
            await client.shutdown()
            try await running.value
            _ = await worker.result
            await broker.resume()
        }
    }

    @Test("A shutdown requeues unread deliveries before the handlers are done")
    func shutdownGivesBack() async throws {
        try await InProcessBroker.withBroker { broker in
            let client = AMQPClient(AMQPClientTests.quick(broker), topology: AMQPClientTests.orders)
            let running = Task { try await client.run() }
            let (started, start) = AsyncStream.makeStream(of: Void.self)
            let (gate, open) = AsyncStream.makeStream(of: Void.self)
            let worker = Task {
                try await client.consume("orders", prefetch: 3) { deliveries in
                    for try await delivery in deliveries {
                        start.yield()
                        for await _ in gate {}
                        try delivery.ack()
                    }
                }
            }
            try await client.withPublisher { publisher in
                try await publisher.publish("held", to: .queue("orders"))
                for await _ in started { break }
                for body in ["a", "b"] { try await publisher.publish(AMQPMessage(body), to: .queue("orders")) }
            }
            try await broker.waitUntil(queue: "orders") { $0?.unacknowledged == 3 }
            client.beginShutdown()
            try await broker.waitUntil(queue: "orders") { $0?.ready == 2 && $0?.unacknowledged == 1 }
            open.finish()
            try await worker.value
            try await running.value
            #expect(await broker.depth(of: "orders") == 2)
            #expect(await broker.queue("orders")?.unacknowledged == 0)
        }
    }

    @Test("A client runs once, and one that was shut down before it ran does not")
    func runsOnce() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker)) { client in
                try await client.withChannel { _ in }
                let error = await #expect(throws: AMQPError.self) { try await client.run() }
                #expect(error?.code == .invalidConfiguration)
            }
            let client = AMQPClient(AMQPClientTests.quick(broker))
            await client.shutdown()
            try await client.run()
        }
    }

    @Test("Arguments out of range are refused by name before anything is sent")
    func badUse() async throws {
        let client = AMQPClient(AMQPClientConfiguration())
        for body in [
            { try await client.consume("q", prefetch: 0) { _ in } },
            { try await client.withPublisher(maxInFlight: 0) { _ in } },
            { try await client.withPublisher(outbox: .octets(0)) { _ in } },
        ] as [() async throws -> Void] {
            let error = await #expect(throws: AMQPError.self) { try await body() }
            #expect(error?.code == .invalidArgument)
            #expect(error?.isSafeToRetry == true)
        }
    }
}
