// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import AMQPBench

@Suite("Page of a comparison")
struct ComparisonHTMLTests {
    static func page(slower factor: Double) throws -> String {
        var base = ChromiumTests.sampled
        base.runs = (0..<10).map { number in
            var run = base
            run.totals.publishedPerSecond += Double(number)
            return RunFigures(run)
        }
        var other = base
        other.runs = base.runs?.map { run in
            var run = run
            run.publishedPerSecond *= factor
            return run
        }
        let comparison = Comparison(base, other, tolerance: 2, isPaired: true)
        let part = ComparisonHTML.Part(name: "", base: base, other: other, comparison: comparison)
        return try ComparisonHTML(base: "main", other: "<branch>", parts: [part]).page()
    }

    @Test("Both results are in one table and in the same plots, and a regression is red")
    func both() throws {
        let page = try Self.page(slower: 0.8)
        let body = try #require(page.components(separatedBy: "<script type").first)
        #expect(body.contains("<tr class=\"bad\"><td>published/s</td>") && body.contains("<td>worse</td>"))
        #expect(body.contains("main confirm</span>") && body.contains("&lt;branch&gt; confirm</span>"))
        #expect(!body.contains("<branch>"))
        #expect(body.components(separatedBy: "Every option of").count - 1 == 2)
        #expect(try !Self.page(slower: 1).contains("<tr class=\"bad\">"))
    }

    @Test("compare writes it where --html says, and refuses results that cannot be compared all the same")
    func command() async throws {
        try await Tool.withDirectory { directory in
            for name in ["a", "b"] {
                try Report.example().json().write(to: URL(fileURLWithPath: "\(directory)/\(name).json"))
            }
            let result = try await Tool.bash("$TOOL compare a.json b.json --html c.html", in: directory)
            #expect(result.status == 0 && result.output.contains("saved  c.html"), "\(result.output)")
            let page = try String(contentsOfFile: directory + "/c.html", encoding: .utf8)
            #expect(page.contains("amqp-bench: a and b"))
        }
    }
}
