// SPDX-License-Identifier: Apache-2.0
package import EpollConcurrency

// OutcomeDeadline: a timer of a loop that decides an outcome, unless it was decided before, and is taken back then.

/// The outcome of a call on the network.
package typealias NetworkOutcome<Value: Sendable> = Outcome<Value, NetworkError>

/// A timer any thread may start and stop: at the deadline the outcome gets its result.
package final class OutcomeDeadline<Value: Sendable, Failure: Error>: LoopWork, @unchecked Sendable {
    private enum State { case new, scheduled(TimerID), over }

    private let loop: EventLoop
    private let outcome: Outcome<Value, Failure>
    private let deadline: MonotonicTime
    private let result: Result<Value, Failure>
    private let loopEnded: Failure
    private var state = State.new  // loop thread only

    package init(
        _ outcome: Outcome<Value, Failure>,
        at deadline: MonotonicTime,
        on loop: EventLoop,
        result: Result<Value, Failure>,
        loopEnded: Failure
    ) {
        self.outcome = outcome
        self.deadline = deadline
        self.loop = loop
        self.result = result
        self.loopEnded = loopEnded
    }

    /// Starts the timer; an ended loop decides at once.
    package func start() { self.callLoop() }

    package func stop() { self.loop.enqueue(self) }

    private func callLoop() {
        if self.loop.isInLoop, !self.loop.core.hasStopped { return self.runOnLoop() }
        if self.loop.enqueue(self) { return }
        guard self.loop.core.startFailure != nil else {
            self.outcome.decide(.failure(self.loopEnded))
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
        self.outcome.decide(.failure(self.loopEnded))
    }
}

extension OutcomeDeadline where Failure == NetworkError {
    package convenience init(
        _ outcome: NetworkOutcome<Value>,
        at deadline: MonotonicTime,
        on loop: EventLoop,
        result: Result<Value, NetworkError>
    ) {
        self.init(outcome, at: deadline, on: loop, result: result, loopEnded: .loopEnded)
    }
}
