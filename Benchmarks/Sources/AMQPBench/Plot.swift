// SPDX-License-Identifier: Apache-2.0
import Foundation

// Plot: a line plot as inline SVG. Colours and fonts come from the style sheet of the page around it, so that the
// plot follows light and dark.

/// One line of a plot.
struct PlotLine: Sendable {
    var name: String
    /// The class of the line in the style sheet.
    var color: String
    var points: [(x: Double, y: Double)]
}

/// A plot of lines over one axis.
struct Plot: Sendable {
    var title: String
    var unit: String
    var lines: [PlotLine]
    /// Labels of the lower axis: a place and its text.
    var ticks: [(x: Double, text: String)]
    /// Where the measured part begins; what is before is shaded.
    var shadedUntil: Double?
    /// Where the lower axis begins; at the first point otherwise.
    var start: Double?

    private static let (width, height) = (720.0, 240.0)
    private static let (left, right, top, bottom) = (84.0, 20.0, 16.0, 36.0)

    /// The SVG element, or a sentence when there is nothing to draw.
    var svg: String {
        let points = self.lines.flatMap(\.points).filter { $0.x.isFinite && $0.y.isFinite }
        guard let lowest = self.start ?? points.map(\.x).min(), let highest = points.map(\.x).max(), highest > lowest
        else {
            return "<p class=\"empty\">Too few values for a plot.</p>"
        }
        let (step, top) = Self.scale(points.map(\.y).max() ?? 1)
        let x = { (value: Double) in
            Self.left + (value - lowest) / (highest - lowest) * (Self.width - Self.left - Self.right)
        }
        let y = { (value: Double) in
            Self.height - Self.bottom - value / top * (Self.height - Self.top - Self.bottom)
        }
        var svg = "<svg viewBox=\"0 0 \(Int(Self.width)) \(Int(Self.height))\" role=\"img\" "
        svg += "aria-label=\"\(HTML.escape(self.title))\">\n"
        if let shaded = self.shadedUntil, shaded > lowest {
            svg +=
                "<rect class=\"shade\" x=\"\(Self.left)\" y=\"\(Self.top)\" width=\"\(Self.number(x(shaded) - Self.left))\" "
            svg += "height=\"\(Self.height - Self.top - Self.bottom)\"/>\n"
        }
        for index in 0...Int((top / step).rounded()) {
            let value = Double(index) * step
            let place = Self.number(y(value))
            svg +=
                "<line class=\"grid\" x1=\"\(Self.left)\" x2=\"\(Self.width - Self.right)\" y1=\"\(place)\" y2=\"\(place)\"/>"
            svg += "<text class=\"tick\" x=\"\(Self.left - 6)\" y=\"\(Self.number(y(value) + 4))\" "
            svg += "text-anchor=\"end\">\(Self.label(value, step))</text>\n"
        }
        for tick in self.ticks where lowest...highest ~= tick.x {
            svg += "<text class=\"tick\" x=\"\(Self.number(x(tick.x)))\" y=\"\(Self.height - 10)\" "
            svg += "text-anchor=\"middle\">\(HTML.escape(tick.text))</text>\n"
        }
        for line in self.lines {
            let path = line.points.filter { $0.x.isFinite && $0.y.isFinite }
                .map { "\(Self.number(x($0.x))),\(Self.number(y($0.y)))" }
            if path.count > 1 {
                svg += "<polyline class=\"line \(line.color)\" points=\"\(path.joined(separator: " "))\"/>\n"
            }
            // Few points are shown as such; one alone would not be seen at all.
            guard path.count <= 12 else { continue }
            for point in line.points where point.x.isFinite && point.y.isFinite {
                svg += "<circle class=\"dot \(line.color)\" cx=\"\(Self.number(x(point.x)))\" "
                svg += "cy=\"\(Self.number(y(point.y)))\" r=\"3.5\"/>\n"
            }
        }
        return svg + "</svg>"
    }

    /// The plot with its title and what its lines are.
    var figure: String {
        let keys = self.lines.filter { !$0.points.isEmpty }.map {
            "<span class=\"key \($0.color)\">\(HTML.escape($0.name))</span>"
        }
        return """
            <figure><figcaption><b>\(HTML.escape(self.title))</b> <i>\(HTML.escape(self.unit))</i>
            \(keys.joined(separator: " "))</figcaption>
            \(self.svg)
            </figure>

            """
    }

    /// A step of 1, 2 or 5 times a power of ten with four to ten steps up to the largest value, and the end of the axis.
    static func scale(_ largest: Double) -> (step: Double, top: Double) {
        guard largest > 0 else { return (1, 1) }
        let power = pow(10, (log10(largest / 5)).rounded(.down))
        let step = [1, 2, 5, 10].map { $0 * power }.first { largest / $0 <= 5 } ?? power * 10
        return (step, (largest / step).rounded(.up) * step)
    }

    private static func label(_ value: Double, _ step: Double) -> String {
        if step >= 1 { return Text.count(UInt64(value.rounded())) }
        return Text.decimal(value, places: min(6, Int(-log10(step).rounded(.down))))
    }

    private static func number(_ value: Double) -> String { Text.decimal(value, places: 1) }
}
