// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

@Suite("Publisher", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct PublisherTests {
    /// A queue that refuses (nacks) what goes beyond one message, and a publisher.
    private static func withFullQueue(_ body: (AMQPPublisher, AMQPDestination) async throws -> Void) async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue(
                    as: .classic(durable: false, exclusive: true, maximumLength: 1, overflow: .rejectPublish)
                )
                try await connection.withPublisher { publisher in
                    try await publisher.publish("fills the queue", to: .queue(queue.name))
                    try await body(publisher, .queue(queue.name))
                }
            }
        }
    }

    private static let nowhere = AMQPDestination.queue("no such queue")

    @Test("One publish is confirmed, nacked or returned, and says which")
    func one() async throws {
        try await Self.withFullQueue { publisher, full in
            let nacked = await #expect(throws: AMQPError.self) { try await publisher.publish("x", to: full) }
            #expect(nacked?.code == .nacked)
            let returned = await #expect(throws: AMQPError.self) {
                try await publisher.publish("x", to: Self.nowhere, mandatory: true)
            }
            #expect(returned?.code == .returned)
            #expect(returned?.replyCode == .noRoute)
            try await publisher.publish("x", to: Self.nowhere)
            #expect(publisher.counts.confirmed == 2)
            #expect(publisher.counts.nacked == 1)
            #expect(publisher.counts.returned == 1)
            #expect(publisher.counts.unconfirmed == 0)
        }
    }

    @Test("Receipts give the outcome of each publish, in any order and again")
    func receipts() async throws {
        try await Self.withFullQueue { publisher, full in
            let nacked = try await publisher.enqueue("nacked", to: full)
            let returned = try await publisher.enqueue("returned", to: Self.nowhere, mandatory: true)
            let confirmed = try #require(try publisher.tryEnqueue("confirmed", to: Self.nowhere))
            #expect(await confirmed.outcome() == .confirmed)
            #expect(await nacked.outcome() == .nacked)
            guard case .returned(let code, _) = await returned.outcome() else {
                Issue.record("not returned")
                return
            }
            #expect(code == .noRoute)
            #expect(nacked.knownOutcome == .nacked)
            #expect(await nacked.outcome() == .nacked)
            try await confirmed.confirmation()
            let error = await #expect(throws: AMQPError.self) { try await nacked.confirmation() }
            #expect(error?.code == .nacked)
        }
    }

    @Test("Two tasks may wait for one receipt, and a cancelled one does not disturb the other")
    func shared() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withPublisher { publisher in
                for _ in 0..<50 {
                    let receipt = try await publisher.enqueue("x", to: Self.nowhere)
                    try await withThrowingTaskGroup(of: AMQPPublishOutcome.self) { group in
                        for _ in 0..<2 { group.addTask { await receipt.outcome() } }
                        let impatient = Task { await receipt.outcome() }
                        impatient.cancel()
                        for try await outcome in group { #expect(outcome == .confirmed) }
                        let outcome = await impatient.value
                        switch outcome {
                        case .confirmed, .unknown: break
                        default: Issue.record("\(outcome)")
                        }
                    }
                }
            }
        }
    }

    @Test("A batch gives one outcome per message in order, also beyond the window")
    func batch() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withPublisher(maxInFlight: 16) { publisher in
                let tooLong = BasicProperties(appID: String(repeating: "x", count: 256))
                let messages = (0..<100).map { number in
                    AMQPMessage("\(number)", properties: number == 50 ? tooLong : BasicProperties())
                }
                let outcomes = await publisher.publish(contentsOf: messages, to: Self.nowhere, mandatory: true)
                #expect(outcomes.count == 100)
                for (index, outcome) in outcomes.enumerated() {
                    switch outcome {
                    case .returned: #expect(index != 50)
                    case .notSent(let error):
                        #expect(index == 50)
                        #expect(error.code == .invalidArgument)
                    default: Issue.record("\(index): \(outcome)")
                    }
                }
                let fine = await publisher.publish(contentsOf: messages.prefix(50), to: Self.nowhere)
                #expect(fine == Array(repeating: .confirmed, count: 50))
                #expect(await publisher.publish(contentsOf: [], to: Self.nowhere) == [])
            }
        }
    }

    @Test("A stream is pulled under the window and every message has its outcome in order", arguments: [1, 2, 7, nil])
    func stream(_ maxInFlight: Int?) async throws {
        try await Self.withFullQueue { publisher, full in
            let (feed, continuation) = AsyncStream.makeStream(of: AMQPMessage.self)
            for number in 0..<2500 { continuation.yield("\(number)") }
            continuation.finish()
            var outcomes: [AMQPPublishOutcome] = []
            let summary = try await publisher.publish(stream: feed, to: full, maxInFlight: maxInFlight) {
                outcomes.append($0)
            }
            #expect(summary.nacked == 2500)
            #expect(summary.total == 2500)
            #expect(summary.firstFailure == .nacked)
            #expect(outcomes == Array(repeating: .nacked, count: 2500))
        }
    }

    @Test("A stream that fails throws its error, after the outcome of what it gave")
    func failingStream() async throws {
        struct Broken: Error {}
        try await TestBroker.withConnection { connection in
            try await connection.withPublisher { publisher in
                let feed = AsyncThrowingStream<AMQPMessage, any Error> { continuation in
                    for _ in 0..<10 { continuation.yield("x") }
                    continuation.finish(throwing: Broken())
                }
                var told = 0
                await #expect(throws: Broken.self) {
                    try await publisher.publish(stream: feed, to: Self.nowhere) { _ in told += 1 }
                }
                #expect(told == 10)
            }
        }
    }

    @Test("What was fired and refused comes out at the end of the scope")
    func fired() async throws {
        let error = await #expect(throws: AMQPError.self) {
            try await Self.withFullQueue { publisher, full in
                try await publisher.send("refused", to: full)
                try await publisher.send("refused", to: full)
            }
        }
        #expect(error?.code == .nacked)
        #expect(error?.replyText.contains("of 2") == true)
    }

    @Test("U15: a publish to an exchange that does not exist is refused, with the cause and the line")
    func missingExchange() async throws {
        try await TestBroker.withConnection { connection in
            let publisher = try await connection.openPublisher()
            let first = try await publisher.enqueue("x", to: Self.nowhere)
            #expect(await first.outcome() == .confirmed)
            let line = UInt32(#line + 1)
            let lost = try await publisher.enqueue("x", to: .exchange("no such exchange"))
            // May still be written before the broker's refusal comes, or not be sent any more.
            _ = try? await publisher.enqueue("innocent", to: Self.nowhere)
            guard case .refused(let reason) = await lost.outcome() else {
                Issue.record("the culprit is not known")
                return
            }
            #expect(reason.code == .refused)
            #expect(reason.replyCode == .notFound)
            #expect(reason.callSite == AMQPCallSite(fileID: #fileID, line: line))
            #expect(await first.outcome() == .confirmed)
            let batch = await publisher.publish(contentsOf: ["a", "b"], to: Self.nowhere)
            for outcome in batch {
                guard case .notSent(let error) = outcome else {
                    Issue.record("\(outcome)")
                    continue
                }
                #expect(error.code == .channelClosed)
            }
            #expect(publisher.counts.refused == 1)
            #expect(publisher.counts.unknown == 0)
            #expect(!publisher.isOpen)
            #expect(connection.isOpen)
        }
    }
}
