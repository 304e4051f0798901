// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// SharedPublisherTests: many tasks publish with one publisher, and the broker closes the channel for one of them: that one
// is told that it was refused, the others have their own outcomes. What is judged is in PublishVerdictTests.

@Suite("Shared publisher", .timeLimit(.minutes(1)))
struct SharedPublisherTests {
    typealias Failure = AMQPError?

    @Test("Of forty publishes in parallel one names a missing exchange: it is refused, and no other is called so")
    func parallel() async throws {
        try await OutboxTests.withClient { broker, client in
            try await client.withPublisher { publisher in
                let failures = await withTaskGroup(of: (Int, Failure).self) { group in
                    for index in 0..<40 {
                        group.addTask {
                            let failure = await OutboxTests.failure {
                                try await publisher.publish(
                                    AMQPMessage("\(index)"),
                                    to: index == 20 ? .exchange("missing") : .queue("q")
                                )
                            }
                            return (index, failure)
                        }
                    }
                    var failures: [Int: AMQPError] = [:]
                    for await (index, failure) in group { failures[index] = failure }
                    return failures
                }
                #expect(failures[20]?.code == .refused)
                #expect(failures[20]?.replyCode == .notFound)
                #expect(failures[20]?.isSafeToRetry == false)
                // The in-process broker confirms at once, so nothing before the culprit is unknown.
                #expect(failures.count == 1, "\(failures)")
            }
            #expect(await broker.depth(of: "q") == 39)
        }
    }

    @Test("What follows the culprit is certainly not processed, what precedes it unconfirmed is unknown")
    func told() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            try await connection.withChannel { try await $0.declareQueue("q") }
            let publisher = try await connection.openPublisher()
            await broker.confirm(.hold)
            var receipts: [AMQPPublishReceipt] = []
            for index in 0..<3 {
                receipts.append(try await publisher.enqueue(AMQPMessage("\(index)"), to: .queue("q")))
            }
            try await broker.waitUntil(depthOf: "q", is: 3)
            await broker.onNext(Basic.Publish.id, .delay(.milliseconds(50)))
            receipts.append(try await publisher.enqueue("slow", to: .queue("q")))
            receipts.append(try await publisher.enqueue("bad", to: .exchange("missing")))
            receipts.append(try await publisher.enqueue("late", to: .queue("q")))
            for receipt in receipts.prefix(4) {
                guard case .unknown(let error) = await receipt.outcome() else {
                    Issue.record("known: \(await receipt.outcome())")
                    continue
                }
                #expect(error.replyCode == .notFound)
            }
            guard case .refused(let refusal) = await receipts[4].outcome() else {
                Issue.record("\(await receipts[4].outcome())")
                return
            }
            #expect(refusal.scope == .channel)
            guard case .notSent(let reason) = await receipts[5].outcome() else {
                Issue.record("\(await receipts[5].outcome())")
                return
            }
            #expect(reason.isSafeToRetry)
            #expect(publisher.counts.refused == 1)
            #expect(publisher.counts.notProcessed == 1)
            #expect(publisher.counts.unknown == 4)
            #expect(publisher.counts.published == 6)
            // No text says anything twice.
            let text = await receipts[0].outcome().error?.description ?? ""
            #expect(text.components(of: "most likely sent by") == 1, "\(text)")
            try await connection.close()
        }
    }

    @Test("Of a batch only the refused message fails; those after it are published again", arguments: [0, 3, 6])
    func batch(_ bad: Int) async throws {
        try await OutboxTests.withClient { broker, client in
            try await client.withPublisher { publisher in
                let messages = (0..<7).map { index in
                    AMQPMessage("\(index)", properties: BasicProperties(userID: index == bad ? "somebody" : nil))
                }
                let outcomes = await publisher.publish(contentsOf: messages, to: .queue("q"))
                for (index, outcome) in outcomes.enumerated() {
                    if index == bad {
                        guard case .refused = outcome else {
                            Issue.record("\(outcome)")
                            continue
                        }
                    } else {
                        #expect(outcome == .confirmed, "\(index)")
                    }
                }
            }
            #expect(await broker.depth(of: "q") == 6)
        }
    }

    @Test("A send nobody waits for that is refused is told of at the next wait, with its line")
    func send() async throws {
        try await OutboxTests.withClient { _, client in
            let error = await OutboxTests.failure {
                try await client.withPublisher { publisher in
                    try await publisher.send("bad", to: .exchange("missing"))
                }
            }
            #expect(error?.code == .refused)
            #expect(error?.callSite?.fileID.hasSuffix("SharedPublisherTests.swift") == true)
        }
    }

    @Test("Each of many refused sends is told of at the next wait, whenever the close of its channel comes")
    func manySends() async throws {
        try await OutboxTests.withClient(timeout: .seconds(50)) { _, client in
            let publisher = try client.openPublisher()
            for number in 0..<100 {
                try await publisher.send("bad", to: .exchange("missing"))
                // At a different moment each time.
                for _ in 0..<(number % 16) { await Task.yield() }
                let error = await OutboxTests.failure { try await publisher.waitForConfirms() }
                #expect(error?.code == .refused, "send \(number)")
            }
            try await publisher.close()
        }
    }

    @Test("A wait for confirms ends with a connection that is closed because its octets were damaged")
    func damaged() async throws {
        try await InProcessBroker.withBroker { broker in
            let port = try #require(broker.port)
            try await FaultProxy.withProxy(to: port) { proxy in
                var configuration = AMQPClientTests.quick(broker)
                configuration.addresses = [.host("127.0.0.1", port: proxy.port)]
                configuration.operationTimeout = .seconds(30)
                try await AMQPClient.withClient(configuration, topology: OutboxTests.topology) { client in
                    for number in 0..<40 {
                        let publisher = try client.openPublisher()
                        try await publisher.publish("first", to: .queue("q"))
                        try await publisher.send("1", to: .queue("q"))
                        proxy.set(.garbage)
                        try? await publisher.send("2", to: .queue("q"))
                        for _ in 0..<(number % 8) { await Task.yield() }
                        let start = ContinuousClock.now
                        for _ in 0..<3 { _ = await OutboxTests.failure { try await publisher.waitForConfirms() } }
                        try? await publisher.close()
                        #expect(ContinuousClock.now - start < .seconds(20), "\(number)")
                        proxy.set(.none)
                    }
                }
            }
        }
    }

    @Test("What waits for a channel that is not opened in time was certainly not sent", arguments: [false, true])
    func noChannel(hasOutbox: Bool) async throws {
        try await OutboxTests.withClient { broker, client in
            let warm = try client.openPublisher()
            try await warm.publish("0", to: .queue("q"))
            try await warm.close()
            func expect(_ body: (AMQPPublisher) async throws -> Void) async throws {
                let publisher = try client.openPublisher(outbox: hasOutbox ? .octets(1 << 20) : .none)
                await broker.onNext(Channel.Open.id, .loseAnswer)
                let error = await OutboxTests.failure { try await body(publisher) }
                #expect(error?.code == .timedOut)
                #expect(error?.isSafeToRetry == true, "\(error as Any)")
                try await publisher.close()
            }
            let timeout = Duration.milliseconds(100)
            try await expect { try await $0.send("1", to: .queue("q"), timeout: timeout) }
            try await expect { try await $0.publish("1", to: .queue("q"), timeout: timeout) }
            try await expect { _ = try await $0.enqueue("1", to: .queue("q"), timeout: timeout) }
            await broker.onNext(Channel.Open.id, .loseAnswer)
            let error = await OutboxTests.failure {
                try await client.withRPCClient { _ = try await $0.call("1", to: .queue("q"), timeout: timeout) }
            }
            #expect(error?.isSafeToRetry == true, "\(error as Any)")
            #expect(await broker.depth(of: "q") == 1)
        }
    }

    @Test("A request to a missing exchange fails alone; the calls beside it are made again or told that they may")
    func rpc() async throws {
        try await OutboxTests.withClient { _, client in
            try await client.withRPCClient { rpc in
                async let bad = OutboxTests.failure { _ = try await rpc.call("x", to: .exchange("missing")) }
                let failure = await bad
                #expect(failure?.code == .refused)
                #expect(failure?.replyCode == .notFound)
            }
        }
    }

    @Test("A publisher keeps its connection; a channel without one says why it has ended")
    func keepsConnection() async throws {
        try await InProcessBroker.withBroker { broker in
            func publisher() async throws -> AMQPPublisher { try await broker.connect().openPublisher() }
            let kept = try await publisher()
            try await kept.publish("m", to: .queue("nowhere"))
            #expect(kept.isOpen)
            func channel() async throws -> AMQPChannel { try await broker.connect().openChannel() }
            let orphan = try await channel()
            let error = await OutboxTests.failure { while true { _ = try await orphan.declareQueue("q") } }
            #expect(error?.replyText.contains("released without close()") == true, "\(error as Any)")
        }
    }
}

extension String {
    /// How often a text stands in this one.
    fileprivate func components(of text: String) -> Int {
        var count = 0
        var rest = self[...]
        while !rest.isEmpty {
            if rest.hasPrefix(text) { count += 1 }
            rest = rest.dropFirst()
        }
        return count
    }
}
