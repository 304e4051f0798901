// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// HTMLReport: a result as one HTML file that needs nothing else: tables, plots as inline SVG, and the result itself as
// JSON. No script runs. It follows the reader's light or dark colours and prints on one page.

/// Make an HTML report.
struct MakeReport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Turn a result written with --json into one self-contained HTML file."
    )

    @Argument(help: "The result.") var result: String
    @Option(name: .shortAndLong, help: "The file to write. (default: the result's name with .html)") var output: String?

    func run() throws {
        let report = try ResultFile.read(self.result)
        let url = URL(fileURLWithPath: self.result)
        let file = self.output ?? url.deletingPathExtension().appendingPathExtension("html").relativePath
        guard (try? Data(HTMLReport(report).page().utf8).write(to: URL(fileURLWithPath: file))) != nil else {
            throw ValidationError("\(file) cannot be written.")
        }
        print("saved  \(file)")
    }
}

/// The page of one result.
struct HTMLReport: Sendable {
    private let report: Report
    private let text = RunText(style: .plain)

    init(_ report: Report) { self.report = report }

    /// The whole page.
    func page() throws -> String {
        let report = self.report
        let title = "amqp-bench \(report.options.command) \(report.id)"
        let json = String(decoding: try report.json(), as: UTF8.self).replacing("</", with: "<\\/")
        return """
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <title>\(HTML.escape(title))</title>
            <style>\(Self.style)</style>
            </head>
            <body>
            <header>
            <h1>\(HTML.escape(title))</h1>
            \(self.text.header(report).filter { !$0.isEmpty }.map { "<p>\(HTML.escape($0))</p>" }.joined(separator: "\n"))
            <p class="note">\(HTML.escape(report.started)) · \(HTML.escape(report.machine.model)) · \
            kernel \(HTML.escape(report.machine.kernel)) · \(HTML.escape(report.ended.rawValue))\
            \(report.tool.commit.map { " · commit \(HTML.escape($0))" } ?? "")</p>
            </header>
            \(self.tiles())
            <div class="plots">
            \(self.ratePlot().figure)\(self.latencyPlot()?.figure ?? "")\(self.spectrum()?.figure ?? "")\
            \(self.cpuPlot().figure)</div>
            <div class="tables">
            \(self.latencyTable())
            \(self.totalsTable())
            </div>
            \(self.notes())
            <details><summary>Every option</summary>\(self.optionsTable())</details>
            <script type="application/json" id="result">\(json)</script>
            </body>
            </html>

            """
    }

    // MARK: - Figures at a glance

    private func tiles() -> String {
        let (totals, client) = (self.report.totals, self.report.client)
        var tiles: [(String, String, Bool)] = []
        if self.report.options.producers > 0 {
            tiles.append(("published", Text.rate(totals.publishedPerSecond), false))
        }
        if self.report.options.consumers > 0 { tiles.append(("consumed", Text.rate(totals.consumedPerSecond), false)) }
        if let confirm = self.report.latency.confirm {
            tiles.append(
                ("confirm p50 / p99", "\(Text.milliseconds(confirm.p50)) / \(Text.milliseconds(confirm.p99)) ms", false)
            )
        }
        tiles.append(("client", Text.decimal(client.cpuMicrosecondsPerMessage, places: 2) + " µs/message", false))
        tiles.append(("lost", Text.count(self.report.lost), self.report.lost > 0))
        let body = tiles.map { name, value, isBad in
            "<div class=\"tile\(isBad ? " bad" : "")\"><span>\(name)</span><strong>\(value)</strong></div>"
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
        self.report.intervals.compactMap { interval in value(interval).map { (interval.time, $0) } }
    }

    private func ratePlot() -> Plot {
        var lines: [PlotLine] = []
        if self.report.options.producers > 0 {
            lines.append(PlotLine(name: "published", color: "c1", points: self.series { $0.published }))
        }
        if self.report.options.consumers > 0 {
            lines.append(PlotLine(name: "consumed", color: "c2", points: self.series { $0.consumed }))
        }
        return Plot(
            title: "Rate",
            unit: "messages per second",
            lines: lines,
            ticks: self.seconds,
            shadedUntil: self.report.options.warmup,
            start: 0
        )
    }

    private func latencyPlot() -> Plot? {
        guard self.report.intervals.contains(where: { $0.confirmP99 != nil }) else { return nil }
        return Plot(
            title: "Confirm latency",
            unit: "milliseconds",
            lines: [
                PlotLine(name: "p50", color: "c1", points: self.series { $0.confirmP50.map { $0 / 1000 } }),
                PlotLine(name: "p99", color: "c2", points: self.series { $0.confirmP99.map { $0 / 1000 } }),
                PlotLine(name: "max", color: "c3", points: self.series { $0.confirmMax.map { $0 / 1000 } }),
            ],
            ticks: self.seconds,
            shadedUntil: self.report.options.warmup,
            start: 0
        )
    }

    /// Percentiles on an axis where each further nine takes as much room as the one before.
    private func spectrum() -> Plot? {
        let latencies = [
            ("confirm", "c1", self.report.latency.confirm), ("end to end", "c2", self.report.latency.endToEnd),
        ]
        let lines = latencies.compactMap { name, color, latency in
            latency.map { PlotLine(name: name, color: color, points: Self.spectrum($0)) }
        }
        guard !lines.isEmpty else { return nil }
        let ticks = [(0.0, "0 %"), (1, "90 %"), (2, "99 %"), (3, "99.9 %"), (4, "99.99 %"), (5, "99.999 %")]
        return Plot(title: "Percentiles", unit: "milliseconds", lines: lines, ticks: ticks.map { ($0.0, $0.1) })
    }

    static func spectrum(_ latency: LatencySummary) -> [(x: Double, y: Double)] {
        var points: [(x: Double, y: Double)] = []
        var seen: UInt64 = 0
        for pair in latency.histogram where pair.count == 2 {
            // At the value of a step of the distribution, as many were below it as before the step.
            let above = Double(latency.count - seen) / Double(max(1, latency.count))
            if above > 0 { points.append((-log10(above), Double(pair[0]) / 1e6)) }
            seen += pair[1]
        }
        return points
    }

    private func cpuPlot() -> Plot {
        var lines = [PlotLine(name: "client", color: "c1", points: self.series { $0.clientCPUPercent })]
        let broker = self.series { $0.brokerCPUPercent }
        if !broker.isEmpty { lines.append(PlotLine(name: "broker", color: "c2", points: broker)) }
        return Plot(
            title: "Processor",
            unit: "percent of one core",
            lines: lines,
            ticks: self.seconds,
            shadedUntil: self.report.options.warmup,
            start: 0
        )
    }

    // MARK: - Tables

    private func table(_ head: [String], _ rows: [[String]]) -> String {
        let cells = { (tag: String, row: [String]) in
            "<tr>" + row.map { "<\(tag)>\(HTML.escape($0))</\(tag)>" }.joined() + "</tr>"
        }
        return
            "<table><thead>\(cells("th", head))</thead><tbody>\(rows.map { cells("td", $0) }.joined())</tbody></table>"
    }

    private func latencyTable() -> String {
        let kinds = [
            ("confirm", self.report.latency.confirm), ("end to end", self.report.latency.endToEnd),
            ("from the send", self.report.latency.endToEndFromSend), ("publish lag", self.report.latency.lag),
        ]
        let rows = kinds.compactMap { name, latency -> [String]? in
            guard let latency else { return nil }
            let values = [latency.p50, latency.p90, latency.p99, latency.p999, latency.p9999, latency.max]
            return [name] + values.map { Text.milliseconds($0) } + [Text.count(latency.count)]
        }
        guard !rows.isEmpty else { return "" }
        return self.table(["latency, ms", "p50", "p90", "p99", "p99.9", "p99.99", "max", "samples"], rows)
    }

    private func totalsTable() -> String {
        let (totals, whole) = (self.report.totals, self.report.wholeRun)
        func row(_ name: String, _ measured: UInt64, _ rate: Double, _ all: UInt64) -> [String] {
            [name, Text.count(measured), Text.rate(rate), Text.count(all)]
        }
        var rows: [[String]] = []
        if self.report.options.producers > 0 {
            rows.append(row("published", totals.published, totals.publishedPerSecond, whole.published))
            rows.append(row("confirmed", totals.confirmed, totals.confirmedPerSecond, whole.confirmed))
        }
        if self.report.options.consumers > 0 {
            rows.append(row("consumed", totals.consumed, totals.consumedPerSecond, whole.consumed))
        }
        return self.table(["messages", "in \(Text.decimal(totals.seconds, places: 2)) s", "rate", "whole run"], rows)
    }

    private func optionsTable() -> String {
        guard let data = try? Report.encoder.encode(self.report.options),
            let options = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
        else { return "" }
        let rows = options.sorted { $0.key < $1.key }.map { [$0.key, "\($0.value)"] }
        return self.table(["option", "value"], rows)
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

    private static let style = """

        :root { --ink: #1b1f24; --soft: #5b6570; --paper: #fff; --card: #f5f6f8; --line: #dde1e6;
          --c1: #0a66c2; --c2: #c2570a; --c3: #8250df; --bad: #c01b24; }
        @media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4af; --paper: #14171a;
          --card: #1e2227; --line: #333a42; --c1: #5aa9f5; --c2: #f0954a; --c3: #b392f0; --bad: #ff7b80; } }
        * { box-sizing: border-box; }
        body { margin: 0 auto; max-width: 1080px; padding: 24px; color: var(--ink); background: var(--paper);
          font: 14px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
        h1 { font-size: 22px; margin: 0 0 4px; } header p { margin: 2px 0; white-space: pre-wrap; } .note { color: var(--soft); }
        .tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 16px 0; }
        .tile { background: var(--card); border-radius: 8px; padding: 10px 16px; flex: 1 1 150px; }
        .tile span { display: block; color: var(--soft); } .tile strong { font-size: 18px; white-space: nowrap; }
        .bad, .bad strong { color: var(--bad); }
        .plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 16px; }
        figure { margin: 0; } figcaption i { color: var(--soft); font-style: normal; }
        svg { width: 100%; height: auto; display: block; }
        .grid { stroke: var(--line); } .tick { fill: var(--soft); font-size: 12px; } .shade { fill: var(--card); }
        .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
        .line.c1 { stroke: var(--c1); } .line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); }
        .key::before { content: ""; display: inline-block; width: 14px; height: 3px; margin: 0 4px 4px 10px;
          background: var(--c1); } .key.c2::before { background: var(--c2); } .key.c3::before { background: var(--c3); }
        .tables { display: flex; align-items: flex-start; flex-wrap: wrap; gap: 24px; margin: 16px 0; }
        table { border-collapse: collapse; } th, td { text-align: right; padding: 3px 10px; white-space: nowrap;
          border-bottom: 1px solid var(--line); } th:first-child, td:first-child { text-align: left; padding-left: 0; }
        th { color: var(--soft); font-weight: 500; } .notes { padding-left: 18px; }
        @media print { body { padding: 0; font-size: 11px; } .plots { grid-template-columns: 1fr 1fr; }
          details { display: none; } .tile { padding: 6px 10px; border: 1px solid var(--line); } }

        """
}
