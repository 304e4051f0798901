// SPDX-License-Identifier: Apache-2.0
import Foundation

// Warnings: what a reader of a result should distrust. At most five, the weightiest first.

/// The warnings of a run.
enum Warnings {
    static let limit = 5

    /// Those that the report itself gives reason for, and those of the machine as it is now.
    static func of(_ report: Report, machine: [String] = Warnings.machine()) -> [String] {
        var found: [String] = []
        if report.tool.build != "release" { found.append("debug build: the numbers mean nothing") }
        if report.broker.wasBlocked { found.append("the broker blocked publishers for a time (memory or disk alarm)") }
        if report.client.busiestThreadPercent > 90 {
            let share = Text.percent(report.client.busiestThreadPercent)
            found.append("the client is the limit, not the broker: its busiest thread used \(share) of a core")
        }
        if let rate = report.options.rate, report.ended == .completed,
            report.options.count == nil, report.totals.publishedPerSecond < rate * 0.95
        {
            let share = Text.percent(report.totals.publishedPerSecond / rate * 100)
            found.append(
                "the rate was not reached: \(Text.rate(report.totals.publishedPerSecond)), \(share) of \(Text.rate(rate))"
            )
        }
        if let waited = report.backlogWaitPercent, waited > 1 {
            let share = Text.percent(waited)
            found.append(
                "the consumers were the limit: producers waited \(share) of the time for the backlog to shrink (--backlog)"
            )
        }
        let options = report.options
        if options.predeclared == true, options.exchange != nil, options.consumers == 0, !options.mandatory {
            found.append("the broker confirms messages that no queue takes: --mandatory has them returned and counted")
        }
        let isShort = report.options.count == nil && report.ended == .completed && report.totals.seconds < 9.9
        if isShort { found.append("fewer than 10 s were measured") }
        let rates = report.intervals.filter { !$0.isWarmup }
            .map { report.options.producers > 0 ? $0.published : $0.consumed }
        if let drift = Statistics.drift(rates), abs(drift) > 0.1 {
            let sign = drift > 0 ? "+" : "−"
            let percent = Text.percent(abs(drift) * 100)
            found.append("the rate drifted by \(sign)\(percent) between the first and the last third")
        }
        return Array((found + machine).prefix(Self.limit))
    }

    /// What about this machine spoils measurements.
    static func machine() -> [String] {
        var found: [String] = []
        let governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
        if let name = try? String(contentsOfFile: governor, encoding: .utf8)
            .trimmingCharacters(in: .whitespacesAndNewlines), name != "performance"
        {
            found.append("the processor changes its frequency (governor \(name))")
        }
        let swaps = (try? String(contentsOfFile: "/proc/swaps", encoding: .utf8)) ?? ""
        let isSwapping = swaps.split(separator: "\n").dropFirst().contains { line in
            let fields = line.split(whereSeparator: \.isWhitespace)
            return fields.count > 3 && Int(fields[3]) ?? 0 > 0
        }
        if isSwapping { found.append("swap is in use") }
        return found
    }
}
