// SPDX-License-Identifier: Apache-2.0

// Comparison: whether one result differs from another by more than chance. Pure.
// The samples of a figure are its values in the runs of a result, or in the intervals of its only run. Both sets are
// resampled with replacement many times; the middle 95 % of the changes between their means is the range of the change.

/// Two results, figure by figure.
struct Comparison: Sendable {
    /// What is said of one figure.
    enum Verdict: String, Sendable { case better, worse, noDifference = "no difference" }

    /// One figure.
    struct Row: Sendable {
        var name: String
        var base: Double
        var other: Double
        /// Percent of the base.
        var change: Double
        /// The range in which the change lies with 95 % confidence, percent.
        var range: ClosedRange<Double>
        var baseDeviation: Double?
        var otherDeviation: Double?
        var verdict: Verdict
        /// The values, of microseconds or per second, as text.
        var text: @Sendable (Double) -> String
    }

    var rows: [Row] = []
    /// Why the results should not be compared.
    var differences: [String] = []
    /// True when a figure is worse, or messages were lost that were not before.
    var isRegression = false

    /// Compares two results.
    ///
    /// - Parameters:
    ///   - base: What it is compared with.
    ///   - other: What is compared.
    ///   - tolerance: Changes up to this many percent are no difference.
    init(_ base: Report, _ other: Report, tolerance: Double) {
        for figure in Figure.all {
            let (before, after) = (figure.samples(base), figure.samples(other))
            guard before.count >= 3, after.count >= 3 else { continue }
            let (mean, otherMean) = (Statistics.mean(before), Statistics.mean(after))
            guard mean > 0, otherMean > 0 else { continue }
            let range = Resampling.change(before, after)
            let isGain = { (change: Double) in figure.isBetterHigher ? change > 0 : change < 0 }
            let isClear = range.lowerBound > tolerance || range.upperBound < -tolerance
            let change = (otherMean / mean - 1) * 100
            self.rows.append(
                Row(
                    name: base.options.operation.map { figure.name(of: $0.plural) } ?? figure.name,
                    base: mean,
                    other: otherMean,
                    change: change,
                    range: range,
                    baseDeviation: Statistics.relativeDeviation(before),
                    otherDeviation: Statistics.relativeDeviation(after),
                    verdict: isClear ? (isGain(change) ? .better : .worse) : .noDifference,
                    text: figure.text
                )
            )
        }
        self.differences = Self.differences(base, other)
        self.isRegression = self.rows.contains { $0.verdict == .worse } || (base.isSound && !other.isSound)
    }

    private static func differences(_ base: Report, _ other: Report) -> [String] {
        var found: [String] = []
        func compare(_ name: String, _ value: (Report) -> String) {
            let (before, after) = (value(base), value(other))
            if before != after { found.append("\(name): \(before) and \(after)") }
        }
        compare("broker") { "\($0.broker.product) \($0.broker.version)" }
        compare("machine") { "\($0.machine.model), \($0.machine.cores) cores" }
        compare("build") { $0.tool.build }
        compare("command") { $0.options.command }
        compare("size") { $0.options.size == nil ? "–" : $0.options.sizes.defaultValueDescription }
        compare("producers") { String($0.options.producers) }
        compare("consumers") { String($0.options.consumers) }
        compare("channels") { String($0.options.channels) }
        compare("queues") { "\($0.options.queues) \($0.options.queueType)" }
        // A part of the capacity that was found is another rate each time.
        let isSearched =
            base.options.command == "latency" && other.options.command == "latency"
            && base.options.isRateSearched == true
        if !isSearched { compare("rate") { $0.options.rate.map { Text.rate($0) } ?? "no limit" } }
        compare("confirms") { $0.options.confirms.map(String.init) ?? "none" }
        compare("prefetch") { $0.options.prefetch.map(String.init) ?? "–" }
        compare("ack-every") { $0.options.ackEvery.map(String.init) ?? "–" }
        compare("persistent") { String($0.options.persistent) }
        compare("instances") { String($0.options.instances ?? 1) }
        compare("headers") { String($0.options.headers?.count ?? 0) }
        compare("verify") { String($0.options.verify) }
        return found
    }
}

/// A figure that is compared.
private struct Figure: Sendable {
    var name: String
    var isBetterHigher: Bool
    var ofRun: @Sendable (RunFigures) -> Double?
    var ofInterval: @Sendable (Report.Interval) -> Double?
    var text: @Sendable (Double) -> String

    /// What it is called where operations take the place of messages.
    func name(of operation: String) -> String {
        switch self.name {
        case "published/s": "\(operation)/s"
        case "p99 confirm": "p99"
        default: self.name
        }
    }

    /// The values in the runs, or in the intervals of the only run.
    func samples(_ report: Report) -> [Double] {
        if let runs = report.runs, runs.count >= 3 { return runs.compactMap(self.ofRun) }
        return report.intervals.filter { !$0.isWarmup }.compactMap(self.ofInterval)
    }

    static let all = [
        Figure(
            name: "published/s",
            isBetterHigher: true,
            ofRun: { $0.publishedPerSecond },
            ofInterval: { $0.published },
            text: { Text.count(UInt64($0.rounded())) }
        ),
        Figure(
            name: "consumed/s",
            isBetterHigher: true,
            ofRun: { $0.consumedPerSecond },
            ofInterval: { $0.consumed },
            text: { Text.count(UInt64($0.rounded())) }
        ),
        Figure(
            name: "p99 confirm",
            isBetterHigher: false,
            ofRun: { $0.confirmP99 },
            ofInterval: { $0.confirmP99 },
            text: { Text.milliseconds($0) + " ms" }
        ),
        Figure(
            name: "p99 end to end",
            isBetterHigher: false,
            ofRun: { $0.endToEndP99 },
            ofInterval: { $0.endToEndP99 },
            text: { Text.milliseconds($0) + " ms" }
        ),
        Figure(
            name: "client µs/msg",
            isBetterHigher: false,
            ofRun: { $0.cpuMicrosecondsPerMessage },
            ofInterval: { $0.cpuMicrosecondsPerMessage },
            text: { Text.decimal($0, places: 2) }
        ),
    ]
}

extension Report.Interval {
    /// What a message cost this process; nil when there was none.
    var cpuMicrosecondsPerMessage: Double? {
        let rate = self.published > 0 ? self.published : self.consumed
        return rate > 0 ? self.clientCPUPercent * 1e4 / rate : nil
    }
}

/// The bootstrap.
enum Resampling {
    static let rounds = 4000

    /// The range in which the change between the means lies with 95 % confidence, percent.
    ///
    /// The random numbers are the same each time, so that a comparison gives the same answer again.
    static func change(_ base: [Double], _ other: [Double]) -> ClosedRange<Double> {
        var generator = SplitMix(seed: 0x5EED)
        var changes: [Double] = []
        changes.reserveCapacity(Self.rounds)
        for _ in 0..<Self.rounds {
            let before = Self.mean(base, &generator)
            guard before > 0 else { continue }
            changes.append((Self.mean(other, &generator) / before - 1) * 100)
        }
        guard !changes.isEmpty else { return -100...100 }
        changes.sort()
        return changes[changes.count / 40]...changes[changes.count - 1 - changes.count / 40]
    }

    private static func mean(_ samples: [Double], _ generator: inout SplitMix) -> Double {
        var sum = 0.0
        for _ in samples { sum += samples[Int(generator.next() % UInt64(samples.count))] }
        return sum / Double(samples.count)
    }
}

/// A small generator of random numbers (SplitMix64).
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { self.state = seed }

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var value = self.state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}
