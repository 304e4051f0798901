// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import AMQPBench

// EditedResultTests: results that were changed by hand. Each number, text and list of a result is changed in turn; the
// result is then refused with a sentence, or drawn and compared without a trap.

@Suite("A result that was edited")
struct EditedResultTests {
    /// All variants of a value with one change each.
    private static func variants(_ value: Any) -> [Any] {
        switch value {
        case let object as [String: Any]:
            var found: [Any] = []
            for (key, value) in object {
                for variant in Self.variants(value) { found.append(object.merging([key: variant]) { $1 }) }
                found.append(object.filter { $0.key != key })
            }
            return found
        case let list as [Any]:
            // A histogram has many pairs that are alike.
            return list.enumerated().prefix(3).flatMap { index, value in
                Self.variants(value).map { variant in
                    var copy = list
                    copy[index] = variant
                    return copy as Any
                }
            } + [[], [[]]]
        case is String: return ["", "</script>", 7]
        default: return [0, 1, 0.5, 1e-12, 4711, 1e15, -1, 1e300, "7", NSNull()]
        }
    }

    @Test("It is refused with a sentence, or shown: nothing traps")
    func edited() throws {
        var original = Report.example()
        original.latency.confirm?.histogram = [[1000, 5], [2000, 4], [3000, 1], [4000, 1]]
        let whole = try #require(JSONSerialization.jsonObject(with: original.json()) as? [String: Any])
        let file = FileManager.default.temporaryDirectory
            .appendingPathComponent("amqp-bench-edited-\(UInt32.random(in: 0 ... .max)).json").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        var (refused, shown) = (0, 0)
        for variant in Self.variants(whole) {
            try JSONSerialization.data(withJSONObject: variant).write(to: URL(fileURLWithPath: file))
            let result: StoredResult
            do {
                result = try StoredResult.read(file)
            } catch {
                #expect("\(error)".contains(file))
                refused += 1
                continue
            }
            shown += 1
            guard case .run(let report) = result else {
                Issue.record("not a run")
                continue
            }
            _ = try result.page()
            _ = try SeriesHTML(latency: LatencyReport(id: "x", steps: [.init(report: report)])).page()
            _ = try SeriesHTML(sweep: SweepReport(id: "x", over: "size", steps: [.init(value: "1", report: report)]))
                .page()
            _ = (Exports.csv(report), Exports.markdown(report))
            let text = RunText(style: .plain)
            _ = (text.header(report), text.summary(report), text.spread(report), text.closing(report, savedTo: nil))
            _ = report.intervals.map { text.row($0, report.options) }
            _ = LatencyText(style: .plain).row(report, part: nil)
            for comparison in [Comparison(original, report, tolerance: 2), Comparison(report, original, tolerance: 2)] {
                _ = ComparisonText(style: .plain, base: "a", other: "b").lines(comparison)
            }
        }
        #expect(refused > 100 && shown > 100, "\(refused) \(shown)")
    }
}
