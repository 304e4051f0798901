// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import AMQPBench

@Suite("Findings of a run")
struct FindingsTests {
    /// Each failure that a run can have, and the words for it.
    struct Row: CustomTestStringConvertible {
        var testDescription: String
        var isBad = true
        var change: @Sendable (inout Report) -> Void
    }

    static let rows = [
        Row(testDescription: "lost") { $0.lost = 4711 },
        Row(testDescription: "duplicated") { $0.verify.duplicated = 4711 },
        Row(testDescription: "reordered") { $0.verify.reordered = 4711 },
        Row(testDescription: "corrupted") { $0.verify.corrupted = 4711 },
        Row(testDescription: "not accounted") {
            ($0.verify.unaccounted, $0.verify.unaccountedReason) = (4711, "a reason")
        },
        Row(testDescription: "left in the queue", isBad: false) { $0.verify.inQueue = 4711 },
        Row(testDescription: "redelivered", isBad: false) { $0.wholeRun.redelivered = 4711 },
        Row(testDescription: "nacked") { $0.wholeRun.nacked = 4711 },
        Row(testDescription: "returned") { $0.wholeRun.returned = 4711 },
        Row(testDescription: "outcome unknown") { $0.wholeRun.unknown = 4711 },
        Row(testDescription: "of other runs", isBad: false) { $0.verify.foreign = 4711 },
    ]

    @Test("What can fail is on the page, red where it is bad, and in the Markdown", arguments: rows)
    func shown(_ row: Row) throws {
        var report = Report.example()
        row.change(&report)
        let finding = try #require(report.findings.first { $0.name == row.testDescription })
        #expect(finding.isBad == row.isBad)
        #expect(finding.text.contains("4 711"))
        let page = try HTMLReport(report).page()
        let body = try #require(page.components(separatedBy: "<script type").first)
        #expect(body.contains(row.testDescription) && body.contains("4 711"))
        #expect(body.contains("class=\"tile bad\"") == row.isBad)
        let markdown = Exports.markdown(report)
        #expect(markdown.contains("| \(row.testDescription) | ") && markdown.contains("4 711"))
        #expect(markdown.contains("**4 711") == row.isBad)
    }

    @Test("A sound run has no bad finding and no red tile")
    func sound() throws {
        let report = Report.example()
        #expect(report.findings.filter(\.isBad).isEmpty)
        #expect(try !HTMLReport(report).page().contains("class=\"tile bad\""))
    }

    @Test("Pages of several runs show the options and what is bad in any of them")
    func series() throws {
        var bad = Report.example()
        bad.verify.duplicated = 4711
        let report = LatencyReport(id: "x", steps: [.init(report: .example()), .init(report: bad)])
        let page = try SeriesHTML(latency: report).page()
        let body = try #require(page.components(separatedBy: "<script type").first)
        #expect(body.contains("Every option") && body.contains("ackEvery"))
        #expect(body.contains("duplicated 4 711"))
        #expect(LatencyExports.markdown(report).contains("duplicated 4 711"))
    }

    @Test("A fault and the spread of several runs are named")
    func faultAndSpread() {
        var report = Report.example()
        report.options.fault = Fault(killAt: 5)
        report.recovery = .init(at: 5, brokerBack: 1.5, confirmed: 2, consumed: 2.5)
        report.runs = [RunFigures(report), RunFigures(report)]
        let names = report.findings.map(\.name)
        #expect(names.contains("fault") && names.contains("spread"))
        #expect(report.findings.first { $0.name == "fault" }?.text.contains("broker back after 1.500 s") == true)
    }
}
