// SPDX-License-Identifier: Apache-2.0

// RetryDelay: the delay before a message whose handler failed is rejected, so that a message
// that always fails does not keep consumer and broker busy. Pure.
//
//   earlier failures   0      1       2       3       4       5       6 and more   unknown
//   delay              none   100 ms  200 ms  400 ms  800 ms  1.6 s   2 s          1 s

package enum RetryDelay {
    /// Returns the delay after another failure.
    ///
    /// - Parameter failures: Earlier failures of the message; nil for a redelivered message of a queue that does not count.
    /// - Returns: Zero for the first failure.
    package static func delay(failures: Int64?) -> Duration {
        guard let failures else { return .seconds(1) }
        guard failures > 0 else { return .zero }
        return min(.milliseconds(100 << min(failures - 1, 10)), .seconds(2))
    }
}
