// SPDX-License-Identifier: Apache-2.0
import Foundation

// Plot: a line plot as inline SVG. Colours and fonts come from the style sheet of the page around it, so that the
// plot follows light and dark.

/// One line of a plot.
struct PlotLine: Sendable {
    var name: String
    /// The class of the line in the style sheet.
    var color: String
    /// A value that is not a number is a gap.
    var points: [(x: Double, y: Double)]

    /// Colours of the style sheet.
    static let colors = (1...12).map { "c\($0)" }

    /// The class of one of many lines: a colour, and dashes where the colours begin again.
    static func color(_ index: Int) -> String {
        Self.colors[index % Self.colors.count] + (index >= Self.colors.count ? " dashed" : "")
    }
}

/// A part of the lower axis that is set off, such as an outage.
struct PlotBand: Sendable {
    var name: String
    var from: Double
    var to: Double
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
    /// Whether each power of ten takes the same room; for values above zero.
    var isLogarithmic = false
    /// Faults and outages.
    var bands: [PlotBand] = []

    private static let (width, height) = (720.0, 240.0)
    private static let (left, right, top, bottom) = (84.0, 20.0, 16.0, 36.0)

    /// The SVG element, or a sentence when there is nothing to draw.
    var svg: String {
        let points = self.lines.flatMap(\.points).filter { $0.x.isFinite && $0.y.isFinite }
        guard let lowest = self.start ?? points.map(\.x).min(), let highest = points.map(\.x).max(), highest > lowest
        else {
            return "<p class=\"empty\">Too few values for a plot.</p>"
        }
        let axis = self.axis(points.map(\.y))
        let x = { (value: Double) in
            Self.left + (value - lowest) / (highest - lowest) * (Self.width - Self.left - Self.right)
        }
        let y = { (value: Double) in
            Self.height - Self.bottom - axis.place(value) * (Self.height - Self.top - Self.bottom)
        }
        var svg = "<svg viewBox=\"0 0 \(Int(Self.width)) \(Int(Self.height))\" role=\"img\" "
        svg += "aria-label=\"\(HTML.escape(self.title))\">\n"
        if let shaded = self.shadedUntil, shaded > lowest {
            svg +=
                "<rect class=\"shade\" x=\"\(Self.left)\" y=\"\(Self.top)\" width=\"\(Self.number(x(shaded) - Self.left))\" "
            svg += "height=\"\(Self.height - Self.top - Self.bottom)\"/>\n"
        }
        for band in self.bands where band.from < highest && band.to > lowest {
            let (from, to) = (x(max(band.from, lowest)), x(min(band.to, highest)))
            svg += "<rect class=\"fault\" x=\"\(Self.number(from))\" y=\"\(Self.top)\" "
            svg += "width=\"\(Self.number(max(to - from, 2)))\" height=\"\(Self.height - Self.top - Self.bottom)\">"
            svg += "<title>\(HTML.escape(band.name))</title></rect>\n"
        }
        for (value, label) in axis.ticks {
            let place = Self.number(y(value))
            svg +=
                "<line class=\"grid\" x1=\"\(Self.left)\" x2=\"\(Self.width - Self.right)\" y1=\"\(place)\" y2=\"\(place)\"/>"
            svg += "<text class=\"tick\" x=\"\(Self.left - 6)\" y=\"\(Self.number(y(value) + 4))\" "
            svg += "text-anchor=\"end\">\(label)</text>\n"
        }
        for tick in self.ticks where lowest...highest ~= tick.x {
            // A label at the right edge would be cut off.
            let isLast = x(tick.x) > Self.width - Self.right - 1
            let place = isLast ? Self.width - 2 : x(tick.x)
            svg += "<text class=\"tick\" x=\"\(Self.number(place))\" y=\"\(Self.height - 10)\" "
            svg += "text-anchor=\"\(isLast ? "end" : "middle")\">\(HTML.escape(tick.text))</text>\n"
        }
        for line in self.lines {
            let parts = line.points.split { !$0.x.isFinite || !$0.y.isFinite }
            for part in parts where part.count > 1 {
                let path = part.map { "\(Self.number(x($0.x))),\(Self.number(y($0.y)))" }.joined(separator: " ")
                svg += "<polyline class=\"line \(line.color)\" points=\"\(path)\"/>\n"
            }
            // Few points are shown as such; one alone would not be seen at all.
            let isFew = parts.reduce(0) { $0 + $1.count } <= 12
            for point in parts.filter({ isFew || $0.count == 1 }).joined() {
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

    /// Where values stand on the axis, from 0 at its beginning to 1 at its end, and its labels.
    private func axis(_ values: [Double]) -> (place: (Double) -> Double, ticks: [(value: Double, label: String)]) {
        guard self.isLogarithmic else {
            let (step, top) = Self.scale(values.max() ?? 1)
            let ticks = (0...Int((top / step).rounded())).map { Double($0) * step }
            return ({ $0 / top }, ticks.map { ($0, Self.label($0, step)) })
        }
        // At most twelve powers: what is smaller stands at the beginning.
        let positive = values.filter { $0 > 0 }
        let last = log10(positive.max() ?? 1).rounded(.up)
        let first = max(min(log10(positive.min() ?? 1).rounded(.down), last - 1), last - 12)
        let ticks = (Int(first)...Int(last)).map { pow(10, Double($0)) }
        let place = { (value: Double) in
            value > 0 ? min(1, max(0, (log10(value) - first) / (last - first))) : 0
        }
        return (place, ticks.map { ($0, Self.label($0, min($0, 1))) })
    }

    private static func label(_ value: Double, _ step: Double) -> String {
        if step >= 1 { return Text.count(UInt64(value.rounded())) }
        return Text.decimal(value, places: min(6, Int(-log10(step).rounded(.down))))
    }

    private static func number(_ value: Double) -> String { Text.decimal(value, places: 1) }
}
