// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Protocol
import AMQP091Wire
import Testing

// PublishVerdictTests: which publish a `channel.close` is about, from its text and what is unconfirmed. The texts are
// RabbitMQ's (3.10, 4.0 and 4.3).

@Suite("Publish verdict")
struct PublishVerdictTests {
    struct Publish: Sendable {
        var exchange = ""
        var expiration: String?
        var userID: String?
        var size = 1
        var isConfirmed = false
    }

    struct Row: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var text: String
        var publishes: [Publish]
        var culprit: UInt64?
        var suspects: [UInt64] = []
        /// From here on not processed; nil for none.
        var unprocessed: UInt64?
    }

    static let missing = "NOT_FOUND - no exchange 'x' in vhost '/'"
    static let rows = [
        Row(
            testDescription: "the only one",
            text: "PRECONDITION_FAILED - whatever",
            publishes: [Publish(isConfirmed: true), Publish()],
            culprit: 2,
            unprocessed: 3
        ),
        Row(
            testDescription: "the exchange is named",
            text: missing,
            publishes: [Publish(), Publish(exchange: "x"), Publish()],
            culprit: 2,
            unprocessed: 3
        ),
        Row(
            testDescription: "an exchange that was never there: the first of several",
            text: missing,
            publishes: [Publish(), Publish(exchange: "x"), Publish(), Publish(exchange: "x"), Publish()],
            culprit: 2,
            unprocessed: 3
        ),
        Row(
            testDescription: "an exchange that has served: one of several",
            text: missing,
            publishes: [
                Publish(exchange: "x", isConfirmed: true), Publish(), Publish(exchange: "x"), Publish(),
                Publish(exchange: "x"), Publish(),
            ],
            suspects: [3, 5],
            unprocessed: 6
        ),
        Row(
            testDescription: "an exchange that has served, in the same run",
            text: missing,
            publishes: [Publish(exchange: "x", isConfirmed: true), Publish(exchange: "x"), Publish(exchange: "x")],
            suspects: [2, 3],
            unprocessed: 4
        ),
        Row(
            testDescription: "no permission, 3.10",
            text: "ACCESS_REFUSED - access to exchange 'x' in vhost '/' refused for user 'u'",
            publishes: [Publish(), Publish(exchange: "x"), Publish()],
            culprit: 2,
            unprocessed: 3
        ),
        Row(
            testDescription: "no permission for the default exchange, 4",
            text: "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'u'",
            publishes: [Publish(exchange: "y"), Publish()],
            culprit: 2,
            unprocessed: 3
        ),
        Row(
            testDescription: "an exchange with a quote in its name",
            text: "NOT_FOUND - no exchange 'it's' in vhost '/'",
            publishes: [Publish(), Publish(exchange: "it's")],
            culprit: 2,
            unprocessed: 3
        ),
        Row(
            testDescription: "expiration",
            text: "PRECONDITION_FAILED - invalid expiration 'soon': {not_integer,\"soon\"}",
            publishes: [Publish(expiration: "100"), Publish(expiration: "soon"), Publish(expiration: "soon")],
            culprit: 2,
            unprocessed: 3
        ),
        Row(
            testDescription: "user id",
            text: "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'",
            publishes: [Publish(userID: "guest"), Publish(userID: "bob"), Publish()],
            culprit: 2,
            unprocessed: 3
        ),
        Row(
            testDescription: "size, 4",
            text: "PRECONDITION_FAILED - message size 20000000 is larger than configured max size 16777216",
            publishes: [Publish(size: 10), Publish(size: 20_000_000), Publish(size: 30)],
            culprit: 2,
            unprocessed: 3
        ),
        Row(
            testDescription: "size, 3.10",
            text: "PRECONDITION_FAILED - message size 20000000 larger than max size 134217728",
            publishes: [Publish(size: 20_000_000), Publish(size: 30)],
            culprit: 1,
            unprocessed: 2
        ),
        Row(
            testDescription: "a text that names nothing",
            text: "PRECONDITION_FAILED - something",
            publishes: [Publish(isConfirmed: true), Publish(), Publish(isConfirmed: true), Publish()],
            suspects: [2, 4]
        ),
        Row(testDescription: "nothing unconfirmed", text: missing, publishes: [Publish(isConfirmed: true)]),
    ]

    @Test("The culprit is found by what the text names", arguments: rows)
    func culprit(_ row: Row) throws {
        var confirms = ConfirmRing(capacity: 16)
        var runs = PublishRuns()
        for publish in row.publishes {
            let sequence = confirms.append(octets: publish.size, token: 0)
            runs.note(
                sequence,
                exchange: publish.exchange,
                properties: BasicProperties(expiration: publish.expiration, userID: publish.userID),
                site: CallSite(#fileID, UInt32(sequence)),
                lowest: confirms.lowest
            )
        }
        for (index, publish) in row.publishes.enumerated() where publish.isConfirmed {
            try confirms.settle(tag: UInt64(index + 1), multiple: false, outcome: .confirmed) { _, _, _ in }
        }
        let verdict = PublishVerdict(row.text, confirms, runs)
        #expect(verdict.culprit == row.culprit)
        #expect(
            (1...UInt64(row.publishes.count)).filter {
                verdict.isSuspect($0) && !row.publishes[Int($0) - 1].isConfirmed
            } == row.suspects
        )
        #expect(verdict.unprocessed == row.unprocessed ?? .max)
        if let culprit = row.culprit { #expect(verdict.site?.line == UInt32(culprit)) }
    }

    @Test("What is remembered of publishes does not grow with their number")
    func bounded() throws {
        var confirms = ConfirmRing(capacity: 16)
        var runs = PublishRuns()
        for index in 0..<10_000 {
            let sequence = confirms.append(octets: 1, token: 0)
            runs.note(
                sequence,
                exchange: "x\(index % 50)",
                properties: BasicProperties(),
                site: CallSite(#fileID, 1),
                lowest: confirms.lowest
            )
            if index % 10 == 9 {
                try confirms.settle(tag: sequence, multiple: true, outcome: .confirmed) { _, _, _ in }
            }
            #expect(runs.runs.count <= 12)
        }
        #expect(runs.hasServed("x0", lowest: confirms.lowest) || !runs.hasServed("x1", lowest: confirms.lowest))
    }
}
