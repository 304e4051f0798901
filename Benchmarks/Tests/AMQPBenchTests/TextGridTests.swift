// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Text that fits")
struct TextGridTests {
    static let columns = [
        TextColumn(name: "name", width: 10, narrow: 6, weight: 0, isText: true),
        TextColumn(name: "much", width: 10, narrow: 8, weight: 2),
        TextColumn(name: "little", short: "lit", width: 10, narrow: 8, weight: 1),
    ]

    @Test("A table is wide where it fits, then narrow, and then loses the columns with the least weight")
    func fits() {
        #expect(TextGrid(Self.columns, width: nil).head == "name            much    little")
        #expect(TextGrid(Self.columns, width: 30).row(["a", "1", "2"]) == "a                  1         2")
        #expect(TextGrid(Self.columns, width: 29).head == "name      much     lit")
        #expect(TextGrid(Self.columns, width: 22).row(["a", "1", "2"]) == "a            1       2")
        #expect(TextGrid(Self.columns, width: 21).row(["a", "1", "2"]) == "a            1")
        #expect(TextGrid(Self.columns, width: 1).row(["a", "1", "2"]) == "a     ")
    }

    @Test("A line is broken at two blanks if it can, else at one, and a long word stays whole")
    func wraps() {
        #expect(Text.wrapped("short", width: 5) == ["short"])
        #expect(Text.wrapped("  one two   three", width: 12) == ["  one two", "    three"])
        #expect(Text.wrapped("one two three", width: 9) == ["one two", "   three"])
        #expect(Text.wrapped("one   two three four", width: 16) == ["one   two three", "    four"])
        #expect(Text.wrapped("/a/path/without/blanks", width: 9) == ["/a/path/without/blanks"])
        let red = Style.ansi.red("0123456789")
        #expect(Text.wrapped(red, width: 10) == [red])
    }

    @Test("Rows and summaries fit 80 and 40 characters", arguments: [80, 40])
    func runs(_ width: Int) {
        var report = Report.example()
        for (command, producers) in [("both", 1), ("rpc", 1), ("consume", 0)] {
            (report.options.command, report.options.producers) = (command, producers)
            let text = RunText(style: Style.ansi.fitting(width))
            var lines = [text.columns(report.options)] + report.intervals.map { text.row($0, report.options) }
            #expect(lines.allSatisfy { Text.visibleCount($0) <= width }, "\(lines)")
            lines = (text.header(report) + text.summary(report)).flatMap { Text.wrapped($0, width: width) }
            #expect(lines.allSatisfy { Text.visibleCount($0) <= width }, "\(lines)")
        }
        let latency = LatencyText(style: Style.ansi.fitting(width))
        let row = latency.row(.example(), part: 0.5)
        #expect(Text.visibleCount(latency.columns()) <= width && Text.visibleCount(row) <= width, "\(row)")
        let sweep = SweepText(style: Style.plain.fitting(width))
        #expect(sweep.columns("size", report.options).count <= width && sweep.row("1k", report).count <= width)
    }
}
