// SPDX-License-Identifier: Apache-2.0
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

    @Test("The distribution ends at all samples, in milliseconds")
    func hgrm() throws {
        let text = Exports.hgrm(.example())
        #expect(text.contains("Percentile"))
        #expect(text.contains("9.00"))
        var report = Report.example()
        report.latency.confirm = nil
        #expect(Exports.hgrm(report).isEmpty)
    }
}
