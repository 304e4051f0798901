// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import Testing

// ConfirmWatch as dialogues; channels are named by numbers.

@Suite("Confirm watch")
struct ConfirmWatchTests {
    private static func look(
        _ watch: inout ConfirmWatch<Int>,
        _ oldest: [(Int, UInt64)],
        isBlocked: Bool = false,
        now: MonotonicNanoseconds
    ) -> Bool {
        watch.look(oldest: oldest, isBlocked: isBlocked, now: now)
    }

    @Test("A publish that stays the oldest unconfirmed one for the limit is overdue")
    func overdue() {
        var watch = ConfirmWatch<Int>(limit: 100)
        #expect(!Self.look(&watch, [(1, 7)], now: 10))
        #expect(!Self.look(&watch, [(1, 7)], now: 109))
        #expect(Self.look(&watch, [(1, 7)], now: 110))
    }

    @Test("A channel that gets confirms is not overdue, however much it has unconfirmed")
    func advances() {
        var watch = ConfirmWatch<Int>(limit: 100)
        for step in 0..<10 as Range<UInt64> {
            #expect(!Self.look(&watch, [(1, 7 + step)], now: 99 * step))
        }
        #expect(!Self.look(&watch, [], now: 2000))
        #expect(!Self.look(&watch, [(1, 16)], now: 3000))
    }

    @Test("One channel that gets none is overdue beside one that does")
    func channels() {
        var watch = ConfirmWatch<Int>(limit: 100)
        #expect(!Self.look(&watch, [(1, 7), (2, 1)], now: 0))
        #expect(!Self.look(&watch, [(1, 8), (2, 1)], now: 99))
        #expect(Self.look(&watch, [(1, 9), (2, 1)], now: 100))
    }

    @Test("Time in which the broker blocks publishers does not count")
    func blocked() {
        var watch = ConfirmWatch<Int>(limit: 100)
        #expect(!Self.look(&watch, [(1, 7)], now: 0))
        #expect(!Self.look(&watch, [(1, 7)], isBlocked: true, now: 500))
        #expect(!Self.look(&watch, [(1, 7)], now: 501))
        #expect(!Self.look(&watch, [(1, 7)], now: 600))
        #expect(Self.look(&watch, [(1, 7)], now: 601))
    }
}
