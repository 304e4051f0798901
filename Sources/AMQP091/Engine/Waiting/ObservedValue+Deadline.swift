// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking

// Waiting for a change of a watched value with a deadline, and the errors of that.

extension ObservedValue {
    /// Waits until `body` finds what it looks for in the value, which it may change.
    ///
    /// - Parameters:
    ///   - deadline: The moment to give up.
    ///   - body: Called under the lock, now and after each change; nil to wait on.
    /// - Returns: The value that `body` found.
    /// - Throws: `.timedOut` or `.cancelled`.
    func wait<Result>(
        until deadline: MonotonicTime,
        for body: (inout Value) -> Result?
    ) async throws(AMQPError) -> Result {
        let startTimer: ((WatchWake) -> () -> Void)? =
            deadline == .distantFuture ? nil : { Self.startTimer($0, at: deadline) }
        do throws(WaitFailure) {
            return try await self.waitUntilFound(startTimer: startTimer, for: body)
        } catch {
            switch error {
            case .timedOut: throw AMQPError(.timedOut, "the deadline passed", isSafeToRetry: true)
            case .cancelled: throw ConnectionSession.cancelled(safe: true)
            }
        }
    }

    /// Waits until `body` finds what it looks for, without limit.
    func wait<Result>(for body: (inout Value) -> Result?) async throws(AMQPError) -> Result {
        try await self.wait(until: .distantFuture, for: body)
    }

    private static func startTimer(_ wake: WatchWake, at deadline: MonotonicTime) -> () -> Void {
        let loop = EventLoopGroup.shared.next()
        let timer = OutcomeDeadline(wake, at: deadline, on: loop, result: .success(false), loopEnded: .cancelled)
        timer.start()
        return { timer.stop() }
    }
}
