// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Calls that wait: a request and its reply, room to publish, the confirm of one publish, and the deadlines of them all.
// A cancelled or late caller gives up its waiter, never the protocol's step: what was sent is answered, and the answer
// is swallowed by the tombstone in the WaiterTable.
// `wait` is inlined into its callers, as they are into theirs: each async frame costs a hundred instructions. Neither says
// `Self`, because a method that does is not inlined into another type's.

extension ConnectionSession {
    /// Suspends the caller until its slot is resolved, its deadline passes or its task is cancelled.
    ///
    /// - Parameters:
    ///   - deadline: The moment to give up, monotonic nanoseconds.
    ///   - register: Runs under the lock with the slot's token; appends and registers in one step.
    /// - Returns: The result that the slot was resolved with; never `.failed`.
    /// - Throws: The error of `register`, and then nothing was sent; or the failure of the wait.
    @inline(__always)
    nonisolated(nonsending) func wait(
        deadline: UInt64,
        register: (inout ConnectionState, inout ChannelTable, UInt32) throws(AMQPError) -> CallerStep
    ) async throws(AMQPError) -> WaitResult {
        let handle = self.spareHandle.take() ?? WaitHandle(driver: self)
        defer { self.spareHandle.keep(handle) }
        let result = await withCancellableSuspension(handle) { (waiter: Waiter) in
            var next = CallerStep.none
            var isEarliest = false
            var immediate: WaitResult?
            self.state.withChannels { state, channels in
                guard !handle.isCancelled else {
                    immediate = .failed(ConnectionSession.cancelled(safe: true))
                    return
                }
                let token = state.waiters.add(waiter, deadline: deadline)
                handle.token = token
                do throws(AMQPError) {
                    next = try register(&state, &channels, token)
                    if deadline < state.armedDeadline {
                        state.armedDeadline = deadline
                        isEarliest = true
                        // The loop sets its timer when it flushes.
                        if case .none = next { next = .wakeLoop }
                    }
                } catch {
                    _ = state.waiters.finish(token)
                    handle.token = 0
                    immediate = .failed(error)
                }
            }
            if let immediate { return waiter.resume(returning: immediate) }
            self.perform(next)
            // A caller that writes itself does not wake the loop, which has a timer to set.
            if isEarliest, case .write = next { self.loop.enqueue(self) }
        }
        if case .failed(let error) = result { throw error }
        return result
    }

    static func cancelled(safe: Bool) -> AMQPError {
        AMQPError(.cancelled, "the task was cancelled", isSafeToRetry: safe)
    }

    /// Why no answer came while a consumer is so far behind that nothing is read for anybody.
    private static let notRead =
        "the deadline passed before the broker answered, and its answer may not have been read: a consumer of this "
        + "connection has more deliveries unread than its buffer takes"

    /// Fails every wait whose deadline has passed and sets the timer for the next.
    ///
    /// Loop thread.
    func armDeadlineTimer() {
        var expired: [Waiter] = []
        let now = MonotonicTime.now
        let next = self.state.withLock { state -> UInt64 in
            let next = state.waiters.expire(now: now.nanoseconds) { _, waiter in expired.append(waiter) }
            state.armedDeadline = next ?? .max
            return state.armedDeadline
        }
        self.wakeReadyWaiters()
        let text = self.gate.isHeld ? Self.notRead : "the deadline passed before the broker answered"
        for waiter in expired { waiter.resume(returning: .failed(AMQPError(.timedOut, text))) }
        self.setDeadlineTimer(next)
    }

    /// Wakes the tasks whose wait was over when it began.
    private func wakeReadyWaiters() {
        var resumptions: [Resumption] = []
        self.state.withLock { $0.takeRoomWaiters(into: &resumptions) }
        for resumption in resumptions { resumption.resume() }
    }
}
