// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Pairs of runs")
struct RunPairsTests {
    @Test(
        "A command is split at blanks outside of quotes",
        arguments: [
            ("", []), ("--size 1k", ["--size", "1k"]), ("  a   b ", ["a", "b"]),
            ("--fail-if 'p99 > 5ms' x", ["--fail-if", "p99 > 5ms", "x"]),
            ("--header \"k=a b\"", ["--header", "k=a b"]),
            ("''", [""]), ("'a", nil), ("\"it's\"", ["it's"]),
        ] as [(String, [String]?)]
    )
    func words(_ text: String, _ words: [String]?) { #expect(RunPairs.words(text) == words) }

    @Test("Runs take turns in the order A B B A, the same number of each")
    func order() throws {
        #expect(try RunPairs(["a", "b"], pairs: 4).order == [0, 1, 1, 0, 0, 1, 1, 0])
    }

    @Test("Of results with several rates, those that all runs have are compared, each with the figures of its runs")
    func merged() {
        func result(_ rates: [Double]) -> StoredResult {
            var report = LatencyReport(id: "a")
            report.steps = rates.map { rate in
                var run = Report.example()
                run.options.rate = rate
                run.totals.publishedPerSecond = rate
                return .init(ofCapacity: nil, report: run)
            }
            return .latency(report)
        }
        let merged = RunPairs.merged(
            [result([1000, 5000]), result([1000, 5000])],
            [result([1000, 5000]), result([1000])]
        )
        #expect(merged.map(\.name) == ["1 000/s"])
        #expect(merged.first?.base.runs?.count == 2 && merged.first?.other.runs?.count == 2)
        #expect(RunPairs.merged([result([1])], [.run(.example())]).isEmpty)
    }

    @Test(
        "What cannot be run in pairs is refused",
        arguments: [
            (["a"], 10), (["a", "b", "c"], 10), (["a", "b"], 1), (["a", "'b"], 10), (["a", "--json x"], 10),
        ]
    )
    func refused(_ commands: [String], _ pairs: Int) {
        #expect(throws: (any Error).self) { try RunPairs(commands, pairs: pairs) }
    }
}
