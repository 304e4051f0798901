// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// Quantities: sizes and durations as people type them, and numbers as people read them.

/// A number of octets: `256`, `1k`, `1kb`, `16m`, `16MiB`; k and m are powers of 1024.
struct Size: ExpressibleByArgument, Codable, Hashable, Sendable {
    var octets: Int

    init(octets: Int) { self.octets = octets }

    init?(argument: String) {
        var text = argument.lowercased()
        for suffix in ["ib", "b"] where text.hasSuffix(suffix) {
            text.removeLast(suffix.count)
            break
        }
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

    /// Makes sure that the client accepts such bodies.
    ///
    /// - Throws: `ValidationError` where it does not.
    func checked() throws {
        guard self.high <= 16 << 20 else {
            throw ValidationError("--size takes at most 16m, the largest body the client accepts by default.")
        }
    }
}

/// A number of messages: `500`, `10k`, `1.5m`; k and m are powers of 1000.
struct MessageCount: ExpressibleByArgument, Hashable, Sendable {
    var messages: Int

    init?(argument: String) {
        let text = argument.lowercased()
        let units: [Character: Double] = ["k": 1e3, "m": 1e6]
        let unit = text.last.flatMap { units[$0] }
        guard let unit else {
            guard let number = Int(text) else { return nil }
            self.messages = number
            return
        }
        guard let number = Double(text.dropLast()), number.isFinite, abs(number * unit) < 1e15,
            (number * unit).rounded() == number * unit
        else { return nil }
        self.messages = Int(number * unit)
    }
}

/// A length of time: `500ms`, `100us`, `10s`, `10`, `2m`, `1m30s`, `1h`; a bare number is seconds.
struct Seconds: ExpressibleByArgument, Codable, Hashable, Sendable {
    var seconds: Double

    init(_ seconds: Double) { self.seconds = seconds }

    init?(argument: String) {
        var rest = Substring(argument.lowercased())
        var (sum, last) = (0.0, Double.infinity)
        repeat {
            let digits = rest.prefix { $0.isNumber || $0 == "." }
            rest = rest.dropFirst(digits.count)
            let name = rest.prefix { !$0.isNumber && $0 != "." }
            rest = rest.dropFirst(name.count)
            // A bare number stands alone; of several parts each has a smaller unit than the one before.
            guard let number = Double(digits), number.isFinite,
                let unit = name.isEmpty && last == .infinity && rest.isEmpty ? 1 : Self.units[String(name)], unit < last
            else { return nil }
            // Divided by a whole number, so that 100us is the number that is nearest to it.
            sum += unit < 1 ? number / (1 / unit).rounded() : number * unit
            last = unit
        } while !rest.isEmpty
        guard sum < Self.limit else { return nil }
        self.seconds = sum
    }

    /// 31 years: several such times are nanoseconds of 64 bits.
    static let limit = 1e9

    private static let units: [String: Double] = [
        "h": 3600, "m": 60, "s": 1, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "μs": 1e-6,
    ]

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
    static func rate(_ value: Double) -> String { self.count(UInt64(exactly: max(0, value.rounded())) ?? 0) + "/s" }

    /// With a fixed number of decimals.
    static func decimal(_ value: Double, places: Int) -> String { String(format: "%.\(places)f", value) }

    /// Milliseconds of a time in microseconds.
    static func milliseconds(_ microseconds: Double) -> String { self.decimal(microseconds / 1000, places: 2) }

    /// The same of a time that may not be known.
    static func milliseconds(_ microseconds: Double?) -> String { microseconds.map { Self.milliseconds($0) } ?? "–" }

    /// A share, as in `33 %`.
    static func percent(_ value: Double) -> String { "\(Int(exactly: value.rounded()) ?? 0) %" }

    /// Fills with blanks on the left up to a width.
    static func right(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }

    /// Fills with blanks on the right up to a width.
    static func left(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
}
