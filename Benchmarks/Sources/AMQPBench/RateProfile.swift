// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// RateProfile: rates one after the other, as `1k:10s,5k:10s`. Pure.

/// Rates, each for its time.
struct RateProfile: ExpressibleByArgument, Codable, Hashable, Sendable {
    /// One rate.
    struct Part: Codable, Hashable, Sendable {
        /// Messages per second.
        var rate: Double
        var seconds: Double
    }

    var parts: [Part]

    init(parts: [Part]) { self.parts = parts }

    init?(argument: String) {
        var parts: [Part] = []
        for text in argument.split(separator: ",", omittingEmptySubsequences: false) {
            let pair = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            guard pair.count == 2, let rate = Rate(argument: pair[0]), let time = Seconds(argument: pair[1]),
                time.seconds > 0
            else { return nil }
            parts.append(Part(rate: rate.perSecond, seconds: time.seconds))
        }
        self.parts = parts
        guard self.seconds < Seconds.limit else { return nil }
    }

    /// How long all of it takes.
    var seconds: Double { self.parts.reduce(0) { $0 + $1.seconds } }

    /// Messages per second over all of it.
    var mean: Double { self.parts.reduce(0) { $0 + $1.rate * $1.seconds } / max(self.seconds, 1e-9) }

    /// When a message is due, nanoseconds from the start; the last rate goes on for ever.
    ///
    /// - Parameter index: Which message, from 0, of all producers together.
    /// - Returns: Nanoseconds from the start.
    func due(_ index: UInt64) -> UInt64 {
        var left = Double(index)
        var seconds = 0.0
        for part in self.parts.dropLast() {
            let count = part.rate * part.seconds
            if left < count { return UInt64(((seconds + left / part.rate) * 1e9).rounded()) }
            left -= count
            seconds += part.seconds
        }
        return UInt64(((seconds + left / (self.parts.last?.rate ?? 1)) * 1e9).rounded())
    }
}
