// SPDX-License-Identifier: Apache-2.0
package import EpollConcurrency

// Waiting on a loop's timers, as users do it. More precise than Task.sleep, and without a change of threads for a task
// that prefers the loop.

extension EventLoop {
    /// Suspends the task for at least `duration`; usually well under a tenth of a millisecond longer.
    ///
    /// - Throws: ``NetworkError`` of kind `.cancelled` at once when the task is cancelled or the loop shut down.
    public func sleep(for duration: Duration) async throws(NetworkError) {
        try await self.sleep(until: .now + duration)
    }

    package func sleep(until deadline: MonotonicTime) async throws(NetworkError) {
        let outcome = NetworkOutcome<Void>()
        let timer = OutcomeDeadline(outcome, at: deadline, on: self, result: .success(()))
        timer.start()
        do throws(NetworkError) {
            try await outcome.value(cancelled: .taskCancelled("Sleeping"))
        } catch {
            timer.stop()
            throw error
        }
    }

    /// Runs `body` once, after at least `delay`, as a task on this loop's thread.
    ///
    /// It must not block: it holds up every socket of the loop. Cancelling the task before it is due takes it back.
    ///
    /// - Returns: The task; it throws ``NetworkError`` when it was taken back or the loop shut down.
    @discardableResult
    public func schedule(
        after delay: Duration,
        _ body: @escaping @Sendable () async throws -> Void
    ) -> Task<Void, any Error> {
        let deadline = MonotonicTime.now + delay
        return Task(executorPreference: self) {
            try await self.sleep(until: deadline)
            try await body()
        }
    }
}
