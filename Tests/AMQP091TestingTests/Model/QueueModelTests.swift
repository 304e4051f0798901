// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@testable import AMQP091Testing

// QueueModelTests: one queue by itself: limits, times to live, consumers and what comes back, on a clock moved by hand.

@Suite("Model of the in-process broker: queues")
struct QueueModelTests {
    struct LimitRow: CustomTestStringConvertible, Sendable {
        let arguments: FieldTable
        /// Which publishes are accepted, what is left, and what died.
        let accepted: [Bool]
        let left: [String]
        let dead: [String]
        var testDescription: String { "\(self.arguments)" }

        init(_ arguments: FieldTable, _ accepted: [Bool], left: [String], dead: [String] = []) {
            self.arguments = arguments
            self.accepted = accepted
            self.left = left
            self.dead = dead
        }
    }

    static let limits = [
        LimitRow([:], [true, true, true], left: ["a", "bb", "c"]),
        LimitRow(["x-max-length": 2], [true, true, true], left: ["bb", "c"]),
        LimitRow(["x-max-length": 0], [true, true, true], left: []),
        LimitRow(["x-max-length-bytes": 3], [true, true, true], left: ["bb", "c"]),
        LimitRow(["x-max-length-bytes": 2], [true, true, true], left: ["c"]),
        LimitRow(
            ["x-max-length": 2, "x-dead-letter-exchange": ""],
            [true, true, true],
            left: ["bb", "c"],
            dead: ["a"]
        ),
        LimitRow(["x-max-length": 2, "x-overflow": "reject-publish"], [true, true, false], left: ["a", "bb"]),
        LimitRow(["x-max-length-bytes": 2, "x-overflow": "reject-publish"], [true, false, true], left: ["a", "c"]),
        LimitRow(
            ["x-max-length": 1, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": ""],
            [true, false, false],
            left: ["a"],
            dead: ["bb", "c"]
        ),
    ]

    @Test("A limit of length or octets drops or refuses messages", arguments: limits)
    func limit(_ row: LimitRow) throws {
        let stage = ModelStage()
        let queue = try stage.queue(row.arguments)
        #expect(["a", "bb", "c"].map { queue.publish(.text($0)) } == row.accepted)
        stage.turn()
        var left: [String] = []
        while let entry = queue.take(isAutomatic: true) { left.append(entry.message.text) }
        #expect(left == row.left)
        #expect(stage.dead.map(\.text) == row.dead)
        #expect(stage.dead.allSatisfy { $0.reason == .maximumLength })
        #expect(stage.host.usedOctets == 0)
    }

    struct ExpiryRow: CustomTestStringConvertible, Sendable {
        let ofQueue: UInt64?
        let ofMessage: UInt64?
        /// Milliseconds after which it is still there, and after which it has gone.
        let lives: UInt64
        let dies: UInt64
        var testDescription: String {
            "queue \(self.ofQueue.map { "\($0)" } ?? "-"), message \(self.ofMessage.map { "\($0)" } ?? "-")"
        }
    }

    static let expiries = [
        ExpiryRow(ofQueue: 100, ofMessage: nil, lives: 99, dies: 100),
        ExpiryRow(ofQueue: nil, ofMessage: 50, lives: 49, dies: 50),
        ExpiryRow(ofQueue: 100, ofMessage: 50, lives: 49, dies: 50),
        ExpiryRow(ofQueue: 50, ofMessage: 100, lives: 49, dies: 50),
    ]

    @Test("The shorter time to live counts", arguments: expiries)
    func expiry(_ row: ExpiryRow) throws {
        let stage = ModelStage()
        var arguments: FieldTable = ["x-dead-letter-exchange": ""]
        if let ofQueue = row.ofQueue { arguments["x-message-ttl"] = .int64(Int64(ofQueue)) }
        let queue = try stage.queue(arguments)
        #expect(queue.publish(.text("m", timeToLive: row.ofMessage)))
        stage.turn()
        let deadline = try #require(stage.timers.last)
        #expect(deadline == stage.now + row.dies * 1_000_000)
        stage.pass(milliseconds: row.lives)
        queue.service()
        #expect(queue.ready.count == 1)
        stage.pass(milliseconds: row.dies - row.lives)
        queue.timerFired()
        #expect(queue.ready.count == 0)
        #expect(stage.dead.map(\.text) == ["m"])
        #expect(stage.dead.map(\.reason) == [.expired])
    }

    @Test("The longest times a client can name do not trap", arguments: [Int64.max, 0xFFFF_FFFF_FFFF, 1 << 42])
    func longestTimes(milliseconds: Int64) throws {
        let stage = ModelStage()
        let queue = try stage.queue(["x-message-ttl": .int64(milliseconds), "x-expires": .int64(milliseconds)])
        let traits = try MessageTraits(BasicProperties(expiration: "\(milliseconds)"), user: "guest", version: .v4_3)
        #expect(queue.publish(.text("m", timeToLive: traits.timeToLive)))
        stage.turn()
        stage.pass(milliseconds: 1 << 32)
        queue.timerFired()
        #expect(queue.ready.count == 1)
        #expect(stage.host.queues["q"] != nil)
    }

    @Test("A message with a time to live of zero reaches only a waiting consumer")
    func zero() throws {
        let stage = ModelStage()
        let queue = try stage.queue(["x-message-ttl": 0])
        #expect(queue.publish(.text("lost")))
        #expect(queue.ready.count == 0)
        let (_, sink) = try stage.consumer("c", on: queue)
        #expect(queue.publish(.text("taken")))
        #expect(sink.texts == ["taken"])
    }

    @Test("x-expires counts from the last use, and not while a consumer exists")
    func expires() throws {
        let stage = ModelStage()
        let queue = try stage.queue(["x-expires": 100])
        stage.pass(milliseconds: 80)
        _ = try stage.queue(["x-expires": 100])
        stage.pass(milliseconds: 80)
        queue.timerFired()
        #expect(stage.host.queues["q"] != nil)
        let (consumer, _) = try stage.consumer("c", on: queue)
        stage.pass(milliseconds: 200)
        queue.timerFired()
        #expect(stage.host.queues["q"] != nil)
        queue.remove(consumer)
        stage.pass(milliseconds: 100)
        queue.timerFired()
        #expect(stage.host.queues["q"] == nil)
    }

    @Test("A quorum queue delivers requeued messages first; failures count towards its limit, other returns do not")
    func requeue() throws {
        let stage = ModelStage()
        let arguments: FieldTable = [
            "x-queue-type": "quorum", "x-delivery-limit": 1, "x-dead-letter-exchange": "",
        ]
        let queue = try stage.queue(durable: true, arguments)
        for text in ["a", "b", "c"] { #expect(queue.publish(.text(text))) }
        let taken = [queue.take(isAutomatic: false), queue.take(isAutomatic: false)].compactMap { $0 }
        #expect(queue.unacknowledged == 2)
        queue.requeued(taken.reversed(), isFailure: true)
        #expect(queue.unacknowledged == 0)
        let again = try #require(queue.take(isAutomatic: false))
        #expect(again.message.text == "b")
        #expect(again.isRedelivered)
        let headers = queue.message(of: again, isGet: false).properties.headers
        #expect(headers?["x-delivery-count"] == .int64(1))
        #expect(headers?["x-acquired-count"] == .int64(1))
        queue.requeued([again], isFailure: false)
        #expect(stage.dead.isEmpty)
        #expect(queue.take(isAutomatic: false)?.message.text == "a")
        queue.requeued([try #require(queue.take(isAutomatic: false))], isFailure: true)
        #expect(stage.dead.map(\.text) == ["b"])
        #expect(stage.dead.map(\.reason) == [.deliveryLimit])
        queue.rejected(try #require(queue.take(isAutomatic: false)))
        #expect(stage.dead.map(\.reason) == [.deliveryLimit, .rejected])
        #expect(queue.unacknowledged == 1)
    }

    @Test("Consumers are served round robin within a priority; the higher comes first while it has room")
    func turns() throws {
        let stage = ModelStage()
        let queue = try stage.queue()
        let (_, low) = try stage.consumer("low", on: queue, priority: -1)
        let (first, one) = try stage.consumer("one", on: queue, prefetch: 2)
        let (_, two) = try stage.consumer("two", on: queue, prefetch: 1)
        for text in ["a", "b", "c", "d"] { #expect(queue.publish(.text(text))) }
        stage.turn()
        #expect(one.texts == ["a", "c"])
        #expect(two.texts == ["b"])
        #expect(low.texts == ["d"])
        first.unacknowledged -= 1
        queue.acknowledged(one.entries[0])
        #expect(queue.publish(.text("e")))
        stage.turn()
        #expect(one.texts == ["a", "c", "e"])
        low.isFull = true
        #expect(queue.publish(.text("f")))
        stage.turn()
        #expect(queue.ready.count == 1)
        queue.remove(first)
        #expect(queue.consumers.count == 2)
        low.isFull = false
        queue.service()
        #expect(low.texts == ["d", "f"])
    }

    @Test("A single active consumer gets all messages until it ends")
    func singleActive() throws {
        let stage = ModelStage()
        let queue = try stage.queue(["x-single-active-consumer": .bool(true)])
        let (first, one) = try stage.consumer("one", on: queue, prefetch: 1)
        let (_, two) = try stage.consumer("two", on: queue, priority: 5)
        for text in ["a", "b"] { #expect(queue.publish(.text(text))) }
        stage.turn()
        #expect(one.texts == ["a"])
        #expect(two.texts == [])
        queue.remove(first)
        stage.turn()
        #expect(two.texts == ["b"])
    }

    @Test("Exclusive use excludes other consumers, and other consumers exclude it")
    func exclusive() throws {
        let stage = ModelStage()
        let queue = try stage.queue()
        let (consumer, _) = try stage.consumer("c", on: queue)
        let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"
        #expect(
            refusal { () throws(Refusal) in _ = try stage.consumer("x", on: queue, isExclusive: true) } == text
        )
        queue.remove(consumer)
        _ = try stage.consumer("x", on: queue, isExclusive: true)
        #expect(refusal { () throws(Refusal) in _ = try stage.consumer("y", on: queue) } == text)
    }

    @Test("A deleted queue notifies its consumers, and drops their unacknowledged messages")
    func deleted() throws {
        let stage = ModelStage()
        let queue = try stage.queue(["x-dead-letter-exchange": ""])
        let (_, sink) = try stage.consumer("c", on: queue, prefetch: 2)
        for text in ["a", "b", "c"] { #expect(queue.publish(.text(text))) }
        stage.turn()
        let held = sink.takeAll()
        stage.host.delete(queue)
        #expect(sink.isCancelled)
        queue.acknowledged(held[0])
        queue.rejected(held[1])
        #expect(queue.unacknowledged == 0)
        #expect(stage.dead.isEmpty)
        #expect(queue.ready.count == 0)
    }
}
