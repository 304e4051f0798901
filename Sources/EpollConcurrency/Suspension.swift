// SPDX-License-Identifier: Apache-2.0
public import CEpoll

// Suspension: a task that waits for one resumption. UnsafeContinuation, and the order of suspending and resuming for the thread
// sanitizer: a continuation that is resumed before its task has suspended is ordered by an atomic of the runtime, which the
// sanitizer does not see.

/// A suspended task; resumed exactly once, from any thread, never under a lock.
@frozen @usableFromInline package struct Suspension<Value: Sendable>: Sendable {
    @usableFromInline let continuation: UnsafeContinuation<Value, Never>

    @inlinable init(_ continuation: UnsafeContinuation<Value, Never>) { self.continuation = continuation }

    /// Has the task continue with the value.
    @inlinable @inline(__always)
    package func resume(returning value: Value) {
        if ThreadSanitizer.isOn { cepoll_resuming(unsafeBitCast(self.continuation, to: UnsafeMutableRawPointer.self)) }
        self.continuation.resume(returning: value)
        if ThreadSanitizer.isOn { cepoll_resumed() }
    }
}

extension Suspension where Value == Void {
    /// Has the task continue.
    @inlinable @inline(__always)
    package func resume() { self.resume(returning: ()) }
}

extension ThreadSanitizer {
    /// The current task continues after a suspension.
    @inlinable @inline(__always)
    package static func continued() {
        guard Self.isOn else { return }
        // The address of the task is that of its continuation.
        withUnsafeCurrentTask { task in
            guard let task else { return }
            cepoll_continued(unsafeBitCast(task, to: UnsafeMutableRawPointer.self))
        }
    }
}
