// SPDX-License-Identifier: Apache-2.0
import Histogram

// ReportMerge: the reports of several instances of the tool as one. Pure. Counts and rates add up, distributions are
// merged sample by sample, what the clients cost adds up too.

/// One report of several.
enum ReportMerge {
    /// Adds up.
    ///
    /// - Parameter reports: At least one, of instances that ran together.
    /// - Returns: The report of all.
    static func merge(_ reports: [Report]) -> Report {
        var sum = reports[0]
        for report in reports.dropFirst() { Self.add(report, to: &sum) }
        let steady = sum.intervals.filter { !$0.isWarmup }
            .map { sum.wholeRun.published > 0 ? $0.published : $0.consumed }
        sum.totals.steadinessPercent = Statistics.relativeDeviation(steady).map { $0 * 100 }
        if sum.totals.published > 0 || sum.totals.consumed > 0 {
            let messages = sum.totals.published > 0 ? sum.totals.published : sum.totals.consumed
            sum.client.cpuMicrosecondsPerMessage = Double(sum.client.cpuMicroseconds) / Double(messages)
        }
        if sum.options.consumers > 0, sum.options.producers > 0 {
            let expected = Arrived.expected(sum.wholeRun, sum.options)
            let there = sum.verify.arrived + sum.verify.corrupted
            sum.lost = sum.ended == .completed ? expected - min(expected, there) : 0
            sum.verify.lost = sum.lost
        }
        sum.totals.inQueue = sum.totals.published - min(sum.totals.published, sum.totals.consumed)
        sum.warnings = Array(Set(reports.flatMap(\.warnings))).sorted()
        return sum
    }

    private static func add(_ report: Report, to sum: inout Report) {
        if report.ended == .failed || sum.ended == .completed {
            sum.ended = report.ended
            sum.failure = sum.failure ?? report.failure
        }
        sum.totals.add(report.totals)
        sum.wholeRun.add(report.wholeRun)
        sum.client.cpuMicroseconds += report.client.cpuMicroseconds
        sum.client.cpuPercent += report.client.cpuPercent
        sum.client.busiestThreadPercent = max(sum.client.busiestThreadPercent, report.client.busiestThreadPercent)
        sum.client.maxResidentOctets = max(sum.client.maxResidentOctets, report.client.maxResidentOctets)
        for kind in [
            \Report.Latencies.confirm, \.endToEnd, \.endToEndFromSend, \.lag, \.operation,
        ] as [WritableKeyPath<Report.Latencies, LatencySummary?>] {
            sum.latency[keyPath: kind] = Self.merge(sum.latency[keyPath: kind], report.latency[keyPath: kind])
        }
        sum.broker.wasBlocked = sum.broker.wasBlocked || report.broker.wasBlocked
        sum.verify.add(report.verify)
        sum.intervals = zip(sum.intervals, report.intervals).map { $0.adding($1) }
    }

    /// One distribution of two.
    static func merge(_ one: LatencySummary?, _ other: LatencySummary?) -> LatencySummary? {
        guard let one, let other else { return one ?? other }
        var histogram = LatencyMeter.emptyHistogram
        for pair in one.histogram + other.histogram where pair.count == 2 {
            histogram.record(pair[0], count: pair[1])
        }
        return LatencySummary(histogram)
    }
}

extension Report.Totals {
    fileprivate mutating func add(_ other: Report.Totals) {
        self.seconds = max(self.seconds, other.seconds)
        self.published += other.published
        self.confirmed += other.confirmed
        self.nacked += other.nacked
        self.returned += other.returned
        self.consumed += other.consumed
        self.redelivered += other.redelivered
        self.publishedPerSecond += other.publishedPerSecond
        self.confirmedPerSecond += other.confirmedPerSecond
        self.consumedPerSecond += other.consumedPerSecond
        self.publishedOctetsPerSecond += other.publishedOctetsPerSecond
        self.consumedOctetsPerSecond += other.consumedOctetsPerSecond
    }
}

extension Report.Counts {
    fileprivate mutating func add(_ other: Report.Counts) {
        self.published += other.published
        self.confirmed += other.confirmed
        self.nacked += other.nacked
        self.returned += other.returned
        self.unknown += other.unknown
        self.consumed += other.consumed
        self.redelivered += other.redelivered
    }
}

extension Report.Verification {
    fileprivate mutating func add(_ other: Report.Verification) {
        self.duplicated += other.duplicated
        self.reordered += other.reordered
        self.corrupted += other.corrupted
        self.foreign += other.foreign
        self.arrived += other.arrived
        // A publisher's messages arrive at any instance; its own only are told here.
        if let publishers = other.publishers { self.publishers = (self.publishers ?? []) + publishers }
        if let consumers = other.consumers {
            let start = self.consumers?.count ?? 0
            self.consumers =
                (self.consumers ?? [])
                + consumers.map { consumer in
                    var consumer = consumer
                    consumer.consumer += start
                    return consumer
                }
        }
    }
}

extension Report.Interval {
    fileprivate func adding(_ other: Report.Interval) -> Report.Interval {
        var sum = self
        sum.published += other.published
        sum.confirmed += other.confirmed
        sum.consumed += other.consumed
        sum.inFlight += other.inFlight
        sum.clientCPUPercent += other.clientCPUPercent
        // Of percentiles the worse stands for both.
        let worse = { (one: Double?, two: Double?) in [one, two].compactMap { $0 }.max() }
        sum.confirmP50 = worse(self.confirmP50, other.confirmP50)
        sum.confirmP99 = worse(self.confirmP99, other.confirmP99)
        sum.confirmMax = worse(self.confirmMax, other.confirmMax)
        sum.endToEndP50 = worse(self.endToEndP50, other.endToEndP50)
        sum.endToEndP99 = worse(self.endToEndP99, other.endToEndP99)
        sum.endToEndMax = worse(self.endToEndMax, other.endToEndMax)
        return sum
    }
}
