// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Comparison")
struct ComparisonTests {
    /// A run with intervals of these rates, at a constant cost per message.
    private func report(_ rates: [Double], cpu: Double = 5) -> Report {
        var report = Report.example()
        report.intervals = rates.map { rate in
            Report.Interval(
                time: 1,
                isWarmup: false,
                published: rate,
                confirmed: rate,
                consumed: rate,
                inFlight: 1,
                clientCPUPercent: rate * cpu / 1e4,
                brokerCPUPercent: nil,
                confirmP50: 1000,
                confirmP99: 2000
            )
        }
        return report
    }

    @Test("A result does not differ from itself")
    func itself() {
        let report = self.report([100, 101, 99, 100, 102, 98])
        let comparison = Comparison(report, report, tolerance: 0)
        #expect(comparison.rows.count == 4)
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
        #expect(row.range.contains(10) && row.range.lowerBound > 7 && row.range.upperBound < 13)
        #expect(!better.isRegression)
        let worse = Comparison(more, base, tolerance: 2)
        #expect(worse.rows.first?.verdict == .worse)
        #expect(worse.isRegression)
    }

    @Test("A change within the tolerance or the noise is no difference")
    func noise() {
        let base = self.report([100, 100, 100, 100])
        #expect(!Comparison(base, self.report([99, 99, 99, 99]), tolerance: 2).isRegression)
        #expect(Comparison(base, self.report([97, 97, 97, 97]), tolerance: 2).isRegression)
        #expect(!Comparison(base, self.report([50, 150, 60, 130]), tolerance: 2).isRegression)
    }

    @Test("Less processor time per message is better")
    func cost() throws {
        let comparison = Comparison(self.report([100, 100, 100]), self.report([100, 100, 100], cpu: 4), tolerance: 2)
        let row = try #require(comparison.rows.first { $0.name == "client µs/msg" })
        #expect(row.verdict == .better)
        #expect(abs(row.change + 20) < 1e-9)
    }

    @Test("Three runs or more are the samples instead of the intervals")
    func runs() throws {
        var (base, other) = (self.report([100, 100, 100]), self.report([100, 100, 100]))
        base.runs = [1000, 1010, 990].map { rate in
            var figures = RunFigures(base)
            figures.publishedPerSecond = rate
            return figures
        }
        other.runs = base.runs
        #expect(Comparison(base, other, tolerance: 2).rows.first?.base == 1000)
    }

    @Test("Losing messages is a regression, and other conditions are named")
    func conditions() {
        let base = self.report([100, 100, 100])
        var other = base
        other.lost = 1
        #expect(Comparison(base, other, tolerance: 2).isRegression)
        other.lost = 0
        other.broker.version = "4.2.0"
        other.options.size = 1024
        #expect(
            Comparison(base, other, tolerance: 2).differences
                == ["broker: RabbitMQ 4.1.0 and RabbitMQ 4.2.0", "size: 256 and 1024"]
        )
    }

    @Test("The text keeps its columns and says the verdict")
    func text() {
        let comparison = Comparison(self.report([100, 101, 99]), self.report([90, 91, 89]), tolerance: 2)
        let lines = ComparisonText(style: .plain, base: "main", other: "branch").lines(comparison)
        #expect(lines.contains { $0.hasPrefix("  published/s") && $0.hasSuffix("worse") && $0.contains("−10.0 %") })
        #expect(lines.contains { $0.hasPrefix("  branch is 0.90 ± ") && $0.hasSuffix(" × main in published/s.") })
        #expect(lines.last == "  Same broker, machine and options.")
    }
}
