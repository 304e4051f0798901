// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

/// SplitMix64: random numbers that follow from a seed, the same on every machine.
package struct SeededRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) { self.state = seed }

    package mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var value = self.state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }

    /// A generator whose numbers are independent of this one's.
    package mutating func split() -> SeededRandom { SeededRandom(seed: self.next()) }

    /// A number in `0..<bound`; 0 for a bound of 0.
    package mutating func below(_ bound: Int) -> Int { bound > 0 ? Int(self.next() % UInt64(bound)) : 0 }

    /// True in `percent` of 100 cases.
    package mutating func chance(_ percent: Int) -> Bool { self.below(100) < percent }

    package mutating func duration(in range: ClosedRange<Duration>) -> Duration {
        let (low, high) = (range.lowerBound.nanoseconds, range.upperBound.nanoseconds)
        return .nanoseconds(low + Int64(self.next() % UInt64(high - low + 1)))
    }
}

extension Duration {
    fileprivate var nanoseconds: Int64 {
        let (seconds, attoseconds) = self.saturated.components
        return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }
}
