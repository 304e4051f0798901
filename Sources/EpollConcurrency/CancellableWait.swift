// SPDX-License-Identifier: Apache-2.0
#if compiler(>=6.3) && compiler(<6.4) && !EPOLL_PUBLIC_CANCELLATION
    import CTaskCancellation
#endif

// CancellableWait: a task waits for a resumption (Suspension), and an object is called when it is cancelled meanwhile. With
// Outcome these are the ways for a task of this package to wait: withSuspension, withCancellableSuspension, Outcome.
// withTaskCancellationHandler and withUnsafeContinuation switch executors five times around one wait, back and forth
// between where the caller is and where it is, and each switch of a task that prefers an executor takes a lock of the
// runtime. This wait stays where its caller is; so does the underscored form of withUnsafeContinuation, which is public
// and compiled into its clients.
//
// Unsafe: it calls the two functions of the runtime that withTaskCancellationHandler consists of. Adding takes memory
// from the task's own stack and removing gives it back, so what is taken in between must be given back in between: only
// the continuation is, and it is gone when the task goes on. The runtime tells the wait at once where the task is
// cancelled already, never twice, and never after the removal, which waits for a call that is under way; so the wait,
// which the caller keeps until this has returned, outlives every call.
//
// All that is not public is here, and only for the compilers it was tried with: others, and builds with
// -DEPOLL_PUBLIC_CANCELLATION, use the public functions, which behave the same and cost more.

/// The receiver of the cancellation of a task.
@usableFromInline
package protocol CancellableWait: AnyObject, Sendable {
    /// Has the continuation resumed, if it is not yet, even if the wait has not begun.
    ///
    /// On the thread that cancels, and under a lock of the runtime: it does nothing that waits for the task.
    func taskCancelled()
}

/// A wait whose cancellation runs a closure.
@usableFromInline
final class CancellationAction: CancellableWait {
    private let action: @Sendable () -> Void

    @usableFromInline init(_ action: @escaping @Sendable () -> Void) { self.action = action }

    @usableFromInline func taskCancelled() { self.action() }
}

/// Suspends the task until the suspension that `body` gets is resumed, whether the task is cancelled or not.
///
/// - Parameter body: Hands the suspension to whoever resumes it, or resumes it.
/// - Returns: The value it was resumed with.
@inlinable
package nonisolated(nonsending) func withSuspension<Value: Sendable>(
    _ body: (Suspension<Value>) -> Void
) async -> Value {
    let value = await suspend(body)
    ThreadSanitizer.continued()
    return value
}

/// As `withCancellableSuspension(_:_:)`, for waits that are rare: an object for the closure is allocated.
@inlinable
package nonisolated(nonsending) func withCancellableSuspension<Value: Sendable>(
    onCancel action: @escaping @Sendable () -> Void,
    _ body: (Suspension<Value>) -> Void
) async -> Value {
    await withCancellableSuspension(CancellationAction(action), body)
}

#if compiler(>=6.3) && compiler(<6.4) && !EPOLL_PUBLIC_CANCELLATION

    /// Suspends the task until the suspension that `body` gets is resumed.
    ///
    /// - Parameters:
    ///   - wait: Is called when the task is cancelled; before `body` if it is cancelled already.
    ///   - body: Hands the suspension to whoever resumes it, or resumes it.
    /// - Returns: The value it was resumed with.
    @inlinable
    package nonisolated(nonsending) func withCancellableSuspension<Value: Sendable>(
        _ wait: some CancellableWait,
        _ body: (Suspension<Value>) -> Void
    ) async -> Value {
        let record = CancellationRecord(of: wait)
        defer { withExtendedLifetime(wait) { record.remove() } }
        let value = await suspend(body)
        ThreadSanitizer.continued()
        return value
    }

    /// A separate function, with nothing after the suspension that would ask for the right executor first.
    @inlinable
    @inline(never)
    nonisolated(nonsending) func suspend<Value: Sendable>(_ body: (Suspension<Value>) -> Void) async -> Value {
        await _unsafeInheritExecutor_withUnsafeContinuation { body(Suspension($0)) }
    }

    /// Represents a wait in the list of a task's cancellation handlers.
    @usableFromInline
    struct CancellationRecord {
        private let record: UnsafeMutableRawPointer

        @usableFromInline
        init(of wait: some CancellableWait) { self.record = ctask_add(Unmanaged.passUnretained(wait).toOpaque()) }

        @usableFromInline
        func remove() { ctask_remove(self.record) }
    }

    @c(ctask_cancelled)
    func taskCancelled(_ wait: UnsafeRawPointer) {
        let wait = Unmanaged<AnyObject>.fromOpaque(wait).takeUnretainedValue()
        (wait as? any CancellableWait)?.taskCancelled()
    }

#else

    /// Suspends the task until the suspension that `body` gets is resumed.
    ///
    /// - Parameters:
    ///   - wait: Is called when the task is cancelled; before `body` if it is cancelled already.
    ///   - body: Hands the suspension to whoever resumes it, or resumes it.
    /// - Returns: The value it was resumed with.
    @inlinable
    package nonisolated(nonsending) func withCancellableSuspension<Value: Sendable>(
        _ wait: some CancellableWait,
        _ body: (Suspension<Value>) -> Void
    ) async -> Value {
        await withTaskCancellationHandler {
            await withSuspension(body)
        } onCancel: {
            wait.taskCancelled()
        }
    }

    @inlinable
    nonisolated(nonsending) func suspend<Value: Sendable>(_ body: (Suspension<Value>) -> Void) async -> Value {
        await withUnsafeContinuation { body(Suspension($0)) }
    }

#endif
