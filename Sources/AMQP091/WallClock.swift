// SPDX-License-Identifier: Apache-2.0
import Glibc

// WallClock: the time of day, for what is compared with a broker's clock. Everything that waits uses MonotonicTime.

enum WallClock {
    /// Seconds since 1970.
    static var secondsSince1970: Int { Int(time(nil)) }
}
