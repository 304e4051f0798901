// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// Threshold: a condition under which a run counts as failed, as `--fail-if 'p99>5ms'`. Pure.

/// One condition of `--fail-if`.
struct Threshold: ExpressibleByArgument, Hashable, Sendable, CustomStringConvertible {
    /// The condition as it was given.
    let description: String
    private let metric: Metric
    private let isUpper: Bool
    private let limit: Double

    /// Reads `METRIC<VALUE` or `METRIC>VALUE`.
    init?(argument: String) {
        self.description = argument
        let text = argument.filter { $0 != " " }
        guard let place = text.firstIndex(where: { $0 == "<" || $0 == ">" }),
            let metric = Metric(name: String(text[..<place])),
            let limit = metric.value(String(text[text.index(after: place)...]))
        else { return nil }
        self.metric = metric
        self.isUpper = text[place] == ">"
        self.limit = limit
    }

    /// What the report says about it when the condition holds; nil when it does not hold.
    ///
    /// What was not measured holds no condition: a run that cannot say fails too.
    func violation(by report: Report) -> String? {
        guard let value = self.metric.of(report) else { return "\(self.description): not measured" }
        guard self.isUpper ? value > self.limit : value < self.limit else { return nil }
        return "\(self.description) (\(self.metric.text(value)))"
    }
}

/// A figure of a report that has a name.
struct Metric: Hashable, Sendable {
    /// What its numbers are.
    enum Unit: Hashable, Sendable { case perSecond, microseconds, octets, count }

    let name: String
    let unit: Unit

    private static let percentiles = ["p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"]
    private static let rates = ["rate", "published", "confirmed", "consumed"]
    private static let counts = [
        "lost", "duplicated", "reordered", "corrupted", "nacked", "returned", "redelivered", "unknown", "unaccounted",
        "censored",
    ]

    /// Nil when there is no such figure.
    init?(name: String) {
        let parts = name.split(separator: ".", maxSplits: 1).map(String.init)
        let isPercentile =
            Self.percentiles.contains(name)
            || parts.count == 2 && ["confirm", "e2e", "lag"].contains(parts[0]) && Self.percentiles.contains(parts[1])
        if isPercentile || name == "cpu" {
            self.unit = .microseconds
        } else if Self.rates.contains(name) {
            self.unit = .perSecond
        } else if Self.counts.contains(name) {
            self.unit = .count
        } else if name == "memory" {
            self.unit = .octets
        } else {
            return nil
        }
        self.name = name
    }

    /// A number with a unit that fits: `5ms`, `50k`, `100m`.
    fileprivate func value(_ text: String) -> Double? {
        let units: [(String, Double)] =
            switch self.unit {
            case .microseconds: [("us", 1), ("µs", 1), ("ms", 1e3), ("s", 1e6)]
            case .perSecond: [("k/s", 1e3), ("/s", 1), ("k", 1e3), ("m", 1e6), ("", 1)]
            case .octets: [("k", 1024), ("m", 1_048_576), ("g", 1_073_741_824), ("", 1)]
            case .count: [("", 1)]
            }
        let lower = text.lowercased()
        guard let (suffix, factor) = units.first(where: { lower.hasSuffix($0.0) }),
            let number = Double(lower.dropLast(suffix.count)), number.isFinite, number >= 0
        else { return nil }
        return number * factor
    }

    /// The figure in a report: microseconds, per second, octets or a count.
    func of(_ report: Report) -> Double? {
        let totals = report.totals
        switch self.name {
        case "rate":
            return report.options.producers > 0 ? totals.publishedPerSecond : totals.consumedPerSecond
        case "published": return totals.publishedPerSecond
        case "confirmed": return totals.confirmedPerSecond
        case "consumed": return totals.consumedPerSecond
        case "lost": return Double(report.lost)
        case "duplicated": return Double(report.verify.duplicated)
        case "reordered": return Double(report.verify.reordered)
        case "corrupted": return Double(report.verify.corrupted)
        case "unknown": return Double(report.wholeRun.unknown)
        case "unaccounted": return Double(report.verify.unaccounted ?? 0)
        case "censored":
            let latencies = [report.latency.confirm, report.latency.endToEnd, report.latency.operation]
            return Double(latencies.compactMap { $0?.censored }.max() ?? 0)
        case "nacked": return Double(totals.nacked)
        case "returned": return Double(totals.returned)
        case "redelivered": return Double(totals.redelivered)
        case "cpu": return report.client.cpuMicrosecondsPerMessage
        case "memory": return Double(report.client.maxResidentOctets)
        default: return self.latency(report)
        }
    }

    private func latency(_ report: Report) -> Double? {
        var percentile = self.name
        var latency = report.options.isOpenLoop ? report.latency.endToEnd : report.latency.confirm
        if latency == nil { latency = report.latency.endToEnd ?? report.latency.operation }
        let kinds = [
            ("confirm.", report.latency.confirm), ("e2e.", report.latency.endToEnd), ("lag.", report.latency.lag),
        ]
        for (prefix, kind) in kinds where self.name.hasPrefix(prefix) {
            percentile = String(self.name.dropFirst(prefix.count))
            latency = kind
        }
        switch percentile {
        case "p50": return latency?.p50
        case "p90": return latency?.p90
        case "p99": return latency?.p99
        case "p99.9": return latency?.p999
        case "p99.99": return latency?.p9999
        case "max": return latency?.max
        default: return latency?.mean
        }
    }

    /// The figure for people.
    func text(_ value: Double) -> String {
        switch self.unit {
        case .perSecond: Text.rate(value)
        case .microseconds where self.name == "cpu": Text.decimal(value, places: 2) + " µs"
        case .microseconds: Text.milliseconds(value) + " ms"
        case .octets: Text.decimal(value / 1_048_576, places: 1) + " MiB"
        case .count: Text.count(UInt64(value))
        }
    }
}
