// SPDX-License-Identifier: Apache-2.0
import Foundation

// PercentileDistribution: a distribution of latencies as the files .hgrm have it, which HdrHistogram's plotters read: a line
// for each of five steps in every half of the way to 100 %. Counts may have more than 32 bits. Pure.

/// A distribution in the text form of HdrHistogram.
enum PercentileDistribution {
    private static let stepsPerHalf = 5.0
    /// Percent left beyond which no step is told from 100 %.
    private static let finest = 1e-10

    /// The text; times in milliseconds, as plotters expect.
    static func text(_ latency: LatencySummary) -> String {
        let pairs = latency.histogram.filter { $0.count == 2 && $0[1] > 0 }.map { (value: $0[0], count: Double($0[1])) }
        let total = pairs.reduce(0) { $0 + $1.count }
        guard total > 0 else { return "" }
        var lines = [
            Text.right("Value", 12) + " " + Text.right("Percentile", 14) + " " + Text.right("TotalCount", 10) + " "
                + Text.right("1/(1-Percentile)", 14), "",
        ]
        func line(_ value: UInt64, _ part: Double, _ seen: Double) {
            let columns = [
                Text.right(Text.decimal(Double(value) / 1e6, places: 3), 12), Text.decimal(part, places: 12),
                Text.right(Text.decimal(seen, places: 0), 10),
            ]
            let rest = part < 1 ? [Text.right(Text.decimal(1 / (1 - part), places: 2), 14)] : []
            lines.append((columns + rest).joined(separator: " "))
        }
        var (seen, level) = (0.0, 0.0)
        for pair in pairs {
            seen += pair.count
            while seen < total, level <= seen / total * 100 {
                line(pair.value, level / 100, seen)
                level = Self.level(after: level)
            }
        }
        if let last = pairs.last {
            if level < 100 { line(last.value, level / 100, total) }
            line(last.value, 1, total)
        }
        lines += Self.closing(pairs, total)
        return lines.joined(separator: "\n") + "\n"
    }

    /// The next step, percent: half as far as before whenever half of the way that was left is gone.
    private static func level(after level: Double) -> Double {
        let left = 100 - level
        guard left > Self.finest else { return .infinity }
        let half = 50 / exp2((log2(100 / left)).rounded(.down))
        return level + half / Self.stepsPerHalf
    }

    /// The middle of the values that are counted together with one.
    private static func middle(_ value: UInt64) -> Double {
        let width = UInt64(1) << UInt64(max(0, UInt64.bitWidth - value.leadingZeroBitCount - HdrEncoding.subBucketBits))
        return Double(value / width * width + width / 2)
    }

    private static func closing(_ pairs: [(value: UInt64, count: Double)], _ total: Double) -> [String] {
        let mean = pairs.reduce(0) { $0 + Self.middle($1.value) * $1.count } / total
        let variance = pairs.reduce(0) { $0 + pow(Self.middle($1.value) - mean, 2) * $1.count } / total
        func column(_ value: Double, _ places: Int) -> String { Text.right(Text.decimal(value, places: places), 12) }
        let last = Double(pairs.last?.value ?? 0)
        let (buckets, subBuckets) = (Double(HdrEncoding.buckets), Double(HdrEncoding.subBuckets))
        return [
            "#[Mean    = \(column(mean / 1e6, 3)), StdDeviation   = \(column(variance.squareRoot() / 1e6, 3))]",
            "#[Max     = \(column(last / 1e6, 3)), Total count    = \(column(total, 0))]",
            "#[Buckets = \(column(buckets, 0)), SubBuckets     = \(column(subBuckets, 0))]",
        ]
    }
}
