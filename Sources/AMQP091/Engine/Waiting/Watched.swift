// SPDX-License-Identifier: Apache-2.0
import EpollNetworking

// Watched: a value behind a lock, whose changes tasks can wait for, each with a deadline. For what changes seldom: every
// change wakes all who wait, and each looks again whether it is what it waits for.
// Not here: waiting for replies and confirms (ConnectionSession+Waiting), where each waiter has a slot.

final class Watched<Value: Sendable>: Sendable {
    private struct State {
        var value: Value
        var waiters: [UInt64: Outcome<Bool>] = [:]
        var nextWaiter: UInt64 = 0
    }

    private let state: Locked<State>

    init(_ value: Value) { self.state = Locked(State(value: value)) }

    /// Reads the value, or changes it in a way nobody waits for.
    func withLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try self.state.withLock { state throws(Failure) in try body(&state.value) }
    }

    /// Changes the value and wakes all who wait.
    @discardableResult
    func change<Result>(_ body: (inout Value) -> Result) -> Result {
        let (result, waiters) = self.state.withLock { state in
            let result = body(&state.value)
            let waiters = state.waiters
            state.waiters = [:]
            return (result, waiters)
        }
        for waiter in waiters.values { waiter.decide(.success(true)) }
        return result
    }

    /// Waits until `body` finds what it looks for in the value, which it may change.
    ///
    /// - Parameters:
    ///   - deadline: The moment to give up.
    ///   - body: Called under the lock, now and after each change; nil to wait on.
    /// - Returns: What `body` found.
    /// - Throws: `.timedOut` or `.cancelled`.
    func wait<Result>(
        until deadline: MonotonicTime = .distantFuture,
        for body: (inout Value) -> Result?
    ) async throws(AMQPError) -> Result {
        while true {
            let outcome = Outcome<Bool>()
            let (found, waiter) = self.state.withLock { state -> (Result?, UInt64) in
                if let found = body(&state.value) { return (found, 0) }
                state.nextWaiter += 1
                state.waiters[state.nextWaiter] = outcome
                return (nil, state.nextWaiter)
            }
            if let found { return found }
            defer { self.state.withLock { _ = $0.waiters.removeValue(forKey: waiter) } }
            try await Self.value(of: outcome, until: deadline)
        }
    }

    private static var cancelled: NetworkError {
        NetworkError(kind: .cancelled, text: "Waiting was cancelled with its task.")
    }

    private static func value(of outcome: Outcome<Bool>, until deadline: MonotonicTime) async throws(AMQPError) {
        var timer: OutcomeDeadline<Bool>?
        if deadline < .distantFuture {
            timer = OutcomeDeadline(outcome, at: deadline, on: EventLoopGroup.shared.next(), result: .success(false))
            timer?.start()
        }
        let isInTime = try? await outcome.value(cancelled: Self.cancelled)
        timer?.stop()
        switch isInTime {
        case true?: return
        case false?: throw AMQPError(.timedOut, "the deadline passed", isSafeToRetry: true)
        case nil: throw ConnectionSession.cancelled(safe: true)
        }
    }
}
