// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import AMQPBench

@Suite("Plot")
struct PlotTests {
    private func plot(_ points: [(x: Double, y: Double)], isLogarithmic: Bool = false) -> Plot {
        Plot(
            title: "t",
            unit: "u",
            lines: [PlotLine(name: "l", color: "c1", points: points)],
            ticks: [],
            isLogarithmic: isLogarithmic
        )
    }

    private func heights(_ svg: String) -> [Double] {
        svg.components(separatedBy: "cy=\"").dropFirst().compactMap { Double($0.prefix { $0 != "\"" }) }
    }

    @Test("A value that is missing is a gap in the line")
    func gaps() {
        let svg = self.plot([(0, 1), (1, 2), (2, .nan), (3, 2), (4, 1), (5, .nan), (6, 1)]).svg
        #expect(svg.components(separatedBy: "<polyline").count - 1 == 2)
        // The point between two gaps is seen too.
        #expect(svg.components(separatedBy: "<circle").count - 1 == 5)
    }

    @Test("On a logarithmic axis each power of ten takes the same room, and each has its label")
    func logarithmic() {
        let svg = self.plot([(0, 0.1), (1, 1), (2, 10), (3, 100)], isLogarithmic: true).svg
        let heights = self.heights(svg)
        #expect(heights.count == 4)
        let steps = zip(heights, heights.dropFirst()).map { $0 - $1 }
        #expect(steps.allSatisfy { abs($0 - steps[0]) < 0.3 && $0 > 10 })
        for label in [">0.1<", ">1<", ">10<", ">100<"] { #expect(svg.contains(label), "\(label)") }
    }

    @Test(
        "A logarithmic axis takes zero, one value and any range",
        arguments: [[0, 0], [5, 5], [1e-9, 1e14], [0, 1e-12]]
    )
    func extremes(_ values: [Double]) {
        let svg = self.plot([(0, values[0]), (1, values[1])], isLogarithmic: true).svg
        #expect(self.heights(svg).allSatisfy { 0...240 ~= $0 })
        #expect(!svg.contains("nan") && !svg.contains("inf"))
    }

    @Test("Lines have twelve colours, and dashes after that")
    func colours() throws {
        #expect(Set((0..<24).map { PlotLine.color($0) }).count == 24)
        #expect(PlotLine.color(12) == "c1 dashed")
        let page = try HTMLReport(.example()).page()
        for color in PlotLine.colors { #expect(page.contains(".\(color) { --c: var(--\(color)); }"), "\(color)") }
    }

    @Test("Faults and outages are marked, with their names")
    func bands() throws {
        var report = Report.example()
        report.options.warmup = 0
        report.options.fault = Fault(killAt: 0.5)
        report.recovery = .init(at: 0.5, brokerBack: 0.2, confirmed: 0.3, consumed: 0.4)
        report.outages = [.init(connection: "producer 0", at: 0.5, connected: 0.2, resumed: 0.3)]
        report.options.faultCommand = FaultCommand(command: "true", start: 1)
        report.faultCommand = .init(at: 1, status: 0, seconds: 0.1)
        let bands = HTMLReport.bands(report)
        #expect(bands.map(\.name) == ["fault", "fault command", "outage of producer 0"])
        #expect(
            bands.map(\.from) == [0.5, 1, 0.5]
                && zip(bands.map(\.to), [0.9, 1.1, 0.8]).allSatisfy { abs($0 - $1) < 1e-9 }
        )
        let page = try HTMLReport(report).page()
        #expect(page.components(separatedBy: "<rect class=\"fault\"").count - 1 >= 6)
        #expect(page.contains("<title>outage of producer 0</title>"))
    }
}
