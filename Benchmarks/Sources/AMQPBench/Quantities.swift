// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// Quantities: sizes and durations as people type them, and numbers as people read them.

/// A number of octets: `256`, `1k`, `16m`; k and m are powers of 1024.
struct Size: ExpressibleByArgument, Codable, Hashable, Sendable {
    var octets: Int

    init(octets: Int) { self.octets = octets }

    init?(argument: String) {
        let text = argument.lowercased()
        let units: [Character: Int] = ["k": 1 << 10, "m": 1 << 20]
        let unit = text.last.flatMap { units[$0] }
        guard let number = Int(unit == nil ? text : String(text.dropLast())), number >= 0,
            case let (octets, overflow) = number.multipliedReportingOverflow(by: unit ?? 1), !overflow
        else { return nil }
        self.octets = octets
    }

    var defaultValueDescription: String { String(self.octets) }
}

/// Sizes of bodies: `256`, or `64:4k` for sizes spread evenly between two.
struct SizeRange: ExpressibleByArgument, Hashable, Sendable {
    var low: Int
    var high: Int

    init(_ octets: Int) { self.init(low: octets, high: octets) }

    init(low: Int, high: Int) {
        self.low = low
        self.high = high
    }

    init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let sizes = parts.compactMap { Size(argument: $0)?.octets }
        guard sizes.count == parts.count, 1...2 ~= sizes.count, let low = sizes.first, let high = sizes.last,
            low <= high
        else { return nil }
        self.init(low: low, high: high)
    }

    var defaultValueDescription: String { self.low == self.high ? String(self.low) : "\(self.low):\(self.high)" }
}

/// A length of time: `500ms`, `10s`, `10`, `2m`, `1h`; a bare number is seconds.
struct Seconds: ExpressibleByArgument, Codable, Hashable, Sendable {
    var seconds: Double

    init(_ seconds: Double) { self.seconds = seconds }

    init?(argument: String) {
        let text = argument.lowercased()
        // The first that fits: "ms" ends in "s".
        let units: [(String, Double)] = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)]
        let unit = units.first { text.hasSuffix($0.0) }
        guard let number = Double(text.dropLast(unit?.0.count ?? 0)), number >= 0, number.isFinite, number < 1e9 else {
            return nil
        }
        self.seconds = number * (unit?.1 ?? 1)
    }

    var duration: Duration { .seconds(self.seconds) }
    var defaultValueDescription: String { "\(Int(self.seconds))s" }
}

/// A number of messages per second: `500`, `50k`, `1.5m`; k and m are powers of 1000.
struct Rate: ExpressibleByArgument, Codable, Hashable, Sendable {
    var perSecond: Double

    init(perSecond: Double) { self.perSecond = perSecond }

    init?(argument: String) {
        let text = argument.lowercased()
        let units: [Character: Double] = ["k": 1e3, "m": 1e6]
        let unit = text.last.flatMap { units[$0] }
        guard let number = Double(unit == nil ? text : String(text.dropLast())), number.isFinite else { return nil }
        self.perSecond = number * (unit ?? 1)
        guard 0.001...1e9 ~= self.perSecond else { return nil }
    }
}

/// What `--rate` takes: a rate, or `auto` for parts of a capacity that is looked for.
enum RateChoice: ExpressibleByArgument, Hashable, Sendable {
    case auto
    case fixed(Rate)

    init?(argument: String) {
        if argument.lowercased() == "auto" {
            self = .auto
        } else {
            guard let rate = Rate(argument: argument) else { return nil }
            self = .fixed(rate)
        }
    }

    /// Messages per second; nil for `auto`.
    var perSecond: Double? { if case .fixed(let rate) = self { rate.perSecond } else { nil } }
}

/// Numbers as text.
///
/// Thousands are set apart by a blank; units stay the same down a column.
enum Text {
    /// A count, as in `61 840`.
    static func count(_ value: UInt64) -> String {
        let digits = String(value)
        var text = ""
        for (index, digit) in digits.enumerated() {
            if index > 0 && (digits.count - index) % 3 == 0 { text += " " }
            text.append(digit)
        }
        return text
    }

    /// A rate, as in `61 840/s`.
    static func rate(_ value: Double) -> String { self.count(UInt64(max(0, value.rounded()))) + "/s" }

    /// With a fixed number of decimals.
    static func decimal(_ value: Double, places: Int) -> String { String(format: "%.\(places)f", value) }

    /// Milliseconds of a time in microseconds.
    static func milliseconds(_ microseconds: Double) -> String { self.decimal(microseconds / 1000, places: 2) }

    /// A share, as in `33 %`.
    static func percent(_ value: Double) -> String { "\(Int(value.rounded())) %" }

    /// Fills with blanks on the left up to a width.
    static func right(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }

    /// Fills with blanks on the right up to a width.
    static func left(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
}
