// SPDX-License-Identifier: Apache-2.0
import CEpoll

// ThreadSanitizer: whether this build runs under it. It knows the locks of this package (CEpoll.h tells it), but not the
// reference counts and continuations of Swift's runtime, which order accesses too: what relies on those is left out.

package enum ThreadSanitizer {
    /// A constant; the branches it decides are gone in other builds.
    @inlinable @inline(__always)
    package static var isOn: Bool { cepoll_is_thread_sanitized != 0 }
}
