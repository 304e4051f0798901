// SPDX-License-Identifier: Apache-2.0
import Histogram
import Testing

@testable import AMQPBench

@Suite("Threshold")
struct ThresholdTests {
    // The example: 60 000/s, confirm p50 9 ms and p99 18.9 ms, 5.25 µs and 30 MiB.
    static let rows = [
        ("p99>18ms", true), ("p99>19ms", false), ("p99 > 18900us", false), ("p50<10ms", true), ("p99>0.01s", true),
        ("rate<50k", false), ("rate<61k", true), ("published<60000", false), ("consumed<60k/s", true),
        ("lost>0", false), ("cpu>5us", true), ("memory>31m", false), ("memory>29m", true), ("confirm.p99>18ms", true),
        ("e2e.p99>1s", true), ("duplicated<1", true), ("corrupted>0", false), ("unknown<1", true),
        ("unaccounted<1", true), ("censored>0", false),
    ]

    @Test("A condition holds or does not", arguments: rows)
    func holds(_ text: String, _ expected: Bool) throws {
        let threshold = try #require(Threshold(argument: text))
        #expect((threshold.violation(by: .example()) != nil) == expected)
    }

    @Test(
        "What says nothing is refused",
        arguments: [
            "", "p99", "p99>", ">5ms", "p98>5ms", "p99>5", "rate>5ms", "lost>1k", "p99=5ms", "p99>-5ms", "x.p99>1s",
        ]
    )
    func refuses(_ text: String) {
        #expect(Threshold(argument: text) == nil)
    }

    @Test("The latency of operations holds a condition too")
    func operations() throws {
        var report = Report.example()
        (report.latency.operation, report.latency.confirm) = (report.latency.confirm, nil)
        #expect(try #require(Threshold(argument: "p99>18ms")).violation(by: report) != nil)
        #expect(try #require(Threshold(argument: "p99>19ms")).violation(by: report) == nil)
    }

    @Test("What was not measured fails, in words")
    func notMeasured() throws {
        let threshold = try #require(Threshold(argument: "lag.max>1s"))
        #expect(threshold.violation(by: .example()) == "lag.max>1s: not measured")
        let held = try #require(Threshold(argument: "p99>10ms"))
        #expect(held.violation(by: .example()) == "p99>10ms (18.90 ms)")
    }

    @Test("In an open loop the percentiles are those from the scheduled time")
    func openLoop() throws {
        var report = Report.example()
        report.options.isOpenLoop = true
        var histogram = LatencyMeter.emptyHistogram
        histogram.record(1_000_000)
        report.latency.endToEnd = LatencySummary(histogram)
        #expect(try #require(Threshold(argument: "p99>2ms")).violation(by: report) == nil)
        #expect(try #require(Threshold(argument: "confirm.p99>2ms")).violation(by: report) != nil)
    }
}
