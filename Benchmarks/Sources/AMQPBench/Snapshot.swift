// SPDX-License-Identifier: Apache-2.0
import AMQP091

// Snapshot: every counter of a run at one moment. Rates are differences of two.

/// The counters of a run at one moment.
struct Snapshot: Sendable {
    /// The monotonic clock, nanoseconds.
    var time: UInt64
    var counts = Report.Counts()
    /// Publishes the broker has not answered yet.
    var inFlight: UInt64 = 0
    var client: ProcessUsage
    /// Processor time of the broker's processes.
    var brokerCPU: BrokerCPU?

    /// All counters as they are now.
    init(meters: RunMeters, publishing: [Lane], broker: BrokerUsage?) {
        self.time = MonotonicClock.now
        self.client = .now
        self.brokerCPU = broker?.now()
        for lane in publishing {
            let confirms = lane.confirmCounts
            self.counts.confirmed += confirms.confirmed
            self.counts.nacked += confirms.nacked
            self.counts.returned += confirms.returned
            self.counts.unknown += confirms.unknown
            self.inFlight += confirms.unconfirmed
        }
        self.counts.published = meters.published.sum
        self.counts.consumed = meters.consumed.sum
        self.counts.redelivered = meters.redelivered.sum
    }

    /// Seconds since an earlier one.
    func seconds(since earlier: Snapshot) -> Double { Double(self.time - earlier.time) / 1e9 }

    /// Percent of one core since an earlier one.
    func clientPercent(since earlier: Snapshot) -> Double {
        Self.percent(earlier.client.cpuMicroseconds, self.client.cpuMicroseconds, self.seconds(since: earlier))
    }

    /// Percent of one core since an earlier one; nil for a broker that was not started here.
    func brokerPercent(since earlier: Snapshot) -> Double? {
        // Nothing is said of a broker that was killed in between: what it had used is gone with it.
        guard let now = self.brokerCPU, let before = earlier.brokerCPU, let used = now.since(before) else { return nil }
        return Self.percent(0, used, self.seconds(since: earlier))
    }

    private static func percent(_ before: UInt64, _ after: UInt64, _ seconds: Double) -> Double {
        seconds > 0 && after > before ? Double(after - before) / 1e4 / seconds : 0
    }
}

extension Report.Interval {
    /// The interval between two moments.
    init(
        from start: Snapshot,
        to end: Snapshot,
        begin: Snapshot,
        isWarmup: Bool,
        confirm: LatencySummary?,
        endToEnd: LatencySummary?
    ) {
        let seconds = max(end.seconds(since: start), 1e-9)
        func rate(_ value: KeyPath<Report.Counts, UInt64>) -> Double {
            Double(end.counts[keyPath: value] - start.counts[keyPath: value]) / seconds
        }
        self.time = end.seconds(since: begin)
        self.isWarmup = isWarmup
        self.published = rate(\.published)
        self.confirmed = rate(\.confirmed)
        self.consumed = rate(\.consumed)
        self.inFlight = end.inFlight
        self.clientCPUPercent = end.clientPercent(since: start)
        self.brokerCPUPercent = end.brokerPercent(since: start)
        self.confirmP50 = confirm?.known(0.5)
        self.confirmP99 = confirm?.known(0.99)
        self.confirmMax = confirm?.max
        self.endToEndP50 = endToEnd?.known(0.5)
        self.endToEndP99 = endToEnd?.known(0.99)
        self.endToEndMax = endToEnd?.max
    }
}

extension Report.Totals {
    /// What happened between two moments.
    init(from start: Snapshot, to end: Snapshot, size: Double, intervals: [Report.Interval]) {
        func difference(_ value: KeyPath<Report.Counts, UInt64>) -> UInt64 {
            end.counts[keyPath: value] - start.counts[keyPath: value]
        }
        let seconds = end.seconds(since: start)
        func rate(_ count: UInt64) -> Double { seconds > 0 ? Double(count) / seconds : 0 }
        self.seconds = seconds
        self.published = difference(\.published)
        self.confirmed = difference(\.confirmed)
        self.nacked = difference(\.nacked)
        self.returned = difference(\.returned)
        self.consumed = difference(\.consumed)
        self.redelivered = difference(\.redelivered)
        self.publishedPerSecond = rate(self.published)
        self.confirmedPerSecond = rate(self.confirmed)
        self.consumedPerSecond = rate(self.consumed)
        self.publishedOctetsPerSecond = self.publishedPerSecond * size
        self.consumedOctetsPerSecond = self.consumedPerSecond * size
        let (published, consumed) = (end.counts.published, end.counts.consumed)
        self.inQueue = published > consumed ? published - consumed : 0
        let rates = intervals.filter { !$0.isWarmup }.map { published > 0 ? $0.published : $0.consumed }
        self.steadinessPercent = Statistics.relativeDeviation(rates).map { $0 * 100 }
    }
}

/// The arithmetic of a summary.
enum Statistics {
    /// The mean; zero for no values.
    static func mean(_ values: [Double]) -> Double {
        values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count)
    }

    /// Standard deviation divided by the mean; nil below three values or for a mean of zero.
    static func relativeDeviation(_ values: [Double]) -> Double? {
        guard values.count >= 3 else { return nil }
        let mean = Self.mean(values)
        guard mean > 0 else { return nil }
        let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count - 1)
        return variance.squareRoot() / mean
    }

    /// How much the mean of the last third is above that of the first, as a part of the first; nil below six values.
    static func drift(_ values: [Double]) -> Double? {
        let third = values.count / 3
        guard third >= 2 else { return nil }
        let first = values.prefix(third).reduce(0, +)
        guard first > 0 else { return nil }
        return values.suffix(third).reduce(0, +) / first - 1
    }
}
