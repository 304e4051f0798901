// SPDX-License-Identifier: Apache-2.0

// MonotonicNanoseconds: the time that every machine of this module takes as an argument. No machine reads a clock.

/// Nanoseconds on the monotonic clock, from an arbitrary origin.
package typealias MonotonicNanoseconds = UInt64
