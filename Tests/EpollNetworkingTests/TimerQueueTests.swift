// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking
import Testing

// TimerQueueTests: the pure queue, with "now" as an argument.

@Suite("Timer queue")
struct TimerQueueTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let deadlines: [UInt64]
        var cancelled: [Int] = []
        let now: UInt64
        let fires: [Int]
    }

    static let rows = [
        Row(testDescription: "nothing scheduled", deadlines: [], now: 5, fires: []),
        Row(testDescription: "one, due exactly now", deadlines: [5], now: 5, fires: [0]),
        Row(testDescription: "one, a nanosecond early", deadlines: [6], now: 5, fires: []),
        Row(testDescription: "by deadline, not by arrival", deadlines: [9, 3, 6, 1], now: 9, fires: [3, 1, 2, 0]),
        Row(testDescription: "equal deadlines in order of arrival", deadlines: [4, 4, 4], now: 4, fires: [0, 1, 2]),
        Row(testDescription: "the first cancelled", deadlines: [1, 2, 3], cancelled: [0], now: 3, fires: [1, 2]),
        Row(testDescription: "a middle one cancelled", deadlines: [1, 2, 3], cancelled: [1], now: 3, fires: [0, 2]),
        Row(testDescription: "cancelled twice", deadlines: [1, 2], cancelled: [1, 1], now: 3, fires: [0]),
        Row(testDescription: "all cancelled", deadlines: [3, 2, 1], cancelled: [0, 1, 2], now: 3, fires: []),
    ]

    @Test("Due timers come in order, others stay", arguments: rows)
    func order(_ row: Row) {
        var queue = TimerQueue<Int>()
        let ids = row.deadlines.enumerated().map { queue.schedule($0, at: MonotonicTime(nanoseconds: $1)) }
        for index in row.cancelled { queue.cancel(ids[index]) }
        var fired: [Int] = []
        while let payload = queue.popDue(at: MonotonicTime(nanoseconds: row.now)) { fired.append(payload) }
        #expect(fired == row.fires)
        #expect(queue.count == row.deadlines.count - Set(row.cancelled).count - row.fires.count)
    }

    @Test("A used-up identifier does not cancel a later timer")
    func stale() {
        var queue = TimerQueue<String>()
        let first = queue.schedule("first", at: MonotonicTime(nanoseconds: 1))
        #expect(queue.popDue(at: MonotonicTime(nanoseconds: 1)) == "first")
        let second = queue.schedule("second", at: MonotonicTime(nanoseconds: 2))
        #expect(queue.cancel(first) == nil)
        #expect(queue.count == 1)
        #expect(queue.cancel(second) == "second")
        #expect(queue.isEmpty)
    }

    @Test("Ten thousand timers behave like a sorted list", arguments: [UInt64(1), 2, 3])
    func random(seed: UInt64) {
        var state = seed
        func next(_ bound: UInt64) -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state >> 33) % bound
        }
        var queue = TimerQueue<Int>()
        var model: [(deadline: UInt64, payload: Int, id: TimerID)] = []
        for payload in 0..<10_000 {
            let deadline = next(5000)
            model.append((deadline, payload, queue.schedule(payload, at: MonotonicTime(nanoseconds: deadline))))
            if next(3) == 0 {
                let victim = model.remove(at: Int(next(UInt64(model.count))))
                #expect(queue.cancel(victim.id) == victim.payload)
            }
        }
        model.sort { ($0.deadline, $0.payload) < ($1.deadline, $1.payload) }
        #expect(queue.nextDeadline?.nanoseconds == model.first?.deadline)
        var fired: [Int] = []
        while let payload = queue.popDue(at: .distantFuture) { fired.append(payload) }
        #expect(fired == model.map(\.payload))
    }

    @Test("Payloads are released when a timer fires or is cancelled")
    func releases() {
        final class Token {}
        weak var fired: Token?
        weak var cancelled: Token?
        var queue = TimerQueue<Token>()
        do {
            let first = Token()
            let second = Token()
            fired = first
            cancelled = second
            _ = queue.schedule(first, at: MonotonicTime(nanoseconds: 1))
            let id = queue.schedule(second, at: MonotonicTime(nanoseconds: 2))
            queue.cancel(id)
            _ = queue.popDue(at: MonotonicTime(nanoseconds: 1))
        }
        #expect(fired == nil)
        #expect(cancelled == nil)
    }
}

@Suite("Monotonic time")
struct MonotonicTimeTests {
    @Test(
        "Arithmetic saturates instead of trapping",
        arguments: [
            (UInt64(10), Duration.nanoseconds(5), UInt64(15)), (10, .nanoseconds(-4), 6), (10, .nanoseconds(-11), 0),
            (.max - 1, .nanoseconds(1), .max), (.max, .nanoseconds(1), .max), (1, .seconds(Int64.max), .max),
            (1, .seconds(Int64.min), 0), (1, .seconds(Int64.max) * 10, .max),
            (1, .seconds(Int64.min) * 10, 0), (0, .milliseconds(1500), 1_500_000_000),
            (2_000_000_000, .milliseconds(-1500), 500_000_000),
        ]
    )
    func saturates(start: UInt64, duration: Duration, end: UInt64) {
        #expect(MonotonicTime(nanoseconds: start).advanced(by: duration).nanoseconds == end)
    }

    @Test("The difference of two times is a duration, negative backwards")
    func difference() {
        let early = MonotonicTime(nanoseconds: 3)
        let late = MonotonicTime(nanoseconds: 10)
        #expect(late - early == .nanoseconds(7))
        #expect(early - late == .nanoseconds(-7))
        #expect(MonotonicTime.distantFuture - early == .nanoseconds(Int64.max))
    }

    @Test("The clock does not run backwards")
    func monotonic() {
        var last = MonotonicTime.now
        for _ in 0..<10_000 {
            let now = MonotonicTime.now
            #expect(now >= last)
            last = now
        }
    }
}
