// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// RecoveryDialogueTests: a connection that was lost is made again, and the link drops once more before, during or after
// each step of that, on one connection or on two in a row. Whatever the step, the third or fourth connection works.

// One at a time: two hundred brokers with a thread each would starve the tests beside them.
@Suite("Recovery, step by step", .serialized, .timeLimit(.minutes(2)))
struct RecoveryDialogueTests {
    static func faults(_ steps: [RecoveryStage.Step]) -> [RecoveryStage.Fault] {
        steps.flatMap { step in
            // Before there is a link, nothing can be said.
            (step == .tcp ? [.before] : RecoveryStage.Cut.allCases).flatMap { cut in
                [1, 2].map { RecoveryStage.Fault(step: step, cut: cut, times: $0) }
            }
        }
    }

    /// Runs `body` with a client of the stage's brokers.
    static func withClient(
        _ stage: RecoveryStage,
        confirmTimeout: Duration? = nil,
        shufflesAddresses: Bool = true,
        _ body: (AMQPClient) async throws -> Void
    ) async throws {
        var configuration = AMQPClientConfiguration()
        configuration.addresses = [.host("one"), .host("two")]
        configuration.recovery.initialDelay = .milliseconds(1)
        configuration.recovery.maximumDelay = .milliseconds(5)
        // One attempt at a time, also on a slow machine: the stage counts connections.
        configuration.recovery.attemptDelay = .seconds(100)
        configuration.recovery.confirmTimeout = confirmTimeout
        configuration.recovery.shufflesAddresses = shufflesAddresses
        let topology = AMQPTopology {
            $0.exchange("events", type: .topic)
            $0.queue("orders", boundTo: "events", routingKey: "order.*")
        }
        let client = AMQPClient(configuration, topology: topology) { (configuration, _) throws(AMQPError) in
            try await stage.connect(configuration)
        }
        do {
            try await client.runWhile(body)
        } catch {
            try await stage.end()
            throw error
        }
        try await stage.end()
    }

    @Test("A publisher with an outbox gets every message through, in order", arguments: faults(Step.publishing))
    func publishing(_ fault: RecoveryStage.Fault) async throws {
        let stage = RecoveryStage(fault)
        try await Self.withClient(stage) { client in
            try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                var receipts: [AMQPPublishReceipt] = []
                for body in ["a", "b", "c"] {
                    receipts.append(try await publisher.enqueue(AMQPMessage(body), to: .queue("orders")))
                }
                await stage.waitForPublishes(3)
                stage.dropFirst()
                for receipt in receipts { #expect(await receipt.outcome() == .confirmed) }
                try await publisher.publish("d", to: .queue("orders"))
            }
        }
        #expect(stage.faults == fault.times)
        let sessions = stage.sessions
        // With the fault behind a confirm, what is confirmed is not published once more.
        let isConfirmedFirst = fault.step == .republish && fault.cut == .after
        let bodies = sessions.map { $0.publishes.map(\.body) }
        #expect(bodies.last == Array(["a", "b", "c", "d"].dropFirst(isConfirmedFirst ? fault.times : 0)))
        // The same message, though published again.
        var ids: [String: Set<String?>] = [:]
        for publish in sessions.flatMap(\.publishes) {
            ids[publish.body, default: []].insert(publish.messageID)
        }
        #expect(ids.count == 4)
        for copies in ids.values {
            #expect(copies.count == 1)
            #expect(!copies.contains(nil))
        }
    }

    @Test("A publisher without an outbox reports unknown outcomes, and continues", arguments: faults(Step.publishing))
    func unknown(_ fault: RecoveryStage.Fault) async throws {
        let stage = RecoveryStage(fault)
        try await Self.withClient(stage) { client in
            try await client.withPublisher { publisher in
                let receipt = try await publisher.enqueue("a", to: .queue("orders"))
                await stage.waitForPublishes(1)
                stage.dropFirst()
                guard case .unknown = await receipt.outcome() else {
                    Issue.record("nobody can know")
                    return
                }
                // Written on a connection that was lost: where the fault is behind the publish, and, by chance, where the
                // link drops as soon as there is a channel.
                let isUnknown = fault.step == .republish && fault.cut != .after
                let mayBeUnknown = fault.step == .confirmSelect && fault.cut == .after
                var attempts = 0
                while true {
                    do {
                        attempts += 1
                        try await publisher.publish("b", to: .queue("orders"))
                        break
                    } catch let error as AMQPError where error.code == .unknownOutcome {
                        #expect(isUnknown || mayBeUnknown)
                    }
                }
                #expect(
                    ((isUnknown ? fault.times + 1 : 1)...(mayBeUnknown || isUnknown ? fault.times + 1 : 1)) ~= attempts
                )
            }
        }
        let bodies = stage.sessions.map { $0.publishes.map(\.body) }
        #expect(bodies.joined().count { $0 == "a" } == 1)
    }

    @Test("A connection on which a confirm does not come is dropped, and the next one used", arguments: [true, false])
    func silentBroker(hasOutbox: Bool) async throws {
        let stage = RecoveryStage(.init(step: .tcp, cut: .before, times: 0))
        try await Self.withClient(stage, confirmTimeout: .milliseconds(20)) { client in
            try await client.withPublisher(outbox: hasOutbox ? .octets(1 << 20) : .none) { publisher in
                // The first connection confirms nothing, and answers everything else.
                let receipt = try await publisher.enqueue("a", to: .queue("orders"))
                let outcome = await receipt.outcome()
                if hasOutbox {
                    #expect(outcome == .confirmed)
                } else if case .unknown(let reason) = outcome {
                    #expect(reason.code == .connectionClosed)
                } else {
                    Issue.record("\(outcome)")
                }
                try await publisher.publish("b", to: .queue("orders"))
            }
        }
        let bodies = stage.sessions.map { $0.publishes.map(\.body) }
        #expect(bodies.first == ["a"])
        #expect(Set(bodies.dropFirst().joined()) == (hasOutbox ? ["a", "b"] : ["b"]))
    }

    @Test("A consumer without deliveries leaves the node where a confirm did not come, once it holds nothing")
    func silentNode() async throws {
        let stage = RecoveryStage(.init(step: .tcp, cut: .before, times: 0))
        try await Self.withClient(stage, confirmTimeout: .milliseconds(20), shufflesAddresses: false) { client in
            try await client.withPublisher { publisher in
                // The first connection confirms nothing. The second one, to the same address, consumes.
                let receipt = try await publisher.enqueue("a", to: .queue("orders"))
                try await client.consume("orders", prefetch: 5) { deliveries in
                    var bodies: [String] = []
                    for try await delivery in deliveries {
                        bodies.append(delivery.body.string)
                        guard bodies.count == 1 else { break }
                        guard case .unknown = await receipt.outcome() else {
                            Issue.record("nobody confirmed it")
                            break
                        }
                        // Not lost while its delivery is not settled.
                        try await publisher.publish("b", to: .queue("orders"))
                        try delivery.ack()
                    }
                    #expect(bodies.first == "from 2")
                    #expect(bodies.count == 2)
                }
            }
        }
        #expect(stage.sessions.dropFirst().first?.settled == [1])
    }

    @Test("A connection that refuses every publish is dropped, the next one after twice the time, until one confirms")
    func refusingBroker() async throws {
        let stage = RecoveryStage(.init(step: .tcp, cut: .before, times: 0), refusing: 2)
        try await Self.withClient(stage, confirmTimeout: .milliseconds(20)) { client in
            try await client.withPublisher { publisher in
                var isConfirmed = false
                while !isConfirmed {
                    let receipt = try await publisher.enqueue("a", to: .queue("orders"))
                    isConfirmed = await receipt.outcome() == .confirmed
                }
            }
        }
        // More where a slow machine lets the third one's confirm come too late.
        #expect(stage.sessions.filter { !$0.publishes.isEmpty }.count >= 3)
    }

    @Test(
        "A consumer goes on in the same sequence, and settles only what is not stale",
        arguments: faults(Step.consuming)
    )
    func consuming(_ fault: RecoveryStage.Fault) async throws {
        let stage = RecoveryStage(fault)
        let last = "from \(fault.times + 2)"
        try await Self.withClient(stage) { client in
            try await client.consume("orders", prefetch: 5) { deliveries in
                for try await delivery in deliveries {
                    let body = delivery.body.string
                    if body == "from 1" {
                        #expect(!delivery.redelivered)
                        stage.dropFirst()
                        continue
                    }
                    #expect(delivery.redelivered)
                    guard body == last else {
                        // Whole, but its link has dropped.
                        #expect(fault.step == .delivery && fault.cut == .after)
                        continue
                    }
                    let settlement = try delivery.ack()
                    #expect(settlement == .settled)
                    break
                }
            }
        }
        #expect(stage.faults == fault.times)
        let sessions = stage.sessions
        #expect(sessions.count == fault.times + 2)
        #expect(sessions.last?.settled == [1])
        #expect(sessions.dropLast().flatMap(\.settled) == [])
    }
}

extension RecoveryDialogueTests {
    typealias Step = RecoveryStage.Step
}
