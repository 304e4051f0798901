// SPDX-License-Identifier: Apache-2.0
import Foundation

// ComparisonHTML: two results beside each other as an HTML page: the figures with their verdicts, the percentiles and the
// rates of both in one plot each, and what is not the same. The page around: HTMLPage.

/// The page of a comparison.
struct ComparisonHTML: Sendable {
    /// One run that both results have.
    struct Part: Sendable {
        /// Its rate or value; empty for the only one.
        var name: String
        var base: Report
        var other: Report
        var comparison: Comparison
    }

    var base: String
    var other: String
    var parts: [Part]

    /// The whole page.
    ///
    /// - Throws: The error of encoding the results.
    func page() throws -> String {
        struct Both: Encodable {
            var name: String
            var base: Report
            var other: Report
        }
        let first = self.parts.first?.base
        let facts = [first?.started, first?.machine.model, first.map { "kernel \($0.machine.kernel)" }]
        return HTMLPage(
            title: "amqp-bench: \(self.base) and \(self.other)",
            head: [
                first.map { "\($0.broker.product) \($0.broker.version)" } ?? "Nothing was measured.",
                facts.compactMap { $0 }.joined(separator: " · "),
            ],
            body: self.parts.map { self.body($0) }.joined(),
            json: try JSONText.of(self.parts.map { Both(name: $0.name, base: $0.base, other: $0.other) })
        ).text
    }

    private func body(_ part: Part) -> String {
        let rows = part.comparison.rows
        let worse = Set(rows.indices.filter { rows[$0].verdict == .worse })
        let table = HTML.table(
            ["", self.base, self.other, "change", "chance", "verdict"],
            rows.map { row in
                [
                    row.name, Self.value(row.text(row.base), row.baseDeviation),
                    Self.value(row.text(row.other), row.otherDeviation),
                    (row.change < 0 ? "−" : "+") + Text.decimal(abs(row.change), places: 1) + " %",
                    row.chance.map { Text.decimal($0, places: 3) } ?? "–", row.verdict.rawValue,
                ]
            },
            bad: worse
        )
        var notes = part.comparison.differences.map { "<li class=\"bad\">\(HTML.escape("not the same: \($0)"))</li>" }
        for (name, report) in [(self.base, part.base), (self.other, part.other)] {
            notes += report.findings.filter(\.isBad).map {
                "<li class=\"bad\">\(HTML.escape("\(name): \($0.name) \($0.text)"))</li>"
            }
        }
        if part.comparison.isUnsound {
            let text = "\(self.other) lost, doubled, reordered or corrupted messages, and \(self.base) did not"
            notes.append("<li class=\"bad\">\(HTML.escape(text))</li>")
        }
        if let runs = part.comparison.runsNeeded { notes.append("<li>A verdict takes \(runs) runs of each.</li>") }
        let title = part.name.isEmpty ? "" : "<h2>\(HTML.escape(part.name))</h2>"
        return """
            \(title)<div class="tables">\(table)</div>
            <div class="plots">\(self.spectra(part).figure)\(self.rates(part).figure)</div>
            \(notes.isEmpty ? "" : "<ul class=\"notes\">\(notes.joined())</ul>")
            <details><summary>Every option of \(HTML.escape(self.base))</summary>\(HTMLReport.optionsTable(part.base))</details>
            <details><summary>Every option of \(HTML.escape(self.other))</summary>\(HTMLReport.optionsTable(part.other))</details>

            """
    }

    private static func value(_ text: String, _ deviation: Double?) -> String {
        text + (deviation.map { " ± \(Text.decimal($0 * 100, places: 1)) %" } ?? "")
    }

    private func spectra(_ part: Part) -> Plot {
        var lines: [PlotLine] = []
        for (index, (name, report)) in [(self.base, part.base), (self.other, part.other)].enumerated() {
            let latencies = [
                (report.options.intervalLatencyName, report.latency.operation ?? report.latency.confirm),
                ("end to end", report.latency.endToEnd),
            ]
            for (place, (kind, latency)) in latencies.enumerated() {
                guard let latency else { continue }
                let color = PlotLine.colors[index] + (place == 1 ? " dashed" : "")
                lines.append(PlotLine(name: "\(name) \(kind)", color: color, points: HTMLReport.spectrum(latency)))
            }
        }
        return HTMLReport.spectra(lines)
    }

    private func rates(_ part: Part) -> Plot {
        let lines = [(self.base, part.base), (self.other, part.other)].enumerated().map { index, side in
            let isPublishing = side.1.options.producers > 0
            return PlotLine(
                name: side.0,
                color: PlotLine.color(index),
                points: side.1.intervals.map { ($0.time, isPublishing ? $0.published : $0.consumed) }
            )
        }
        let end = [part.base, part.other].compactMap { $0.intervals.last?.time }.max() ?? 1
        let (step, _) = Plot.scale(end)
        let ticks = (0...10).map { Double($0) * max(1, step) }.filter { $0 <= end }.map {
            (x: $0, text: "\(Int($0)) s")
        }
        return Plot(title: "Rate", unit: "per second", lines: lines, ticks: ticks, start: 0)
    }
}
