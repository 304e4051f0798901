// SPDX-License-Identifier: Apache-2.0
import Histogram
import Testing

@testable import AMQPBench

@Suite("Times of confirms")
struct ConfirmTimesTests {
    /// Everything that was recorded.
    static func histogram(_ meter: LatencyMeter) -> LatencySummary? {
        var (total, tick) = (LatencyMeter.emptyHistogram, LatencyMeter.emptyHistogram)
        meter.drain(into: &total, tick: &tick)
        return LatencySummary(total)
    }

    @Test("Each publish is timed from when it was due to the sweep that found it ended")
    func times() {
        let meter = LatencyMeter()
        let times = ConfirmTimes(window: 10, meter: meter)
        for due in [1000, 2000, 3000] as [UInt64] { times.note(due) { 0 } }
        times.sweep(2, now: 5000)
        times.sweep(2, now: 9000)
        times.sweep(3, now: 13_000)
        let summary = Self.histogram(meter)
        #expect(summary?.count == 3)
        // The histogram keeps three digits.
        for (row, value) in zip(summary?.histogram ?? [], [3000, 4000, 10_000] as [UInt64]) {
            #expect(value...value + value / 500 ~= row[0] && row[1] == 1)
        }
        #expect(times.censored == 0)
    }

    @Test("What is never confirmed counts with its age, once")
    func censored() {
        let meter = LatencyMeter()
        let times = ConfirmTimes(window: 10, meter: meter)
        for _ in 0..<5 { times.note(1000) { 0 } }
        times.end(2, now: 2000)
        times.end(5, now: 9000)
        times.sweep(5, now: 9000)
        #expect(times.censored == 3)
        #expect(Self.histogram(meter)?.count == 5)
    }

    @Test("A publish that failed before it was written is taken back")
    func takeBack() {
        let times = ConfirmTimes(window: 10, meter: LatencyMeter())
        times.note(1000) { 0 }
        times.takeBack()
        #expect(times.published == 0)
    }

    @Test("A reader that is far behind is caught up with before a slot is used again")
    func full() {
        let meter = LatencyMeter()
        let times = ConfirmTimes(window: 100, meter: meter)
        for number in 0..<10_000 as Range<UInt64> { times.note(1) { number } }
        times.end(10_000, now: 2)
        #expect(Self.histogram(meter)?.count == 10_000)
        #expect(times.censored == 0)
    }

    @Test("Only messages that were due in the measured time are measured; all are in the tick")
    func measured() {
        let time = MeasuredTime()
        let meter = LatencyMeter(time)
        time.set(from: 100, to: 200)
        for due in [99, 100, 199, 200] as [UInt64] { meter.record(5, due: due) }
        var (total, tick) = (LatencyMeter.emptyHistogram, LatencyMeter.emptyHistogram)
        meter.drain(into: &total, tick: &tick)
        #expect(total.totalCount == 2)
        #expect(tick.totalCount == 4)
    }

    @Test("An open loop owes what was due before the end, for a time")
    func owed() {
        let time = MeasuredTime()
        #expect(!time.owes(1, now: 2))
        time.set(from: 0, to: 100)
        #expect(time.owes(99, now: 150))
        #expect(!time.owes(100, now: 150))
        #expect(!time.owes(99, now: 100 + MeasuredTime.longestCatchUp))
        time.close(at: 50)
        #expect(!time.owes(99, now: 150))
    }
}
