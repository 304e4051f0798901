// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Histogram
import Testing

@testable import AMQPBench

@Suite("Results of several runs")
struct SeriesTests {
    private func latency(p99 factor: Double = 1) -> LatencyReport {
        var report = LatencyReport(id: "a1", capacityPerSecond: 60_000)
        for part in [0.5, 0.8] {
            var run = Report.example()
            run.options.command = "latency"
            run.options.rate = 60_000 * part
            run.options.isRateSearched = true
            var times = LatencyMeter.emptyHistogram
            for number in 1...1000 as ClosedRange<UInt64> { times.record(UInt64(Double(number * 1000) * factor)) }
            run.latency.endToEnd = LatencySummary(times)
            run.intervals = (0..<5).map { number in
                var interval = run.intervals[1]
                interval.time = Double(number + 1)
                return interval
            }
            report.steps.append(.init(ofCapacity: part, report: run))
        }
        return report
    }

    private func file(_ data: Data) throws -> String {
        let path = NSTemporaryDirectory() + "amqp-bench-test-\(UInt64.random(in: 0 ... .max)).json"
        try data.write(to: URL(fileURLWithPath: path))
        return path
    }

    @Test("A file is read as what it is")
    func stored() throws {
        let files = [
            "both": try Report.example().json(), "latency": try self.latency().json(),
            "sweep": try SweepReport(
                id: "x",
                over: "size",
                steps: ["64", "1k"].map { .init(value: $0, report: .example()) }
            ).json(),
        ]
        for (command, data) in files {
            let path = try self.file(data)
            defer { try? FileManager.default.removeItem(atPath: path) }
            let stored = try StoredResult.read(path)
            #expect(stored.command == command)
            let page = try stored.page()
            #expect(page.contains("<svg") && page.contains("prefers-color-scheme: dark"))
            for forbidden in ["http:", "https:", "src=", "href=", "<script>"] { #expect(!page.contains(forbidden)) }
        }
        #expect(throws: (any Error).self) { try StoredResult.read("/no/such/file") }
    }

    @Test(
        "A result whose numbers no run has is refused with a sentence",
        arguments: ["-1", "1e300", "18446744073709551615", "-1e308"],
        ["publishedPerSecond", "cpuPercent", "p99"]
    )
    func edited(_ number: String, _ name: String) throws {
        let text = String(decoding: try Report.example().json(), as: UTF8.self)
        let place = try #require(text.range(of: "\"\(name)\" : "))
        let end = try #require(text[place.upperBound...].firstIndex { ",\n".contains($0) })
        let path = try self.file(Data(text.replacingCharacters(in: place.upperBound..<end, with: number).utf8))
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(throws: ValidationError.self) { try StoredResult.read(path) }
    }

    @Test("Two results of latency are compared rate by rate, parts of the capacity by part")
    func compared() throws {
        let (base, slower) = (StoredResult.latency(self.latency()), StoredResult.latency(self.latency(p99: 2)))
        let comparisons = Compare.comparisons(base, slower, tolerance: 2)
        #expect(comparisons.map(\.name) == ["50 % of capacity", "80 % of capacity"])
        #expect(comparisons.allSatisfy { $0.comparison.differences.isEmpty })
        // One run of each shows a change, and proves none.
        for part in comparisons {
            let row = try #require(part.comparison.rows.first { $0.name == "p99 end to end" })
            #expect(abs(row.change - 100) < 1)
        }
        #expect(
            comparisons.allSatisfy {
                $0.comparison.rows.allSatisfy { $0.verdict == .none } && !$0.comparison.isRegression
            }
        )
        #expect(!Compare.comparisons(base, base, tolerance: 2).contains { $0.comparison.isRegression })
        #expect(Compare.comparisons(base, .run(.example()), tolerance: 2).isEmpty)
    }

    @Test("CSV and Markdown have one row for each run")
    func exports() {
        #expect(LatencyExports.csv(self.latency()).split(separator: "\n").count == 3)
        #expect(LatencyExports.markdown(self.latency()).split(separator: "\n").count == 4)
        let sweep = SweepReport(id: "x", over: "size", steps: [.init(value: "64", report: .example())])
        let lines = SweepExports.csv(sweep).split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines[1].hasPrefix("64,60000.0,59900.0,"))
    }

    @Test("Reports of instances add up, and what one confirmed may arrive at the other")
    func merged() throws {
        var (one, two) = (Report.example(), Report.example())
        one.verify.arrived = 720_000 + 300
        two.verify.arrived = 720_000 - 301
        let sum = ReportMerge.merge([one, two])
        #expect(sum.totals.published == 1_200_000)
        #expect(sum.totals.publishedPerSecond == 120_000)
        #expect(sum.wholeRun.confirmed == 1_440_000)
        #expect(sum.lost == 1)
        #expect(sum.latency.confirm?.count == 2)
        #expect(sum.client.cpuMicroseconds == 6_300_000)
        #expect(abs(sum.client.cpuMicrosecondsPerMessage - 5.25) < 1e-9)
        #expect(sum.intervals.count == 2 && sum.intervals[0].published == 116_420)
    }
}
