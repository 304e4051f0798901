// SPDX-License-Identifier: Apache-2.0
import Foundation

// Exports: a result in the forms of other programs: CSV of the intervals, a table in Markdown, and percentile
// distributions as HdrHistogram's own tools read them. Pure.

/// A result in other forms.
enum Exports {
    /// One line for each interval, with a line of names.
    static func csv(_ report: Report) -> String {
        let names = [
            "time", "warmup", "published", "confirmed", "consumed", "in_flight", "client_cpu_percent",
            "broker_cpu_percent", "confirm_p50_us", "confirm_p99_us", "confirm_max_us",
        ]
        let lines = report.intervals.map { interval in
            let optional = { (value: Double?) in value.map { Text.decimal($0, places: 1) } ?? "" }
            return [
                Text.decimal(interval.time, places: 3), interval.isWarmup ? "1" : "0", optional(interval.published),
                optional(interval.confirmed), optional(interval.consumed), String(interval.inFlight),
                optional(interval.clientCPUPercent), optional(interval.brokerCPUPercent), optional(interval.confirmP50),
                optional(interval.confirmP99), optional(interval.confirmMax),
            ].joined(separator: ",")
        }
        return ([names.joined(separator: ",")] + lines).joined(separator: "\n") + "\n"
    }

    /// A table to paste into an issue.
    static func markdown(_ report: Report) -> String {
        let (totals, client) = (report.totals, report.client)
        var rows = [
            ("broker", "\(report.broker.product) \(report.broker.version)"),
            ("machine", "\(report.machine.model), \(report.machine.cores) cores"),
        ]
        if report.options.producers > 0 { rows.append(("published", Text.rate(totals.publishedPerSecond))) }
        if report.options.consumers > 0 { rows.append(("consumed", Text.rate(totals.consumedPerSecond))) }
        for (name, latency) in [("confirm", report.latency.confirm), ("end to end", report.latency.endToEnd)] {
            guard let latency else { continue }
            let values = [0.5, 0.99, 0.999].map { Text.milliseconds(latency.known($0)) }
            rows.append(("\(name) p50 / p99 / p99.9", values.joined(separator: " / ") + " ms"))
        }
        rows.append(("client", Text.decimal(client.cpuMicrosecondsPerMessage, places: 2) + " µs/message"))
        rows += report.findings.map { ($0.name, $0.isBad ? "**\($0.text)**" : $0.text) }
        rows += report.failures.map { ("fails", "**\($0)**") }
        let body = rows.map { "| \($0.0) | \($0.1.replacing("|", with: "\\|")) |" }
        return (["| amqp-bench \(report.options.command) | \(report.id) |", "| --- | --- |"] + body)
            .joined(separator: "\n") + "\n"
    }

    /// The percentile distribution of the end-to-end latency, or of the confirms or operations where there is none.
    static func hgrm(_ report: Report) -> String {
        let latencies = report.latency
        guard let latency = latencies.endToEnd ?? latencies.confirm ?? latencies.operation else { return "" }
        return PercentileDistribution.text(latency)
    }

    /// Writes what the options ask for.
    ///
    /// - Parameters:
    ///   - report: The result.
    ///   - common: The options.
    ///   - screen: Where Markdown goes.
    /// - Throws: The error of the file system.
    static func write(_ report: Report, _ common: CommonOptions, on screen: Screen) throws {
        if let file = common.csv { try FileOutput.write(Self.csv(report), to: file) }
        if let file = common.hgrm { try FileOutput.write(Self.hgrm(report), to: file) }
        if let file = common.html { try FileOutput.write(HTMLReport(report).page(), to: file) }
        if common.markdown { screen.show(["", Self.markdown(report)]) }
    }
}
