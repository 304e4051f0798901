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
        let channels = oldest.map { (channel, sequence) in
            (channel, ConfirmWatch<Int>.Progress(oldest: sequence, hasConfirmed: false, nacked: 0))
        }
        return watch.look(at: channels, isBlocked: isBlocked, now: now) == .silent
    }

    /// Looks at one channel on which everything is settled.
    private static func look(
        _ watch: inout ConfirmWatch<Int>,
        nacked: UInt64,
        hasConfirmed: Bool = false,
        isBlocked: Bool = false,
        now: MonotonicNanoseconds
    ) -> ConfirmWatch<Int>.Finding? {
        let progress = ConfirmWatch<Int>.Progress(oldest: nil, hasConfirmed: hasConfirmed, nacked: nacked)
        return watch.look(at: [(1, progress)], isBlocked: isBlocked, now: now)
    }

    @Test("A publish that stays the oldest unconfirmed one for the limit is overdue")
    func overdue() {
        var watch = ConfirmWatch<Int>(limit: 100, refusalLimit: 300)
        #expect(!Self.look(&watch, [(1, 7)], now: 10))
        #expect(!Self.look(&watch, [(1, 7)], now: 109))
        #expect(Self.look(&watch, [(1, 7)], now: 110))
    }

    @Test("A channel that gets confirms is not overdue, however much it has unconfirmed")
    func advances() {
        var watch = ConfirmWatch<Int>(limit: 100, refusalLimit: 300)
        for step in 0..<10 as Range<UInt64> {
            #expect(!Self.look(&watch, [(1, 7 + step)], now: 99 * step))
        }
        #expect(!Self.look(&watch, [], now: 2000))
        #expect(!Self.look(&watch, [(1, 16)], now: 3000))
    }

    @Test("A channel without confirms is overdue beside one with confirms")
    func channels() {
        var watch = ConfirmWatch<Int>(limit: 100, refusalLimit: 300)
        #expect(!Self.look(&watch, [(1, 7), (2, 1)], now: 0))
        #expect(!Self.look(&watch, [(1, 8), (2, 1)], now: 99))
        #expect(Self.look(&watch, [(1, 9), (2, 1)], now: 100))
    }

    @Test("A channel that nacks every publish for the limit, and confirms none, is reported")
    func refusing() {
        var watch = ConfirmWatch<Int>(limit: 100, refusalLimit: 300)
        #expect(Self.look(&watch, nacked: 0, now: 0) == nil)
        #expect(Self.look(&watch, nacked: 1, now: 10) == nil)
        #expect(Self.look(&watch, nacked: 2, now: 309) == nil)
        #expect(Self.look(&watch, nacked: 2, now: 310) == .refusing)
    }

    @Test("A single nack, nacks beside confirms, and a blocked broker are no reason to drop a connection")
    func notRefusing() {
        var watch = ConfirmWatch<Int>(limit: 100, refusalLimit: 300)
        #expect(Self.look(&watch, nacked: 1, now: 0) == nil)
        #expect(Self.look(&watch, nacked: 1, now: 1000) == nil)
        #expect(Self.look(&watch, nacked: 2, hasConfirmed: true, now: 2000) == nil)
        #expect(Self.look(&watch, nacked: 3, now: 2100) == nil)
        #expect(Self.look(&watch, nacked: 4, isBlocked: true, now: 2400) == nil)
        #expect(Self.look(&watch, nacked: 5, now: 2500) == nil)
    }

    @Test("Time in which the broker blocks publishers does not count")
    func blocked() {
        var watch = ConfirmWatch<Int>(limit: 100, refusalLimit: 300)
        #expect(!Self.look(&watch, [(1, 7)], now: 0))
        #expect(!Self.look(&watch, [(1, 7)], isBlocked: true, now: 500))
        #expect(!Self.look(&watch, [(1, 7)], now: 501))
        #expect(!Self.look(&watch, [(1, 7)], now: 600))
        #expect(Self.look(&watch, [(1, 7)], now: 601))
    }
}
