// SPDX-License-Identifier: Apache-2.0
import CEpoll

// MonotonicTime: a point on CLOCK_MONOTONIC, which no one sets, or on the clock of a simulation. Arithmetic saturates: a
// deadline of "never" is .max.

@frozen @usableFromInline package struct MonotonicTime: Comparable, Sendable, Hashable {
    /// Nanoseconds since an arbitrary start, usually the boot.
    @usableFromInline package var nanoseconds: UInt64

    @inlinable package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    /// Later than every other time.
    @inlinable package static var distantFuture: MonotonicTime { MonotonicTime(nanoseconds: .max) }

    @usableFromInline package static var now: MonotonicTime { MonotonicTime(nanoseconds: cepoll_now()) }

    @usableFromInline package func advanced(by duration: Duration) -> MonotonicTime {
        // 292 years and more are for ever; the components of a longer duration would trap.
        if duration >= .nanoseconds(Int64.max) { return .distantFuture }
        if duration <= .nanoseconds(Int64.min) { return MonotonicTime(nanoseconds: 0) }
        let (seconds, attoseconds) = duration.components
        let nanoseconds = seconds * 1_000_000_000 + attoseconds / 1_000_000_000
        if nanoseconds < 0 {
            let (earlier, underflow) = self.nanoseconds.subtractingReportingOverflow(nanoseconds.magnitude)
            return MonotonicTime(nanoseconds: underflow ? 0 : earlier)
        }
        let (later, overflow) = self.nanoseconds.addingReportingOverflow(nanoseconds.magnitude)
        return MonotonicTime(nanoseconds: overflow ? .max : later)
    }

    @inlinable package static func + (time: MonotonicTime, duration: Duration) -> MonotonicTime {
        time.advanced(by: duration)
    }

    package static func - (later: MonotonicTime, earlier: MonotonicTime) -> Duration {
        later >= earlier
            ? .nanoseconds(Int64(clamping: later.nanoseconds - earlier.nanoseconds))
            : .nanoseconds(-Int64(clamping: earlier.nanoseconds - later.nanoseconds))
    }

    @inlinable package static func < (left: MonotonicTime, right: MonotonicTime) -> Bool {
        left.nanoseconds < right.nanoseconds
    }
}

extension Duration {
    /// The nearest duration within 292 years, so that its components and small multiples of it can be taken without a trap.
    package var saturated: Duration { min(max(self, .nanoseconds(Int64.min)), .nanoseconds(Int64.max)) }
}
