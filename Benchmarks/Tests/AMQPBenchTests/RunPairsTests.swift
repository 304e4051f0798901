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
