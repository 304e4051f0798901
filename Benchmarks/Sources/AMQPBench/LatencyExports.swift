// SPDX-License-Identifier: Apache-2.0
import Foundation

// LatencyExports: a result of `latency` in the forms of other programs: CSV and Markdown with one row per rate, and the
// percentile distribution of the last one. Pure, but for writing the files.

/// A result of `latency` in other forms.
enum LatencyExports {
    /// One line for each rate, with a line of names.
    static func csv(_ report: LatencyReport) -> String {
        var lines = [
            "rate,of_capacity,achieved,p50_us,p90_us,p99_us,p99.9_us,p99.99_us,max_us,max_lag_us,lost,duplicated,reordered"
        ]
        for step in report.steps {
            let (run, latency) = (step.report, step.report.latency.endToEnd)
            let times = [0.5, 0.9, 0.99, 0.999, 0.9999].map { latency?.known($0) } + [latency?.max]
            var fields = [
                Text.decimal(run.options.rate ?? 0, places: 1), step.ofCapacity.map { String($0) } ?? "",
                Text.decimal(run.totals.publishedPerSecond, places: 1),
            ]
            fields += (times + [run.latency.lag?.max]).map { $0.map { Text.decimal($0, places: 1) } ?? "" }
            fields += [run.lost, run.verify.duplicated, run.verify.reordered].map { String($0) }
            lines.append(fields.joined(separator: ","))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// A table to paste into an issue.
    static func markdown(_ report: LatencyReport) -> String {
        var lines = [
            "| rate | of max | p50 ms | p99 ms | p99.9 ms | max ms | lost |",
            "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for step in report.steps {
            let latency = step.report.latency.endToEnd
            var fields = [
                Text.rate(step.report.options.rate ?? 0), step.ofCapacity.map { Text.percent($0 * 100) } ?? "–",
            ]
            fields += ([0.5, 0.99, 0.999].map { latency?.known($0) } + [latency?.max]).map { Text.milliseconds($0) }
            fields.append(Text.count(step.report.lost))
            lines.append("| " + fields.joined(separator: " | ") + " |")
        }
        let bad = report.steps.flatMap { step in
            step.report.findings.filter(\.isBad).map {
                "**\(Text.rate(step.report.options.rate ?? 0)): \($0.name) \($0.text)**"
            }
        }
        return (lines + (bad.isEmpty ? [] : [""] + bad)).joined(separator: "\n") + "\n"
    }

    /// Writes what the options ask for.
    ///
    /// - Parameters:
    ///   - report: The result.
    ///   - common: The options.
    ///   - screen: Where Markdown goes.
    /// - Throws: The error of the file system.
    static func write(_ report: LatencyReport, _ common: CommonOptions, on screen: Screen) throws {
        guard let last = report.steps.last else { return }
        if let file = common.csv { try FileOutput.write(Self.csv(report), to: file) }
        if let file = common.hgrm { try FileOutput.write(Exports.hgrm(last.report), to: file) }
        if let file = common.html {
            try FileOutput.write(SeriesHTML(latency: report).page(), to: file)
        }
        if common.markdown { screen.show(["", Self.markdown(report)]) }
    }
}
