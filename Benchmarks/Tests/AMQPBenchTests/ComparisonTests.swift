// SPDX-License-Identifier: Apache-2.0
import Histogram
import Testing

@testable import AMQPBench

@Suite("Comparison")
struct ComparisonTests {
    /// A result of runs with these rates, at a constant cost per message.
    private func report(_ rates: [Double], cpu: Double = 5) -> Report {
        var report = Report.example()
        report.runs = rates.map { rate in
            var figures = RunFigures(report)
            figures.publishedPerSecond = rate
            figures.consumedPerSecond = rate
            figures.cpuMicrosecondsPerMessage = cpu
            return figures
        }
        return report
    }

    @Test("A result does not differ from itself")
    func itself() {
        let report = self.report([100, 101, 99, 100, 102, 98])
        let comparison = Comparison(report, report, tolerance: 0)
        #expect(comparison.rows.allSatisfy { $0.verdict == .noDifference && $0.change == 0 })
        #expect(!comparison.isRegression)
        #expect(comparison.differences.isEmpty)
    }

    @Test("A tenth more is better, a tenth less is a regression")
    func tenth() throws {
        let (base, more) = (self.report([100, 101, 99, 100, 102, 98]), self.report([110, 111, 109, 110, 112, 108]))
        let better = Comparison(base, more, tolerance: 2)
        let row = try #require(better.rows.first)
        #expect(row.verdict == .better)
        #expect(abs(row.change - 10) < 1e-9)
        // Two of the 924 ways to part twelve runs are as far apart.
        #expect(abs(try #require(row.chance) - 2.0 / 924) < 1e-9)
        #expect(!better.isRegression)
        let worse = Comparison(more, base, tolerance: 2)
        #expect(worse.rows.first?.verdict == .worse)
        #expect(worse.isRegression)
    }

    @Test("A single pair has no verdict, however far apart, and the text says how many runs it takes")
    func pair() throws {
        let comparison = Comparison(self.report([100]), self.report([10]), tolerance: 2)
        #expect(comparison.rows.allSatisfy { $0.verdict == .none })
        #expect(!comparison.isRegression)
        let runs = try #require(comparison.runsNeeded)
        #expect(4...6 ~= runs)
        let lines = ComparisonText(style: .plain, base: "a", other: "b").lines(comparison)
        #expect(lines.contains { $0.contains("A verdict takes \(runs) runs of each") })
    }

    @Test("Intervals of one run are no runs")
    func intervals() {
        var report = Report.example()
        report.intervals = [100, 101, 99, 100].map { rate in
            Report.Interval(
                time: 1,
                isWarmup: false,
                published: rate,
                confirmed: rate,
                consumed: rate,
                inFlight: 1,
                clientCPUPercent: 1
            )
        }
        var other = report
        for index in other.intervals.indices { other.intervals[index].published = 50 }
        #expect(Comparison(report, other, tolerance: 2).rows.allSatisfy { $0.verdict == .none })
    }

    @Test("A change within the tolerance or the noise is no difference")
    func noise() {
        let base = self.report([100, 100, 100, 100, 100, 100])
        #expect(!Comparison(base, self.report([99, 99, 99, 99, 99, 99]), tolerance: 2).isRegression)
        #expect(Comparison(base, self.report([97, 97, 97, 97, 97, 97]), tolerance: 2).isRegression)
        #expect(!Comparison(base, self.report([50, 150, 60, 130, 70, 120]), tolerance: 2).isRegression)
    }

    @Test("Pairs take a drift of the machine out")
    func paired() {
        let drift = (0..<10).map { 100.0 + 20 * Double($0) }
        let (base, other) = (self.report(drift), self.report(drift.map { $0 * 0.95 }))
        #expect(!Comparison(base, other, tolerance: 2).isRegression)
        #expect(Comparison(base, other, tolerance: 2, isPaired: true).isRegression)
    }

    @Test("Of comparisons of equal things at most 5 % get a verdict, paired or not", arguments: [true, false])
    func same(_ isPaired: Bool) {
        var generator = SplitMix(seed: 42)
        var verdicts = 0
        let rounds = 120
        for _ in 0..<rounds {
            func runs() -> Report {
                var report = self.report([])
                report.runs = (0..<6).map { _ in
                    var figures = RunFigures(report)
                    figures.publishedPerSecond = .random(in: 900...1100, using: &generator)
                    figures.consumedPerSecond = .random(in: 800...1200, using: &generator)
                    figures.cpuMicrosecondsPerMessage = .random(in: 4...6, using: &generator)
                    return figures
                }
                return report
            }
            let comparison = Comparison(runs(), runs(), tolerance: 0, isPaired: isPaired)
            if comparison.rows.contains(where: { [.better, .worse].contains($0.verdict) }) { verdicts += 1 }
        }
        #expect(verdicts <= rounds / 20, "\(verdicts) of \(rounds)")
    }

    @Test("Less processor time per message is better")
    func cost() throws {
        let rates = [100.0, 101, 99, 100, 102, 98]
        let comparison = Comparison(self.report(rates), self.report(rates, cpu: 4), tolerance: 2)
        let row = try #require(comparison.rows.first { $0.name == "client µs/msg" })
        #expect(row.verdict == .better)
        #expect(abs(row.change + 20) < 1e-9)
    }

    @Test("The latency of operations is compared as that of confirms is")
    func operations() throws {
        var report = Report.example()
        (report.options.command, report.latency.confirm) = ("rpc", nil)
        var times = LatencyMeter.emptyHistogram
        times.record(5_000_000)
        report.latency.operation = LatencySummary(times)
        let row = try #require(Comparison(report, report, tolerance: 2).rows.first { $0.name == "p99" })
        #expect(abs(row.base - 5000) < 10)
    }

    @Test("Losing messages is a regression, and other conditions are named, whichever option it is")
    func conditions() {
        let base = self.report([100, 100, 100])
        var other = base
        other.lost = 1
        #expect(Comparison(base, other, tolerance: 2).isRegression)
        other.lost = 0
        // The median of several runs may be sound where another is not.
        other.runs?[2].isSound = false
        let unsound = Comparison(base, other, tolerance: 2)
        #expect(unsound.isRegression)
        let text = ComparisonText(style: .plain, base: "main", other: "branch").lines(unsound)
        #expect(text.contains { $0.hasPrefix("  branch lost") }, "\(text)")
        #expect(!Comparison(other, other, tolerance: 2).isRegression)
        other.runs?[2].isSound = true
        other.broker.version = "4.2.0"
        other.options.size = 1024
        #expect(
            Comparison(base, other, tolerance: 2).differences
                == ["broker: RabbitMQ 4.1.0 and RabbitMQ 4.2.0", "size: 256 and 1024"]
        )
        let changes: [(inout RunOptions) -> Void] = [
            { $0.inFlight = 3 }, { $0.churn = .queue }, { $0.consumerWork = 0.1 }, { $0.queueArguments = ["x": "1"] },
            { $0.exchange = "e" }, { $0.mandatory = true }, { $0.threads = 3 }, { $0.connections = 2 }, { $0.time = 3 },
        ]
        for change in changes {
            var other = base
            change(&other.options)
            #expect(Comparison(base, other, tolerance: 2).differences.count == 1)
        }
    }

    @Test("The text keeps its columns and says the verdict")
    func text() {
        let rates = [100.0, 101, 99, 100, 102, 98]
        let comparison = Comparison(self.report(rates), self.report(rates.map { $0 * 0.9 }), tolerance: 2)
        let lines = ComparisonText(style: .plain, base: "main", other: "branch").lines(comparison)
        #expect(lines.contains { $0.hasPrefix("  published/s") && $0.hasSuffix("worse") && $0.contains("−10.0 %") })
        #expect(lines.contains("  branch is 0.90 × main in published/s."))
        #expect(lines.last == "  Same broker, machine and options.")
    }
}
