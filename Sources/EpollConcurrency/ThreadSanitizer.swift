// SPDX-License-Identifier: Apache-2.0
public import CEpoll

// ThreadSanitizer: whether this build runs under it. CEpoll.h tells it about the locks and the suspensions of this package. It
// does not know the reference counts of Swift's runtime, which order accesses too: code that relies on those is left out.

@usableFromInline package enum ThreadSanitizer {
    /// A constant; the branches it decides are gone in other builds.
    @inlinable @inline(__always)
    package static var isOn: Bool { cepoll_is_thread_sanitized != 0 }
}
