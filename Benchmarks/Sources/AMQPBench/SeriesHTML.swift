// SPDX-License-Identifier: Apache-2.0
import Foundation

// SeriesHTML: a result of several runs, of `latency` or `sweep`, as an HTML page: one row for each run, and a line for
// each in the plots. The page around: HTMLPage.

/// The page of several runs.
struct SeriesHTML: Sendable {
    private var title: String
    private var steps: [(name: String, report: Report)]
    private var note: String
    private var isLatency: Bool
    private let id: String
    private var failures: [String]
    private let encode: @Sendable () throws -> Data

    /// Of `latency`: a line for each rate.
    init(latency report: LatencyReport) {
        self.title = "amqp-bench latency \(report.id)"
        self.id = report.id
        self.steps = report.steps.map { step in
            let part = step.ofCapacity.map { " (\(Text.percent($0 * 100)))" } ?? ""
            return (Text.rate(step.report.options.rate ?? 0) + part, step.report)
        }
        let capacity = report.capacityPerSecond.map { "Capacity \(Text.rate($0)). " } ?? ""
        self.note = capacity + "Sent on a fixed schedule; latency counts from the scheduled time."
        self.isLatency = true
        self.failures = report.failures
        self.encode = { try report.json() }
    }

    /// Of `sweep`: a line for each value.
    init(sweep report: SweepReport) {
        self.title = "amqp-bench sweep over \(report.over) \(report.id)"
        self.id = report.id
        self.steps = report.steps.map { ($0.value, $0.report) }
        self.note = "One run for each value of \(report.over), all else the same."
        self.isLatency = false
        self.failures = report.failures
        self.encode = { try report.json() }
    }

    /// The whole page.
    func page() throws -> String {
        guard var first = self.steps.first?.report else {
            return HTMLPage(title: self.title, head: ["Nothing was measured."], body: "", json: try self.encode()).text
        }
        // What is the same for all: the rate, or the option that was varied, is in the table.
        first.id = self.id
        if self.steps.count > 1 { first.options.rate = nil }
        let lines = RunText(style: .plain).header(first, isNamed: false).filter { !$0.isEmpty }
        let facts = [first.started, first.machine.model, "kernel \(first.machine.kernel)"]
        return HTMLPage(
            title: self.title,
            head: (self.isLatency ? lines : Array(lines.prefix(1))) + [self.note, facts.joined(separator: " · ")],
            body: """
                <div class="tables">\(self.table)</div>
                <div class="plots">
                \(self.spectra.figure)\(self.isLatency ? self.overTime.figure : self.byValue)</div>
                \(self.notes)
                <details><summary>Every option</summary>\(HTMLReport.optionsTable(self.steps[0].report))</details>
                """,
            json: try self.encode()
        ).text
    }

    private func lines(_ points: (Report) -> [(x: Double, y: Double)]) -> [PlotLine] {
        self.steps.enumerated().map { index, step in
            PlotLine(name: step.name, color: PlotLine.color(index), points: points(step.report))
        }
    }

    private func latency(_ report: Report) -> LatencySummary? {
        self.isLatency ? report.latency.endToEnd : report.mainLatency
    }

    private var spectra: Plot {
        let lines = self.lines { self.latency($0).map { HTMLReport.spectrum($0) } ?? [] }
        return HTMLReport.spectra(lines)
    }

    private var overTime: Plot {
        let lines = self.lines { report in
            report.intervals.map { interval in (interval.time, interval.endToEndP99.map { $0 / 1000 } ?? .nan) }
        }
        return Plot(
            title: "End to end p99",
            unit: "milliseconds, logarithmic, over seconds",
            lines: lines,
            ticks: self.seconds,
            shadedUntil: self.steps[0].report.options.warmup,
            start: 0,
            isLogarithmic: true,
            bands: HTMLReport.bands(self.steps[0].report)
        )
    }

    /// Rate, latency and cost, with the values of the option on the lower axis.
    private var byValue: String {
        let options = self.steps[0].report.options
        func line(_ name: String, _ color: String, _ value: (Report) -> Double?) -> PlotLine {
            let points = self.steps.enumerated().compactMap { index, step in
                value(step.report).map { (x: Double(index), y: $0) }
            }
            return PlotLine(name: name, color: color, points: points)
        }
        var rates: [PlotLine] = []
        if options.producers > 0 { rates.append(line(options.publishedName, "c1") { $0.totals.publishedPerSecond }) }
        if options.consumers > 0, options.operation == nil {
            rates.append(line("consumed", "c2") { $0.totals.consumedPerSecond })
        }
        let latencies = [
            line("p50", "c1") { self.latency($0).flatMap { $0.known(0.5).map { $0 / 1000 } } },
            line("p99", "c2") { self.latency($0).flatMap { $0.known(0.99).map { $0 / 1000 } } },
            line("max", "c3") { self.latency($0).map { $0.max / 1000 } },
        ]
        let ticks = self.steps.enumerated().map { (x: Double($0.offset), text: $0.element.name) }
        let cost = [line("client", "c1") { $0.client.cpuMicrosecondsPerMessage }]
        return [
            Plot(title: "Rate", unit: "per second", lines: rates, ticks: ticks),
            Plot(
                title: "Latency",
                unit: "milliseconds, logarithmic",
                lines: latencies,
                ticks: ticks,
                isLogarithmic: true
            ),
            Plot(title: "Cost", unit: "µs/\(options.unit)", lines: cost, ticks: ticks),
        ].map(\.figure).joined()
    }

    private var seconds: [(x: Double, text: String)] {
        let end = self.steps.compactMap { $0.report.intervals.last?.time }.max() ?? 1
        let (step, _) = Plot.scale(end)
        return (0...10).map { Double($0) * max(1, step) }.filter { $0 <= end }.map { ($0, "\(Int($0)) s") }
    }

    private var table: String {
        let head =
            [
                "", "published", "consumed", "p50 ms", "p90", "p99", "p99.9", "max", "max lag", "samples", "censored",
                "client µs/msg", "lost",
            ]
        let rows = self.steps.map { name, report -> [String] in
            let latency = self.latency(report)
            let times = [0.5, 0.9, 0.99, 0.999].map { latency?.known($0) } + [latency?.max, report.latency.lag?.max]
            var row = [name, Text.rate(report.totals.publishedPerSecond), Text.rate(report.totals.consumedPerSecond)]
            row += times.map { Text.milliseconds($0) }
            row += [Text.count(latency?.count ?? 0), Text.count(latency?.censored ?? 0)]
            row += [Text.decimal(report.client.cpuMicrosecondsPerMessage, places: 2), Text.count(report.lost)]
            return row
        }
        return HTML.table(head, rows)
    }

    private var notes: String {
        var notes = self.failures.map { "<li class=\"bad\">\(HTML.escape($0))</li>" }
        for (name, report) in self.steps {
            notes += report.findings.filter(\.isBad).map {
                "<li class=\"bad\">\(HTML.escape("\(name): \($0.name) \($0.text)"))</li>"
            }
        }
        notes += Array(Set(self.steps.flatMap(\.report.warnings))).sorted().map { "<li>\(HTML.escape($0))</li>" }
        return notes.isEmpty ? "" : "<ul class=\"notes\">\(notes.joined())</ul>"
    }
}
