// SPDX-License-Identifier: Apache-2.0

// Outcome: a result that several parties race to give (success, failure, deadline, cancellation); the first wins. One task
// waits for it. Not here: deadlines, which are timers of a loop.

@usableFromInline package final class Outcome<Value: Sendable, Failure: Error>: Sendable {
    @frozen @usableFromInline enum State {
        case open
        case waiting(Suspension<Result<Value, Failure>>)
        case decided(Result<Value, Failure>)
        case taken
    }

    @usableFromInline let state = Locked(State.open)

    @inlinable package init() {}

    @inlinable package var isDecided: Bool {
        self.state.withLock { state in
            switch state {
            case .open, .waiting: false
            case .decided, .taken: true
            }
        }
    }

    /// False when another result came first; the caller then still owns what is in its own.
    @discardableResult @inlinable
    package func decide(_ result: Result<Value, Failure>) -> Bool {
        var waiter: Suspension<Result<Value, Failure>>?
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
    @inlinable
    package func value(cancelled: Failure) async throws(Failure) -> Value {
        let result = await withCancellableSuspension(
            onCancel: { self.decide(.failure(cancelled)) },
            { (waiter: Suspension<Result<Value, Failure>>) in
                let ready = self.state.withLock { state -> Result<Value, Failure>? in
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
