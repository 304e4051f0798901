// SPDX-License-Identifier: Apache-2.0

// ObservedValue: a value behind a lock, whose changes tasks can wait for. For rarely changing values: each change wakes all
// waiters, which re-check their condition.
// Not here: deadlines, which are timers of a loop; `wait` gets what starts one.

/// Why a wait ended without what it waited for.
@usableFromInline package enum WaitFailure: Error { case timedOut, cancelled }

/// The result of a wait of an ``ObservedValue``: true for a change, false for its deadline.
@usableFromInline package typealias WatchWake = Outcome<Bool, WaitFailure>

@usableFromInline package final class ObservedValue<Value: Sendable>: Sendable {
    @frozen @usableFromInline struct State {
        @usableFromInline var value: Value
        @usableFromInline var waiters: [UInt64: WatchWake] = [:]
        @usableFromInline var nextWaiter: UInt64 = 0

        @inlinable init(value: Value) { self.value = value }
    }

    @usableFromInline let state: Locked<State>

    @inlinable package init(_ value: Value) { self.state = Locked(State(value: value)) }

    /// Reads the value, or changes it in a way nobody waits for.
    @inlinable
    package func withLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try self.state.withLock { state throws(Failure) in try body(&state.value) }
    }

    /// Changes the value and wakes all waiting tasks, the first to wait first.
    @discardableResult @inlinable
    package func change<Result>(_ body: (inout Value) -> Result) -> Result {
        let (result, waiters) = self.state.withLock { state in
            let result = body(&state.value)
            let waiters = state.waiters
            state.waiters = [:]
            return (result, waiters)
        }
        Self.wake(waiters)
        return result
    }

    /// Wakes in the order in which the waits began.
    @usableFromInline
    static func wake(_ waiters: [UInt64: WatchWake]) {
        if waiters.isEmpty { return }
        #if DELIBERATE_FAULTS
            var waiters = waiters
            if waiters.count > 1, DeliberateFault.happens(.wakeLost), let last = waiters.keys.max() {
                waiters[last] = nil
            }
        #endif
        for (_, waiter) in waiters.sorted(by: { $0.key < $1.key }) { waiter.decide(.success(true)) }
    }

    /// Waits until `body` finds what it looks for in the value, which it may change.
    ///
    /// - Parameters:
    ///   - startTimer: Starts the timer of a deadline, which decides the wake with false; returns what stops it. Nil waits
    ///     without limit.
    ///   - body: Called under the lock, now and after each change; nil to wait on.
    /// - Returns: The result of `body`.
    /// - Throws: Why it was not found.
    package func waitUntilFound<Result>(
        startTimer: ((WatchWake) -> () -> Void)? = nil,
        for body: (inout Value) -> Result?
    ) async throws(WaitFailure) -> Result {
        while true {
            let wake = WatchWake()
            let (found, waiter) = self.state.withLock { state -> (Result?, UInt64) in
                if let found = body(&state.value) { return (found, 0) }
                state.nextWaiter += 1
                state.waiters[state.nextWaiter] = wake
                return (nil, state.nextWaiter)
            }
            if let found { return found }
            let stopTimer = startTimer?(wake)
            defer {
                stopTimer?()
                self.state.withLock { _ = $0.waiters.removeValue(forKey: waiter) }
            }
            guard try await wake.value(cancelled: .cancelled) else { throw .timedOut }
        }
    }
}
