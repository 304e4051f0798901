// SPDX-License-Identifier: Apache-2.0
import Foundation

// HTMLReport: the result of one run as an HTML page: figures, plots, tables and every option. The page around: HTMLPage.

/// The page of one result.
struct HTMLReport: Sendable {
    private let report: Report
    private let text = RunText(style: .plain)

    init(_ report: Report) { self.report = report }

    /// The whole page.
    func page() throws -> String {
        let report = self.report
        let head = self.text.header(report, isNamed: false).filter { !$0.isEmpty }
        let facts = [
            report.started, report.machine.model, "kernel \(report.machine.kernel)", report.ended.rawValue,
            report.tool.commit.map { "commit \($0)" },
        ]
        return HTMLPage(
            title: "amqp-bench \(report.options.command) \(report.id)",
            head: head + [facts.compactMap { $0 }.joined(separator: " · ")],
            body: """
                \(self.tiles())
                <div class="plots">
                \(self.ratePlot().figure)\(self.latencyPlot()?.figure ?? "")\(self.spectrum()?.figure ?? "")\
                \(self.cpuPlot().figure)</div>
                <div class="tables">
                \(self.latencyTable())
                \(self.totalsTable())
                \(self.runsTable())
                \(self.findingsTable())
                </div>
                \(self.notes())
                <details><summary>Every option</summary>\(Self.optionsTable(report))</details>
                """,
            json: try report.json()
        ).text
    }

    // MARK: - Figures at a glance

    /// Characters of a tile whose text is a number.
    private static let longestNumber = 24

    private func tiles() -> String {
        let (totals, client) = (self.report.totals, self.report.client)
        var tiles: [(String, String, Bool)] = []
        if self.report.options.producers > 0 {
            tiles.append((self.report.options.publishedName, Text.rate(totals.publishedPerSecond), false))
        }
        if self.report.options.consumers > 0, self.report.options.operation == nil {
            tiles.append(("consumed", Text.rate(totals.consumedPerSecond), false))
        }
        if let confirm = self.report.latency.operation ?? self.report.latency.confirm {
            tiles.append(
                (
                    "\(self.report.options.intervalLatencyName) p50 / p99",
                    "\(Text.milliseconds(confirm.known(0.5))) / \(Text.milliseconds(confirm.known(0.99))) ms", false
                )
            )
        }
        tiles.append(
            (
                "client", Text.decimal(client.cpuMicrosecondsPerMessage, places: 2) + " µs/\(self.report.options.unit)",
                false
            )
        )
        // What is bad stands at the top, whatever it is.
        tiles.append(("lost", Text.count(self.report.lost), self.report.lost > 0))
        for finding in self.report.findings where finding.isBad && finding.name != "lost" {
            tiles.append((HTML.escape(finding.name), HTML.escape(finding.text), true))
        }
        let body = tiles.map { name, value, isBad in
            // A sentence is smaller than a number.
            let length = value.count > Self.longestNumber ? " long" : ""
            return
                "<div class=\"tile\(isBad ? " bad" : "")\(length)\"><span>\(name)</span><strong>\(value)</strong></div>"
        }
        return "<section class=\"tiles\">\(body.joined())</section>"
    }

    // MARK: - Plots

    private var seconds: [(x: Double, text: String)] {
        let end = self.report.intervals.last?.time ?? 1
        let (step, _) = Plot.scale(end)
        return (0...10).map { Double($0) * max(1, step) }.filter { $0 <= end }.map { ($0, "\(Int($0)) s") }
    }

    private func series(_ value: (Report.Interval) -> Double?) -> [(x: Double, y: Double)] {
        self.report.intervals.map { interval in (interval.time, value(interval) ?? .nan) }
    }

    /// Faults and outages, where the intervals are.
    static func bands(_ report: Report) -> [PlotBand] {
        let warmup = report.options.warmup
        let end = report.intervals.last?.time ?? 0
        var bands: [PlotBand] = []
        if let recovery = report.recovery {
            let length = [recovery.brokerBack, recovery.confirmed, recovery.consumed].compactMap { $0 }.max()
            let from = warmup + recovery.at
            bands.append(PlotBand(name: "fault", from: from, to: length.map { from + $0 } ?? end))
        }
        if let command = report.faultCommand {
            let from = warmup + command.at
            bands.append(PlotBand(name: "fault command", from: from, to: from + command.seconds))
        }
        for outage in report.outages ?? [] {
            let from = warmup + outage.at
            bands.append(
                PlotBand(
                    name: "outage of \(outage.connection)",
                    from: from,
                    to: outage.resumed.map { from + $0 } ?? end
                )
            )
        }
        return bands
    }

    private func ratePlot() -> Plot {
        var lines: [PlotLine] = []
        if self.report.options.producers > 0 {
            lines.append(
                PlotLine(name: self.report.options.publishedName, color: "c1", points: self.series { $0.published })
            )
        }
        if self.report.options.consumers > 0, self.report.options.operation == nil {
            lines.append(PlotLine(name: "consumed", color: "c2", points: self.series { $0.consumed }))
        }
        return Plot(
            title: "Rate",
            unit: self.report.options.operation == nil ? "messages per second" : "per second",
            lines: lines,
            ticks: self.seconds,
            shadedUntil: self.report.options.warmup,
            start: 0,
            bands: Self.bands(self.report)
        )
    }

    private func latencyPlot() -> Plot? {
        Self.latencyPlot(self.report, ticks: self.seconds)
    }

    /// Latency over time: of confirms, or end to end where a schedule makes that the one that counts.
    static func latencyPlot(_ report: Report, ticks: [(x: Double, text: String)]) -> Plot? {
        let isPaced = report.options.rate != nil && report.intervals.contains { $0.endToEndP99 != nil }
        let values: [(String, String, KeyPath<Report.Interval, Double?>)] =
            isPaced
            ? [("p50", "c1", \.endToEndP50), ("p99", "c2", \.endToEndP99), ("max", "c3", \.endToEndMax)]
            : [("p50", "c1", \.confirmP50), ("p99", "c2", \.confirmP99), ("max", "c3", \.confirmMax)]
        guard report.intervals.contains(where: { $0[keyPath: values[1].2] != nil }) else { return nil }
        let name = report.options.intervalLatencyName
        return Plot(
            title: isPaced ? "End to end latency" : name.prefix(1).uppercased() + name.dropFirst() + " latency",
            unit: "milliseconds, logarithmic",
            lines: values.map { name, color, value in
                let points = report.intervals.map { interval in
                    (interval.time, interval[keyPath: value].map { $0 / 1000 } ?? .nan)
                }
                return PlotLine(name: name, color: color, points: points)
            },
            ticks: ticks,
            shadedUntil: report.options.warmup,
            start: 0,
            isLogarithmic: true,
            bands: Self.bands(report)
        )
    }

    /// Percentiles on an axis where each further nine takes as much room as the one before.
    private func spectrum() -> Plot? {
        let latencies = [
            ("confirm", "c1", self.report.latency.confirm), ("end to end", "c2", self.report.latency.endToEnd),
            (self.report.options.intervalLatencyName, "c1", self.report.latency.operation),
        ]
        let lines = latencies.compactMap { name, color, latency in
            latency.map { PlotLine(name: name, color: color, points: Self.spectrum($0)) }
        }
        guard !lines.isEmpty else { return nil }
        return Self.spectra(lines)
    }

    /// Percentiles of several lines.
    static func spectra(_ lines: [PlotLine]) -> Plot {
        Plot(
            title: "Percentiles",
            unit: "milliseconds, logarithmic",
            lines: lines,
            ticks: Self.nines,
            isLogarithmic: true
        )
    }

    /// The ticks of such an axis.
    static let nines: [(x: Double, text: String)] = [
        (0, "0 %"), (1, "90 %"), (2, "99 %"), (3, "99.9 %"), (4, "99.99 %"), (5, "99.999 %"),
    ]

    static func spectrum(_ latency: LatencySummary) -> [(x: Double, y: Double)] {
        var points: [(x: Double, y: Double)] = []
        let count = Double(max(1, latency.count))
        var seen = 0.0
        for pair in latency.histogram where pair.count == 2 {
            // At the value of a step of the distribution, as many were below it as before the step.
            let above = (Double(latency.count) - seen) / count
            if above > 0 { points.append((-log10(above), Double(pair[0]) / 1e6)) }
            seen += Double(pair[1])
        }
        return points
    }

    private func cpuPlot() -> Plot {
        var lines = [PlotLine(name: "client", color: "c1", points: self.series { $0.clientCPUPercent })]
        let broker = self.series { $0.brokerCPUPercent }
        if broker.contains(where: { $0.y.isFinite }) {
            lines.append(PlotLine(name: "broker", color: "c2", points: broker))
        }
        return Plot(
            title: "Processor",
            unit: "percent of one core",
            lines: lines,
            ticks: self.seconds,
            shadedUntil: self.report.options.warmup,
            start: 0,
            bands: Self.bands(self.report)
        )
    }

    // MARK: - Tables

    private func findingsTable() -> String {
        let findings = self.report.findings
        let bad = Set(findings.indices.filter { findings[$0].isBad })
        return HTML.table(["what became of messages", ""], findings.map { [$0.name, $0.text] }, bad: bad)
    }

    private func latencyTable() -> String {
        let kinds = [
            ("confirm", self.report.latency.confirm), ("end to end", self.report.latency.endToEnd),
            (self.report.options.intervalLatencyName, self.report.latency.operation),
            ("from the send", self.report.latency.endToEndFromSend), ("publish lag", self.report.latency.lag),
        ]
        let rows = kinds.compactMap { name, latency -> [String]? in
            guard let latency else { return nil }
            let values = [0.5, 0.9, 0.99, 0.999, 0.9999].map { latency.known($0) } + [latency.max]
            return [name] + values.map { Text.milliseconds($0) }
                + [Text.count(latency.count), Text.count(latency.censored ?? 0)]
        }
        guard !rows.isEmpty else { return "" }
        return HTML.table(["latency, ms", "p50", "p90", "p99", "p99.9", "p99.99", "max", "samples", "censored"], rows)
    }

    /// The figures of each of several runs.
    private func runsTable() -> String {
        guard let runs = self.report.runs, runs.count > 1 else { return "" }
        let milliseconds = { (value: Double?) in value.map { Text.milliseconds($0) } ?? "–" }
        let rows = runs.enumerated().map { index, run in
            [
                String(index + 1), Text.rate(run.publishedPerSecond), Text.rate(run.consumedPerSecond),
                milliseconds(run.confirmP50), milliseconds(run.confirmP99), milliseconds(run.endToEndP50),
                milliseconds(run.endToEndP99), Text.decimal(run.cpuMicrosecondsPerMessage, places: 2),
                Text.count(run.lost),
            ]
        }
        let head = [
            "run", self.report.options.publishedName, "consumed", "p50 ms", "p99", "end to end p50", "p99",
            "client µs", "lost",
        ]
        return HTML.table(head, rows)
    }

    private func totalsTable() -> String {
        let (totals, whole) = (self.report.totals, self.report.wholeRun)
        func row(_ name: String, _ measured: UInt64, _ rate: Double, _ all: UInt64) -> [String] {
            [name, Text.count(measured), Text.rate(rate), Text.count(all)]
        }
        var rows: [[String]] = []
        if self.report.options.producers > 0 {
            rows.append(
                row(self.report.options.publishedName, totals.published, totals.publishedPerSecond, whole.published)
            )
            if self.report.options.isConfirmed {
                rows.append(row("confirmed", totals.confirmed, totals.confirmedPerSecond, whole.confirmed))
            }
        }
        if self.report.options.consumers > 0, self.report.options.operation == nil {
            rows.append(row("consumed", totals.consumed, totals.consumedPerSecond, whole.consumed))
        }
        return HTML.table(
            [
                self.report.options.operation == nil ? "messages" : "",
                "in \(Text.decimal(totals.seconds, places: 2)) s", "rate", "whole run",
            ],
            rows
        )
    }

    /// Every option of a run.
    static func optionsTable(_ report: Report) -> String {
        guard let data = try? Report.encoder.encode(report.options),
            let options = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
        else { return "" }
        let rows = options.sorted { $0.key < $1.key }.map { [$0.key, "\($0.value)"] }
        return HTML.table(["option", "value"], rows)
    }

    private func notes() -> String {
        var notes = self.report.failures.map { "<li class=\"bad\">\(HTML.escape($0))</li>" }
        if let failure = self.report.failure { notes.append("<li class=\"bad\">\(HTML.escape(failure))</li>") }
        notes += self.report.warnings.map { "<li>\(HTML.escape($0))</li>" }
        if self.report.options.rate == nil, self.report.latency.confirm != nil {
            notes.append("<li>The latencies are those of a saturated run: queue lengths, not service times.</li>")
        }
        return notes.isEmpty ? "" : "<ul class=\"notes\">\(notes.joined())</ul>"
    }
}
