// SPDX-License-Identifier: Apache-2.0
import Foundation
import Histogram
import Testing

@testable import AMQPBench

@Suite("HTML report")
struct HTMLReportTests {
    @Test("The page needs nothing from elsewhere and runs nothing")
    func selfContained() throws {
        let page = try HTMLReport(.example()).page()
        for forbidden in ["http:", "https:", "src=", "href=", "@import", "url(", "onload", "<script>"] {
            #expect(!page.contains(forbidden), "\(forbidden)")
        }
        #expect(page.contains("<svg"))
        #expect(page.contains("prefers-color-scheme: dark"))
        #expect(page.contains("@media print"))
        #expect(page.contains("60 000/s"))
    }

    @Test("The result can be taken out of the page again")
    func embedded() throws {
        var report = Report.example()
        // A comment and a script that begin inside of a script hide its end.
        report.failure = "</script><b><!--<script>"
        let page = try HTMLReport(report).page()
        #expect(!page.contains("</script><b>") && !page.contains("<!--<script>"))
        let start = try #require(page.range(of: "id=\"result\">")).upperBound
        let end = try #require(page.range(of: "</script>", range: start..<page.endIndex)).lowerBound
        let read = try JSONDecoder().decode(Report.self, from: Data(page[start..<end].utf8))
        #expect(try read.json() == report.json())
    }

    @Test("Text from outside cannot become markup")
    func escaping() throws {
        var report = Report.example()
        report.broker.product = "<img src=x>"
        report.warnings = ["a & b"]
        let page = try HTMLReport(report).page()
        let body = try #require(page.components(separatedBy: "<script type").first)
        #expect(!body.contains("<img"))
        #expect(body.contains("&lt;img src=x&gt;"))
        #expect(body.contains("a &amp; b"))
    }

    @Test(
        "An axis has four to six round steps and holds the largest value",
        arguments: [0.003, 0.9, 1, 4.9, 7, 99, 100, 61_840, 1_234_567]
    )
    func scale(_ largest: Double) {
        let (step, top) = Plot.scale(largest)
        #expect(top >= largest)
        #expect(top - step < largest)
        #expect(2...6 ~= (top / step).rounded())
    }

    @Test("A plot of nothing says so")
    func empty() {
        let plot = Plot(title: "Rate", unit: "", lines: [], ticks: [])
        #expect(plot.svg == "<p class=\"empty\">Too few values for a plot.</p>")
    }

    @Test("The spectrum rises, and its last point is the largest value")
    func spectrum() throws {
        var histogram = LatencyMeter.emptyHistogram
        for number in 1...1000 as ClosedRange<UInt64> { histogram.record(number * 1_000_000) }
        let points = HTMLReport.spectrum(try #require(LatencySummary(histogram)))
        #expect(zip(points, points.dropFirst()).allSatisfy { $0.x < $1.x && $0.y < $1.y })
        #expect(abs((points.last?.y ?? 0) - 1000) < 1)
    }
}
