// SPDX-License-Identifier: Apache-2.0
import Foundation
import Histogram
import Testing

@testable import AMQPBench

@Suite("Exports")
struct ExportsTests {
    @Test("CSV has a line for each interval, and nothing where nothing was measured")
    func csv() {
        let lines = Exports.csv(.example()).split(separator: "\n").map(String.init)
        #expect(lines.count == 3)
        #expect(lines[0].hasPrefix("time,warmup,published,confirmed,consumed,in_flight,"))
        #expect(lines[1] == "1.000,1,58210.0,57902.0,57640.0,1024,31.0,152.0,9800.0,22400.0,")
        #expect(lines[2] == "2.000,0,1058210.0,0.0,7.0,1,100.0,,,,")
        let columns = lines.map { $0.split(separator: ",", omittingEmptySubsequences: false).count }
        #expect(Set(columns).count == 1)
    }

    @Test("Markdown is a table, and a bar in a value does not break it")
    func markdown() {
        var report = Report.example()
        report.broker.product = "a|b"
        let lines = Exports.markdown(report).split(separator: "\n").map(String.init)
        #expect(lines.prefix(3) == ["| amqp-bench both | k7f2 |", "| --- | --- |", "| broker | a\\|b 4.1.0 |"])
        #expect(lines.contains("| published | 60 000/s |"))
        #expect(lines.suffix(3) == ["| lost | 0 |", "| duplicated | 0 |", "| reordered | 0 |"])
    }

    @Test("No form of a result shows a percentile that fewer than ten samples lie beyond")
    func fewSamples() throws {
        var times = LatencyMeter.emptyHistogram
        for (milliseconds, count) in [(9, 490), (77, 9), (99, 1)] as [(UInt64, UInt64)] {
            times.record(milliseconds * 1_000_000, count: count)
        }
        let summary = try #require(LatencySummary(times))
        #expect(Int(summary.p99 / 1000) == 77)
        var report = Report.example()
        (report.latency.confirm, report.latency.endToEnd) = (summary, summary)
        let moment = Snapshot(meters: RunMeters(), publishing: [], broker: nil)
        let interval = Report.Interval(
            from: moment,
            to: moment,
            begin: moment,
            isWarmup: false,
            confirm: summary,
            endToEnd: summary
        )
        #expect(interval.confirmP99 == nil && interval.endToEndP99 == nil && interval.confirmP50 != nil)
        report.intervals.append(interval)
        let latency = LatencyReport(id: "x", steps: [.init(report: report)])
        let sweep = SweepReport(id: "x", over: "size", steps: [.init(value: "1", report: report)])
        func body(_ page: String) -> String { page.components(separatedBy: "<script type").first ?? "" }
        let forms = [
            ("CSV", Exports.csv(report)), ("Markdown", Exports.markdown(report)),
            ("page", body(try HTMLReport(report).page())), ("CSV of latency", LatencyExports.csv(latency)),
            ("Markdown of latency", LatencyExports.markdown(latency)),
            ("page of latency", body(try SeriesHTML(latency: latency).page())),
            ("row of latency", LatencyText(style: .plain).row(report, part: nil)),
            ("row of sweep", SweepText(style: .plain).row("1", report)), ("CSV of sweep", SweepExports.csv(sweep)),
            ("page of sweep", body(try SeriesHTML(sweep: sweep).page())),
            ("summary", RunText(style: .plain).summary(report).joined(separator: "\n")),
        ]
        for (name, text) in forms {
            #expect(text.contains("99") || name == "CSV", "\(name): \(text)")
            #expect(!text.contains("77.0") && !text.contains("77070"), "\(name): \(text)")
        }
    }

    @Test("The distribution ends at all samples, in milliseconds")
    func hgrm() throws {
        let text = Exports.hgrm(.example())
        #expect(text.contains("Percentile"))
        #expect(text.contains("9.00"))
        var report = Report.example()
        report.latency.confirm = nil
        #expect(Exports.hgrm(report).isEmpty)
    }

    /// Pairs of value and count as the lines of a file.
    private static func distribution(_ pairs: [[UInt64]]) throws -> [String] {
        var report = Report.example()
        report.latency.confirm?.histogram = pairs
        return Exports.hgrm(report).split(separator: "\n").map(String.init)
    }

    @Test("The lines are those of HdrHistogram's own output")
    func likeHdrHistogram() throws {
        var histogram = LatencyMeter.emptyHistogram
        for value: UInt64 in 1...5000 { histogram.record(value * 20_000, count: 1 + value % 3) }
        var expected = ""
        histogram.outputPercentileDistribution(to: &expected, outputValueUnitScalingRatio: 1_000_000)
        let found = try Self.distribution(histogram.recordedValues().map { [$0.value, $0.count] })
        #expect(found == expected.split(separator: "\n").map(String.init))
    }

    @Test(
        "Extremes have a distribution: one sample, nothing, a minute, more samples than 32 bits count",
        arguments: [
            [[0, 1]], [[60_000_000_000, 1]], [[0, 1], [60_000_000_000, 1]], [[1000, 5_000_000_000], [2000, 1]],
            [[1, 1 << 49], [2, 1]], [[1, .max], [2, .max]],
        ] as [[[UInt64]]]
    )
    func extremes(_ pairs: [[UInt64]]) throws {
        let lines = try Self.distribution(pairs)
        let total = pairs.reduce(0) { $0 + Double($1[1]) }
        let last = try #require(lines.last { $0.contains(" 1.000000000000 ") })
        #expect(last.hasSuffix(" " + Text.decimal(total, places: 0)), "\(last)")
        #expect(lines.count < 400)
        #expect(!lines.contains { $0.contains("-") && !$0.contains("Percentile") }, "\(lines)")
    }

    @Test("Nothing measured is an empty file")
    func nothing() throws { #expect(try Self.distribution([]).isEmpty) }
}
