// SPDX-License-Identifier: Apache-2.0

// Outcome: a result that several parties race to give (success, failure, deadline, cancellation); the first wins,
// once. One task waits for it. The deadline is a timer of the loop, taken back when it was not needed.

package final class Outcome<Value: Sendable>: Sendable {
    private enum State {
        case open
        case waiting(Suspension<Result<Value, NetworkError>>)
        case decided(Result<Value, NetworkError>)
        case taken
    }

    private let state = Locked(State.open)

    package init() {}

    package var isDecided: Bool {
        self.state.withLock { state in
            switch state {
            case .open, .waiting: false
            case .decided, .taken: true
            }
        }
    }

    /// False when another result came first; the caller then still owns what is in its own.
    @discardableResult
    package func decide(_ result: Result<Value, NetworkError>) -> Bool {
        var waiter: Suspension<Result<Value, NetworkError>>?
        let isFirst = self.state.withLock { state -> Bool in
            switch state {
            case .open:
                state = .decided(result)
                return true
            case .waiting(let continuation):
                waiter = continuation
                state = .taken
                return true
            case .decided, .taken:
                return false
            }
        }
        waiter?.resume(returning: result)
        return isFirst
    }

    /// Waits for the first result; a cancelled task gives `cancelled`.
    package func value(cancelled: NetworkError) async throws(NetworkError) -> Value {
        let result = await withCancellableSuspension(
            onCancel: { self.decide(.failure(cancelled)) },
            { (waiter: Suspension<Result<Value, NetworkError>>) in
                let ready = self.state.withLock { state -> Result<Value, NetworkError>? in
                    switch state {
                    case .open:
                        state = .waiting(waiter)
                        return nil
                    case .decided(let result):
                        state = .taken
                        return result
                    case .waiting, .taken:
                        preconditionFailure("two tasks wait for one outcome")
                    }
                }
                if let ready { waiter.resume(returning: ready) }
            }
        )
        return try result.get()
    }
}

/// A timer any thread may start and stop: at the deadline the outcome gets its result.
package final class OutcomeDeadline<Value: Sendable>: LoopWork, @unchecked Sendable {
    private enum State { case new, scheduled(TimerID), over }

    private let loop: EventLoop
    private let outcome: Outcome<Value>
    private let deadline: MonotonicTime
    private let result: Result<Value, NetworkError>
    private var state = State.new  // loop thread only

    package init(
        _ outcome: Outcome<Value>,
        at deadline: MonotonicTime,
        on loop: EventLoop,
        result: Result<Value, NetworkError>
    ) {
        self.outcome = outcome
        self.deadline = deadline
        self.loop = loop
        self.result = result
    }

    /// Starts the timer; an ended loop decides at once.
    package func start() { self.callLoop() }

    package func stop() { self.loop.enqueue(self) }

    private func callLoop() {
        if self.loop.isInLoop, !self.loop.core.hasStopped { return self.runOnLoop() }
        if self.loop.enqueue(self) { return }
        guard self.loop.core.startFailure != nil else {
            self.outcome.decide(.failure(.loopEnded))
            return
        }
        // A loop that could not start: callers that retry must not spin.
        let (outcome, result, delay) = (self.outcome, self.result, self.deadline - .now)
        if !outcome.isDecided {
            Task {
                try? await Task.sleep(for: delay); outcome.decide(result)
            }
        }
    }

    /// First: start.
    ///
    /// Again: due, or stopped, which the outcome tells apart.
    package func runOnLoop() {
        switch self.state {
        case .new:
            if self.outcome.isDecided {
                self.state = .over
            } else {
                self.state = .scheduled(self.loop.schedule(self, at: self.deadline))
            }
        case .scheduled(let timer):
            self.state = .over
            self.loop.cancel(timer)
            self.outcome.decide(self.result)
        case .over:
            break
        }
    }

    package func loopStopped() {
        self.state = .over
        self.outcome.decide(.failure(.loopEnded))
    }
}
