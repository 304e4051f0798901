// SPDX-License-Identifier: Apache-2.0
import Histogram
import Testing

@testable import AMQPBench

@Suite("Schedule")
struct ScheduleTests {
    @Test("The producers together keep the rate without gaps or doubles", arguments: [1, 3, 1000])
    func shares(_ shares: Int) {
        var times: [UInt64] = []
        for share in 0..<shares {
            var schedule = Schedule(rate: 10_000, share: share, of: shares, start: 1_000, isOpenLoop: true)
            while schedule.due < 1_000_001_000 {
                times.append(schedule.due)
                schedule.advance(now: schedule.due)
            }
        }
        times.sort()
        #expect(times.count == 10_000)
        let gaps = zip(times, times.dropFirst()).map { $1 - $0 }
        #expect(gaps.allSatisfy { 99_998...100_002 ~= $0 })
    }

    @Test("An open loop does not move its schedule, however late it is")
    func openLoop() {
        var schedule = Schedule(rate: 1000, share: 0, of: 1, start: 0, isOpenLoop: true)
        schedule.advance(now: 5_000_000_000)
        #expect(schedule.due == 1_000_000)
    }

    @Test("Elsewhere no more than 100 ms are caught up with")
    func credit() {
        var schedule = Schedule(rate: 1000, share: 0, of: 1, start: 0, isOpenLoop: false)
        schedule.advance(now: 100_000_000)
        #expect(schedule.due == 1_000_000)
        schedule.advance(now: 5_001_000_000)
        #expect(schedule.due == 4_901_000_000)
    }

    @Test("What is left out after a stall is told with the times it was due: latencies have it", arguments: [1, 4])
    func omitted(_ shares: Int) {
        let second: UInt64 = 1_000_000_000
        var latency = LatencyMeter.emptyHistogram
        for share in 0..<shares {
            // Ten seconds of 2 000/s, in which nothing gets through from the fourth to the sixth.
            var schedule = Schedule(rate: 2000, share: share, of: shares, start: 0, isOpenLoop: false)
            while schedule.due < 10 * second {
                let due = schedule.due
                let now = 4 * second..<6 * second ~= due ? 6 * second : due
                latency.record(now - due)
                for due in schedule.advance(now: now) ?? [] { latency.record(now - due) }
            }
        }
        #expect(latency.totalCount == 20_000)
        for (quantile, expected) in [(90, 1.0), (99, 1.9), (99.9, 1.99)] {
            let value = Double(latency.valueAtPercentile(quantile)) / 1e9
            #expect(abs(value - expected) < 0.01, "p\(quantile) is \(value) s")
        }
    }

    @Test("A stall in an open loop is in the maximum and the percentiles as arithmetic says", arguments: [1, 1000])
    func stall(_ producers: Int) {
        // Ten seconds of 5 000/s, in which nothing gets through from the fourth to the sixth.
        let second: UInt64 = 1_000_000_000
        var latency = LatencyMeter.emptyHistogram
        for share in 0..<producers {
            var schedule = Schedule(rate: 5000, share: share, of: producers, start: 0, isOpenLoop: true)
            while schedule.due < 10 * second {
                let due = schedule.due
                let arrival = 4 * second..<6 * second ~= due ? 6 * second : due
                latency.record(arrival - due)
                schedule.advance(now: arrival)
            }
        }
        #expect(latency.totalCount == 50_000)
        // The quantile q is s − (1 − q) · T; the histogram keeps three digits.
        for (quantile, expected) in [(90, 1.0), (99, 1.9), (99.9, 1.99), (100, 2.0)] {
            let value = Double(latency.valueAtPercentile(quantile)) / 1e9
            #expect(abs(value - expected) < 0.003, "p\(quantile) is \(value) s")
        }
        #expect(latency.valueAtPercentile(79) == 0)
    }

    @Test("Rounding does not add up over many messages")
    func noDrift() {
        var schedule = Schedule(rate: 7, share: 0, of: 1, start: 0, isOpenLoop: true)
        for _ in 0..<70_000 { schedule.advance(now: 0) }
        #expect(schedule.due == 10_000_000_000_000)
    }
}
