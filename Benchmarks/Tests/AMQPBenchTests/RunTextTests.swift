// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Text of a run")
struct RunTextTests {
    private let text = RunText(style: .plain)

    @Test("The header names the broker and what the defaults mean")
    func header() {
        let lines = self.text.header(.example())
        #expect(
            lines.contains(
                "amqp-bench \(BuildFacts.version)   RabbitMQ 4.1.0 (started here, 4.1 s)   "
                    + "Swift \(BuildFacts.swift) \(Report.Tool().build)   2 cores   run k7f2"
            )
        )
        #expect(
            lines.contains(
                "1 producer → 1 classic queue → 1 consumer   256 B   confirms ≤ 1024   prefetch 512, ack every 64"
            )
        )
    }

    @Test("Every row is as wide as its head, whatever the numbers")
    func grid() throws {
        let report = Report.example()
        let head = self.text.columns(report.options)
        for interval in report.intervals {
            let row = self.text.row(interval, report.options).replacing("   warm-up", with: "")
            #expect(row.count == head.count, "\(row)")
        }
        #expect(
            head == "   time    published    confirmed     consumed   in flight   client   broker     confirm p50 / p99"
        )
        let row = try #require(report.intervals.first)
        #expect(
            self.text.row(row, report.options)
                == "    1 s     58 210/s     57 902/s     57 640/s       1 024     31 %    152 %      9.80 /  22.40 ms"
                + "   warm-up"
        )
    }

    @Test("A run has only the columns of what it does")
    func columns() {
        var options = RunOptions.example
        options.producers = 0
        options.confirms = nil
        #expect(self.text.columns(options) == "   time     consumed   client   broker")
        options = .example
        options.consumers = 0
        #expect(!self.text.columns(options).contains("consumed"))
    }

    @Test("The summary says what was measured and whether anything is missing")
    func summary() {
        var report = Report.example()
        let lines = self.text.summary(report)
        #expect(lines.contains { $0.hasPrefix(" ── summary, 10.00 s after 2.00 s warm-up ──") })
        #expect(
            lines.contains("  published       600 000       60 000/s      15.4 MB/s   steadiness ± 1.3 %")
        )
        #expect(
            lines.contains(
                "  whole run  published 720 000   consumed 720 000   lost 0   duplicated 0   reordered 0"
            )
        )
        #expect(
            lines.contains("  client     32 % of one core   5.25 µs/message   peak memory 30.0 MiB      broker 159 %")
        )
        report.ended = .interrupted
        report.totals.seconds = 0
        let interrupted = self.text.summary(report)
        #expect(interrupted.contains("  ended      interrupted in the warm-up: nothing was measured"))
        #expect(!interrupted.contains { $0.contains("of one core") })
    }

    @Test("The line above the summary fits a narrow terminal", arguments: [40, 60, 80, 200])
    func titleWidth(_ width: Int) {
        var report = Report.example()
        report.totals.seconds = 9.87
        let title = RunText(style: .plain.fitting(width)).summary(report).first { $0.contains("summary") }
        #expect(title.map { $0.count <= width } == true, "\(title ?? "nothing")")
    }

    @Test("A failure and what is missing are red on a terminal, and nothing is escaped elsewhere")
    func colours() {
        var report = Report.example()
        report.lost = 3
        report.ended = .failed
        report.failure = "connection closed"
        let plain = self.text.summary(report)
        #expect(plain.contains("  FAILED     connection closed"))
        #expect(!plain.joined().contains("\u{1B}"))
        let coloured = RunText(style: .ansi).summary(report)
        #expect(coloured.contains("\u{1B}[31m  FAILED     connection closed\u{1B}[0m"))
        #expect(coloured.contains { $0.hasPrefix("\u{1B}[31m  whole run") && $0.contains("lost 3") })
    }

    @Test("The progress bar is as long as its part", arguments: [(-1.0, 0), (0, 0), (0.5, 12), (1, 24), (7, 24)])
    func progress(_ part: Double, _ blocks: Int) {
        let line = self.text.progress(part, of: "12 s total")
        #expect(line.count { $0 == "█" } == blocks)
        #expect(line.hasSuffix("▏ 12 s total"))
    }

    @Test("The end names the next step")
    func closing() {
        var report = Report.example()
        #expect(self.text.closing(report, savedTo: nil).contains("  next:  --json FILE keeps the result"))
        report.warnings = ["swap is in use"]
        #expect(
            self.text.closing(report, savedTo: "out.json") == [
                "", "  ! swap is in use",
                "  saved  out.json    next:  amqp-bench report out.json · amqp-bench compare out.json OTHER.json",
            ]
        )
        #expect(self.text.closing(report, savedTo: "standard output").last == "  saved  standard output")
    }
}
