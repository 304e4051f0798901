// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Wire
import Testing

// OutboundQueueTests: who writes what was appended, as dialogues without a socket; and who waits for room.

@Suite("Outbound queue")
struct OutboundQueueTests {
    private static func queue(appended count: Int, limit: Int = 100) -> OutboundQueue {
        var queue = OutboundQueue(limit: limit)
        for _ in 0..<count { queue.fill.append(7 as UInt8) }
        return queue
    }

    @Test("A burst wakes the loop once; the loop takes it and returns the token")
    func burst() {
        var queue = Self.queue(appended: 1)
        var steps: [CallerStep] = []
        for _ in 0..<3 { steps.append(queue.scheduleFlush()) }
        #expect(steps == [.wakeLoop, .none, .none])
        let isIdle = queue.isIdle
        #expect(!isIdle)
        var step = queue.beginFlush(hasOutput: false)
        #expect(step == .take)
        queue.loopTook(true)
        // While the loop writes, nobody wakes it: it looks again before it returns the token.
        var next = queue.scheduleFlush()
        #expect(next == .none)
        queue.loopTook(false)
        next = queue.scheduleFlush()
        #expect(next == .wakeLoop)
        step = queue.beginFlush(hasOutput: false)
        #expect(step == .take)
    }

    @Test("The loop continues after a full socket with what it took")
    func full() {
        var queue = Self.queue(appended: 1)
        _ = queue.scheduleFlush()
        _ = queue.beginFlush(hasOutput: false)
        queue.loopTook(true)
        let (next, step) = (queue.scheduleFlush(), queue.beginFlush(hasOutput: false))
        #expect(next == .none)
        #expect(step == .write)
    }

    @Test("A transport with octets of its own is written first, though nothing was appended")
    func secured() {
        var queue = Self.queue(appended: 0)
        let step = queue.beginFlush(hasOutput: true)
        #expect(step == .write)
        queue.loopTook(false)
        let isIdle = queue.isIdle
        #expect(isIdle)
    }

    @Test("The loop leaves a caller that writes alone; the caller wakes it for what was appended meanwhile")
    func caller() {
        var queue = Self.queue(appended: 1)
        queue.callerTakes()
        let (next, step) = (queue.scheduleFlush(), queue.beginFlush(hasOutput: true))
        #expect(next == .none)
        #expect(step == .leave)
        let end = queue.callerEnded(hasMore: true)
        #expect(end == .wakeLoop)
        let again = (queue.scheduleFlush(), queue.beginFlush(hasOutput: false))
        #expect(again == (.none, .take))
    }

    @Test("A caller that wrote all leaves an idle queue; one that could not passes the token to the loop")
    func callerEnds() {
        var queue = Self.queue(appended: 1)
        queue.callerTakes()
        let end = queue.callerEnded(hasMore: false)
        #expect(end == .none)
        let isIdle = queue.isIdle
        #expect(isIdle)
        queue.callerTakes()
        queue.giveToLoop()
        let next = (queue.scheduleFlush(), queue.beginFlush(hasOutput: false))
        #expect(next == (.none, .write))
    }

    /// Octets appended and whether publishers wait, and whether those that wait may try again.
    static let rooms: [(count: Int, isFull: Bool, wakes: Bool)] = [
        (0, false, true), (50, false, true), (51, false, false),
        (99, false, false), (100, true, false), (101, true, false),
    ]

    @Test("Publishers wait from the limit on, and try again once half of it is free", arguments: rooms)
    func room(_ row: (count: Int, isFull: Bool, wakes: Bool)) {
        var queue = Self.queue(appended: row.count)
        let isFull = queue.isFull
        #expect(isFull == row.isFull)
        _ = queue.waitForRoom(5, on: ChannelNumber(rawValue: 1))
        _ = queue.waitForRoom(6, on: ChannelNumber(rawValue: 2))
        let woken = queue.takeWaiters()
        #expect(woken == (row.wakes ? [5, 6] : []))
        let hasWaiters = queue.hasWaiters
        #expect(hasWaiters == !row.wakes)
    }

    @Test("A publisher that gives up, or whose channel ends, waits no more")
    func leaving() {
        var queue = Self.queue(appended: 0)
        let (one, two) = (ChannelNumber(rawValue: 1), ChannelNumber(rawValue: 2))
        let first = queue.waitForRoom(5, on: one)
        _ = queue.waitForRoom(6, on: two)
        _ = queue.waitForRoom(7, on: two)
        _ = queue.waitForRoom(8, on: one)
        queue.stopWaiting(first)
        let ended = queue.takeWaiters(of: two)
        #expect(ended == [6, 7])
        let left = queue.takeWaiters()
        #expect(left == [8])
    }
}
