// SPDX-License-Identifier: Apache-2.0

// MonotonicNanoseconds: the time every machine of this module is given as an argument. No machine asks a clock.

/// Nanoseconds on the monotonic clock, from an arbitrary origin.
package typealias MonotonicNanoseconds = UInt64
