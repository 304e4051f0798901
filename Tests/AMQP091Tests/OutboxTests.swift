// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// OutboxTests: an outbox keeps books: each message ends once, and what the broker refuses is found, reported and taken out
// while the others arrive in order. The broker is the in-process one; random sequences of all this are in PromiseTests.

@Suite("Outbox", .timeLimit(.minutes(1)))
struct OutboxTests {
    static let topology = AMQPTopology {
        $0.queue("q")
        $0.exchange("inside", type: .fanout, isInternal: true)
    }

    /// Runs `body` with a client of a broker that comes back soon.
    static func withClient(
        timeout: Duration = .seconds(10),
        maximumDelay: Duration = .milliseconds(20),
        _ body: (InProcessBroker, AMQPClient) async throws -> Void
    ) async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.operationTimeout = timeout
            configuration.recovery.maximumDelay = maximumDelay
            configuration.recovery.shutdownTimeout = .milliseconds(200)
            try await AMQPClient.withClient(configuration, topology: Self.topology) { try await body(broker, $0) }
        }
    }

    /// The error of a body; nil if it returns.
    static func failure(of body: () async throws -> Void) async -> AMQPError? {
        do {
            try await body()
            return nil
        } catch {
            return error as? AMQPError
        }
    }

    /// The bodies in a queue, in their order, without second copies.
    static func bodies(_ client: AMQPClient, _ count: Int) async throws -> [String] {
        var seen: [String] = []
        try await client.consume("q") { deliveries in
            for try await delivery in deliveries {
                if !seen.contains(delivery.body.string) { seen.append(delivery.body.string) }
                try delivery.ack()
                if seen.count == count { break }
            }
        }
        return seen
    }

    @Test("A message to a missing exchange is reported at the end of the scope, and the others arrive")
    func missingExchange() async throws {
        try await Self.withClient { broker, client in
            let error = await Self.failure {
                try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                    try await publisher.send("bad", to: .exchange("missing"))
                    try await publisher.send("good", to: .queue("q"))
                }
            }
            #expect(error?.code == .refused)
            #expect(error?.replyCode == .notFound)
            #expect(error?.replyText.contains("missing") == true)
            #expect(error?.callSite?.fileID.hasSuffix("OutboxTests.swift") == true)
            #expect(await broker.depth(of: "q") == 1)
        }
    }

    /// Messages a broker closes the channel for.
    enum Culprit: String, CaseIterable, Sendable {
        case exchange, internalExchange, userID, size
        /// The text names nothing of the message.
        case header, directReply

        var message: AMQPMessage {
            switch self {
            case .exchange, .internalExchange: "bad"
            case .userID: AMQPMessage("bad", properties: BasicProperties(userID: "somebody"))
            case .size: AMQPMessage(AMQPBody([UInt8](repeating: 1, count: 2000)))
            case .header: AMQPMessage("bad", properties: BasicProperties(headers: ["CC": "no array"]))
            case .directReply: AMQPMessage("bad", properties: BasicProperties(replyTo: "amq.rabbitmq.reply-to"))
            }
        }

        var destination: AMQPDestination {
            switch self {
            case .exchange: .exchange("missing")
            case .internalExchange: .exchange("inside")
            case .userID, .size, .header, .directReply: .queue("q")
            }
        }

        var replyCode: ReplyCode {
            switch self {
            case .exchange: .notFound
            case .internalExchange: .accessRefused
            case .userID, .size, .header, .directReply: .preconditionFailed
            }
        }
    }

    @Test(
        "A refused message is found wherever it stands, by whatever it is refused for",
        arguments: Culprit.allCases,
        [[0], [5], [9], [0, 1], [4, 5], [8, 9], [0, 5, 9]]
    )
    func culprits(_ culprit: Culprit, _ places: [Int]) async throws {
        var options = InProcessBroker.Options()
        options.maximumMessageSize = 1000
        try await InProcessBroker.withBroker(options) { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: Self.topology) { client in
                let publisher = try client.openPublisher(outbox: .octets(1 << 20))
                var receipts: [AMQPPublishReceipt] = []
                for index in 0..<10 {
                    let isBad = places.contains(index)
                    receipts.append(
                        try await publisher.enqueue(
                            isBad ? culprit.message : AMQPMessage("\(index)"),
                            to: isBad ? culprit.destination : .queue("q")
                        )
                    )
                }
                for (index, receipt) in receipts.enumerated() {
                    let outcome = await receipt.outcome()
                    if places.contains(index) {
                        guard case .refused(let error) = outcome else {
                            Issue.record("\(index): \(outcome)")
                            continue
                        }
                        #expect(error.replyCode == culprit.replyCode)
                    } else {
                        #expect(outcome == .confirmed, "\(index)")
                    }
                }
                // All were asked for: nothing is left to report.
                try await publisher.close()
                let good = (0..<10).filter { !places.contains($0) }.map { "\($0)" }
                #expect(try await Self.bodies(client, good.count) == good)
            }
        }
    }

    @Test(
        "A culprit that the text does not name is tried alone, like each that may be it: it is refused, they are confirmed",
        arguments: [Culprit.header, .directReply],
        [1, 3]
    )
    func unnamed(_ culprit: Culprit, _ count: Int) async throws {
        try await Self.withClient { broker, client in
            let refusals = Task { [events = client.events] in
                var refusals = 0
                for await event in events { if case .publishRefused = event.kind { refusals += 1 } }
                return refusals
            }
            try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                try await publisher.publish("0", to: .queue("q"))
                // None is confirmed before the broker closes the channel, nor the first that is tried alone.
                await broker.confirm(.hold)
                var receipts: [AMQPPublishReceipt] = []
                for index in 1...count {
                    receipts.append(try await publisher.enqueue(AMQPMessage("\(index)"), to: .queue("q")))
                }
                try await broker.waitUntil(depthOf: "q", is: 1 + count)
                let bad = try await publisher.enqueue(culprit.message, to: .queue("q"))
                // The first of them comes a second time, and no other before its confirm does.
                try await broker.waitUntil(depthOf: "q", is: 2 + count)
                for _ in 0..<3 { try await client.withChannel { _ = try await $0.inspectQueue("q") } }
                #expect(await broker.depth(of: "q") == 2 + count)
                await broker.confirm(.release)
                let after = try await publisher.enqueue("after", to: .queue("q"))
                for receipt in receipts { #expect(await receipt.outcome() == .confirmed) }
                #expect(await after.outcome() == .confirmed)
                guard case .refused(let error) = await bad.outcome() else {
                    Issue.record("the culprit ended as \(await bad.outcome())")
                    return
                }
                #expect(error.replyCode == .preconditionFailed)
                #expect(error.callSite?.fileID.hasSuffix("OutboxTests.swift") == true)
                #expect(!error.isSafeToRetry)
            }
            let expected = (0...count).map { "\($0)" } + ["after"]
            #expect(try await Self.bodies(client, expected.count) == expected)
            await client.shutdown()
            #expect(await refusals.value == 1)
        }
    }

    @Test("The broker is away at the end of the scope: every wait says so, and the scope does not return normally")
    func away() async throws {
        var watching: Task<Int, Never>?
        let ended = await Self.failure {
            try await Self.withClient(timeout: .seconds(3), maximumDelay: .seconds(1)) { broker, client in
                watching = Task { [events = client.events] in
                    for await event in events {
                        if case .publishesGivenUp(let count, _) = event.kind { return count }
                    }
                    return 0
                }
                let error = await Self.failure {
                    try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                        try await publisher.publish("first", to: .queue("q"), timeout: .seconds(30))
                        await broker.confirm(.hold)
                        for index in 0..<10 {
                            try await publisher.send(AMQPMessage("\(index)"), to: .queue("q"), timeout: .seconds(30))
                        }
                        await broker.refuseConnections(true)
                        await broker.dropConnections()
                        for _ in 0..<2 {
                            let error = await Self.failure {
                                try await publisher.waitForConfirms(timeout: .milliseconds(100))
                            }
                            #expect(error?.code == .timedOut)
                        }
                    }
                }
                #expect(error?.code == .timedOut)
                try #require(error?.replyText.hasPrefix("10 messages") == true, "\(error as Any)")
            }
        }
        #expect(await watching?.value == 10)
        // The scope has told.
        #expect(ended == nil)
    }

    @Test("A shutdown with messages held tells how many: an event, the receipts, and the error of run()")
    func shutdown() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.recovery.shutdownTimeout = .milliseconds(50)
            let client = AMQPClient(configuration, topology: Self.topology)
            let events = client.events
            let watching = Task { () -> Int in
                for await event in events {
                    if case .publishesGivenUp(let count, _) = event.kind { return count }
                }
                return 0
            }
            let running = Task { try await client.run() }
            let publisher = try client.openPublisher(outbox: .octets(1 << 20))
            try await publisher.publish("first", to: .queue("q"))
            await broker.confirm(.hold)
            let receipt = try await publisher.enqueue("a", to: .queue("q"))
            try await publisher.send("b", to: .queue("q"))
            await broker.refuseConnections(true)
            await broker.dropConnections()
            await client.shutdown()
            guard case .unknown(let error) = await receipt.outcome() else {
                Issue.record("the receipt knows more than anybody can")
                return
            }
            #expect(error.code == .givenUp)
            #expect(await watching.value == 2)
            let ended = await Self.failure { try await running.value }
            #expect(ended?.code == .givenUp)
            #expect(ended?.replyText.contains("2 messages") == true, "\(ended as Any)")
        }
    }

    @Test("A shutdown tells senders that wait for room in a full outbox at once, while there is no broker")
    func shutdownOfWaitingSender() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.recovery.shutdownTimeout = .seconds(600)
            configuration.operationTimeout = .seconds(600)
            let client = AMQPClient(configuration, topology: Self.topology)
            var events = client.events.makeAsyncIterator()
            let running = Task { try await client.run() }
            let scope = Task {
                try await client.withPublisher(outbox: .octets(300)) { publisher in
                    try await publisher.publish("first", to: .queue("q"))
                    await broker.confirm(.hold)
                    try await publisher.send("a", to: .queue("q"))
                    await broker.refuseConnections(true)
                    await broker.dropConnections()
                    _ = await events.nextLoss(of: .publishing)
                    try await publisher.send("b", to: .queue("q"))
                }
            }
            _ = await client.events.first { if case .connectFailed = $0.kind { true } else { false } }
            client.beginShutdown()
            let error = await Self.failure { try await scope.value }
            #expect(error?.isSafeToRetry == true)
            await client.shutdown()
            _ = await Self.failure { try await running.value }
        }
    }

    static func books(of publisher: AMQPPublisher) -> Outbox.Books? {
        if case .recovering(let recovering) = publisher.source { recovering.outbox?.books } else { nil }
    }

    @Test("A shutdown counts what an outbox has taken: a sender that still waits is told, and has its message")
    func shutdownOfUntakenMessage() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.recovery.shutdownTimeout = .milliseconds(50)
            let client = AMQPClient(configuration, topology: Self.topology)
            let running = Task { try await client.run() }
            let publisher = try client.openPublisher(outbox: .octets(1 << 20))
            try await publisher.publish("first", to: .queue("q"))
            let events = client.events
            await broker.refuseConnections(true)
            await broker.dropConnections()
            for await event in events {
                if event.connection == .publishing, case .connectFailed = event.kind { break }
            }
            // There is room, and no channel to write them to.
            let sending = (0..<2).map { number in
                Task { await Self.failure { try await publisher.send(AMQPMessage("\(number)"), to: .queue("q")) } }
            }
            while Self.books(of: publisher)?.held != 2 { await Task.yield() }
            await client.shutdown()
            for task in sending {
                let error = await task.value
                #expect(error?.isSafeToRetry == true, "\(error as Any)")
            }
            #expect(Self.books(of: publisher)?.accepted == 1)
            #expect(await Self.failure { try await running.value } == nil)
        }
    }

    @Test("A wait that ends at its deadline reports the failures that are known by then")
    func failuresAtTheDeadline() async throws {
        try await Self.withClient { broker, client in
            let publisher = try client.openPublisher(outbox: .octets(1 << 20))
            await broker.confirm(.nackNext(1))
            try await publisher.send("nacked", to: .queue("q"))
            let start = ContinuousClock.now
            while publisher.counts.nacked == 0, ContinuousClock.now - start < .seconds(10) { await Task.yield() }
            await broker.confirm(.hold)
            try await publisher.send("held", to: .queue("q"))
            let error = await Self.failure { try await publisher.waitForConfirms(timeout: .milliseconds(50)) }
            #expect(error?.code == .timedOut)
            #expect(error?.replyText.contains("1 message of the outbox is not confirmed") == true)
            #expect(error?.replyText.contains("failed: publish nacked") == true, "\(error as Any)")
            await broker.confirm(.release)
            try await publisher.close()
        }
    }

    @Test("After the broker has closed the channel the outbox continues by itself, without another call")
    func goesOnAlone() async throws {
        try await Self.withClient { broker, client in
            let publisher = try client.openPublisher(outbox: .octets(1 << 20))
            try await publisher.publish("0", to: .queue("q"))
            try await publisher.send("bad", to: .exchange("missing"))
            try await publisher.send("1", to: .queue("q"))
            try await broker.waitUntil(depthOf: "q", is: 2)
            let error = await Self.failure { try await publisher.waitForConfirms() }
            #expect(error?.code == .refused)
            try await publisher.waitForConfirms()
            try await publisher.close()
        }
    }

    @Test("Nacked and returned messages of an outbox are reported once, and are not sent again")
    func nackedAndReturned() async throws {
        try await Self.withClient { broker, client in
            try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                await broker.confirm(.nackNext(1))
                try await publisher.send("nacked", to: .queue("q"))
                try await publisher.send("returned", to: .queue("nowhere"), mandatory: true)
                try await publisher.send("good", to: .queue("q"))
                let error = await Self.failure { try await publisher.waitForConfirms() }
                #expect(error?.code == .nacked)
                #expect(error?.replyText.contains("the first of 2") == true, "\(error as Any)")
                try await publisher.waitForConfirms()
            }
            #expect(await broker.depth(of: "q") == 1)
        }
    }

    @Test("A batch has one deadline, however many of its messages are not confirmed", arguments: [true, false])
    func batchDeadline(hasOutbox: Bool) async throws {
        try? await Self.withClient { broker, client in
            let publisher = try client.openPublisher(maxInFlight: 50, outbox: hasOutbox ? .octets(1 << 20) : .none)
            try await publisher.publish("0", to: .queue("q"))
            await broker.confirm(.hold)
            let start = ContinuousClock.now
            let messages = (0..<50).map { AMQPMessage("\($0)") }
            let outcomes = await publisher.publish(contentsOf: messages, to: .queue("q"), timeout: .seconds(1))
            #expect(outcomes.count == 50)
            let stream = AsyncStream<AMQPMessage> { continuation in
                for message in messages.prefix(10) { continuation.yield(message) }
                continuation.finish()
            }
            _ = try? await publisher.publish(stream: stream, to: .queue("q"), timeout: .seconds(1))
            // A deadline for each message would add up to a minute.
            #expect(ContinuousClock.now - start < .seconds(30))
            await broker.confirm(.release)
        }
    }
}
