// SPDX-License-Identifier: Apache-2.0
import Foundation
import Histogram
import Testing

@testable import AMQPBench

// ChromiumTests: the pages as headless Chromium shows them. No element reaches beyond 360 pixels or a wide screen, failures
// are red, the lines of a plot differ, and labels are large enough. The tests are skipped where no Chromium is installed
// (apt-get install chromium).

@Suite("Pages in a browser", .serialized, .timeLimit(.minutes(4)))
struct ChromiumTests {
    static let program = ["chromium", "chromium-browser", "google-chrome"].map { "/usr/bin/\($0)" }
        .first { FileManager.default.isExecutableFile(atPath: $0) }

    /// The measurements of a page at one width.
    struct Shown: Decodable {
        /// Pixels of the window and of the page.
        var window: Double
        var page: Double
        /// Elements that stick out, by their classes; those in a table that scrolls do not count.
        var outside: [String]
        /// Colours of the text of elements that are bad, and of others.
        var bad: [String]
        var plain: [String]
        /// Colours of the lines of each plot, and whether they are dashed.
        var lines: [[String]]
        /// Heights in pixels of the labels of axes.
        var labels: [Double]
        var plots: Int
    }

    private static let probe = """
        <script>
        addEventListener('load', () => {
          const found = [...document.querySelectorAll('iframe')].map(frame => {
            const page = frame.contentDocument, view = frame.contentWindow, width = view.innerWidth;
            const all = [...page.body.querySelectorAll('*')];
            const scrolls = e => e.closest('.wide') || e.closest('svg') || e.closest('script');
            const color = e => view.getComputedStyle(e).color;
            return {
              window: width, page: page.documentElement.scrollWidth,
              outside: all.filter(e => !scrolls(e) && e.getBoundingClientRect().right > width + 1)
                .map(e => e.tagName + '.' + e.className),
              bad: all.filter(e => e.matches('.bad, .bad td, .bad strong')).map(color),
              plain: all.filter(e => e.matches('h1, .tile:not(.bad) strong')).map(color),
              lines: [...page.querySelectorAll('svg')].map(svg => [...svg.querySelectorAll('polyline')]
                .map(e => view.getComputedStyle(e).stroke + ' ' + view.getComputedStyle(e).strokeDasharray)),
              labels: [...page.querySelectorAll('.tick')].map(e => e.getBoundingClientRect().height),
              plots: page.querySelectorAll('svg').length,
            };
          });
          document.body.innerHTML = '<pre id="probe"></pre>';
          document.getElementById('probe').textContent = 'PROBE' + btoa(JSON.stringify(found)) + 'EBORP';
        });
        </script>
        """

    /// Shows a page at widths and measures it.
    static func show(_ page: String, widths: [Int]) async throws -> [Shown] {
        let program = try #require(Self.program)
        return try await Tool.withDirectory { directory in
            let frames = widths.map { width in
                let source = page.replacing("&", with: "&amp;").replacing("\"", with: "&quot;")
                return "<iframe width=\"\(width)\" height=\"900\" style=\"border:0\" srcdoc=\"\(source)\"></iframe>"
            }
            let whole = "<!DOCTYPE html><html><body>\(frames.joined())\(Self.probe)</body></html>"
            try Data(whole.utf8).write(to: URL(fileURLWithPath: directory + "/page.html"))
            let result = try await Tool.bash(
                "exec timeout 100 \(program) --headless --no-sandbox --disable-gpu --disable-dev-shm-usage "
                    + "--user-data-dir=profile --window-size=1400,900 --virtual-time-budget=10000 --dump-dom page.html 2>/dev/null",
                in: directory,
                environment: ["HOME": directory]
            )
            let text = result.output.components(separatedBy: "PROBE").last?.components(separatedBy: "EBORP").first
            let data = try #require(
                text.flatMap { Data(base64Encoded: $0) },
                "\(result.status) \(result.output.suffix(500))"
            )
            return try JSONDecoder().decode([Shown].self, from: data)
        }
    }

    /// A report with a distribution of latencies.
    static var sampled: Report {
        var report = Report.example()
        var histogram = LatencyMeter.emptyHistogram
        for number in 1...1000 as ClosedRange<UInt64> { histogram.record(number * number * 1000) }
        report.latency.confirm = LatencySummary(histogram)
        report.latency.endToEnd = LatencySummary(histogram)
        return report
    }

    /// A report in which everything has failed.
    static var worst: Report {
        var report = Self.sampled
        report.lost = 1
        report.verify.duplicated = 2
        (report.verify.unaccounted, report.verify.unaccountedReason) = (
            7, "the arguments of the queue (x-max-length, x-overflow) may drop messages"
        )
        report.options.fault = Fault(killAt: 1)
        report.recovery = .init(at: 1, brokerBack: 0.5, confirmed: 0.6, consumed: 0.7)
        report.outages = [
            .init(
                connection: "producer 0",
                from: "rabbit1.example.com:5672",
                to: "rabbit2.example.com:5672",
                at: 1,
                connected: 1
            )
        ]
        report.failures = ["p99>5ms: 9.00 ms"]
        report.failure =
            "cannot use the broker at rabbit1.example.com:5672, rabbit2.example.com:5672: connection refused"
        report.warnings = ["the processor changes its frequency (governor powersave)"]
        report.runs = [RunFigures(report), RunFigures(report)]
        return report
    }

    /// Checks that hold for every page.
    private static func check(_ shown: [Shown], plots: Int) {
        for view in shown {
            #expect(
                view.page <= view.window + 1 && view.outside.isEmpty,
                "\(view.window): \(view.page) \(view.outside)"
            )
            #expect(view.plots == plots)
            #expect(view.labels.allSatisfy { $0 >= 9 }, "\(view.window): \(view.labels.min() ?? 0)")
            #expect(Set(view.bad).isDisjoint(with: Set(view.plain)))
            for lines in view.lines { #expect(Set(lines).count == lines.count, "\(lines)") }
        }
    }

    @Test(
        "The page of a run fits 360 and 1200 pixels, and what is bad is red",
        .enabled(if: program != nil, "no Chromium is installed")
    )
    func run() async throws {
        let shown = try await Self.show(HTMLReport(Self.worst).page(), widths: [360, 1200])
        Self.check(shown, plots: 4)
        for view in shown {
            #expect(view.bad.count >= 8)
            #expect(view.bad.allSatisfy { $0 == "rgb(192, 27, 36)" }, "\(Set(view.bad))")
        }
    }

    @Test(
        "Twenty runs in one plot have a line each that differs from the others",
        .enabled(if: program != nil, "no Chromium is installed")
    )
    func sweep() async throws {
        let steps = (0..<20).map { SweepReport.Step(value: "\($0)", report: Self.sampled) }
        let page = try SeriesHTML(sweep: SweepReport(id: "x", over: "size", steps: steps)).page()
        let shown = try await Self.show(page, widths: [360, 1200])
        Self.check(shown, plots: 4)
        #expect(shown.allSatisfy { view in view.lines.contains { $0.count == 20 } })
    }

    @Test(
        "The page of a comparison fits too, and the regression is red",
        .enabled(if: program != nil, "no Chromium is installed")
    )
    func comparison() async throws {
        let shown = try await Self.show(ComparisonHTMLTests.page(slower: 0.8), widths: [360, 1200])
        Self.check(shown, plots: 2)
        #expect(shown.allSatisfy { $0.bad.contains("rgb(192, 27, 36)") })
    }
}
