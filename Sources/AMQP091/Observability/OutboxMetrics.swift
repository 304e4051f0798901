// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking

#if MetricsSupport
    import Metrics
#endif

// OutboxMetrics: takes the books of one outbox to the instruments, once a second and when its publisher is closed, because
// an entry whose confirm has come ends only when somebody looks. The instruments have no server's address: an outbox
// belongs to a client, not to a connection. Nil where no metrics system is set up; without the trait MetricsSupport it
// is never made. Any thread.
// Not here: what one connection counts (ConnectionMetrics).

#if MetricsSupport
    /// The report of one outbox.
    final class OutboxMetrics: Sendable {
        private static let interval = Duration.seconds(1)

        private struct State {
            /// The values already reported to the instruments.
            var refused = 0
            var givenUp = 0
            var held = 0
            var isOver = false
            var task: Task<Void, Never>?
        }

        private let outbox: Outbox
        private let refused: Counter
        private let givenUp: Counter
        private let held: Meter
        private let state = Locked(State())

        /// Nil when nobody takes metrics.
        init?(_ outbox: Outbox) {
            let factory = MetricsSystem.factory
            guard !(factory is NOOPMetricsHandler) else { return nil }
            self.outbox = outbox
            self.refused = Counter(label: "rabbitmq.outbox_refused", dimensions: [], factory: factory)
            self.givenUp = Counter(label: "rabbitmq.outbox_given_up", dimensions: [], factory: factory)
            self.held = Meter(label: "rabbitmq.outbox_held", dimensions: [], factory: factory)
            let task = Task { [weak self] in
                while (try? await EventLoopGroup.shared.next().sleep(for: Self.interval)) != nil, let self {
                    self.report()
                }
            }
            self.state.withLock { $0.task = task }
        }

        deinit { self.state.withLock { $0.task }?.cancel() }

        /// Reports what has changed since the last time.
        private func report() {
            let books = self.outbox.books
            let (refused, givenUp, held) = self.state.withLock { state in
                guard !state.isOver else { return (0, 0, 0) }
                defer { (state.refused, state.givenUp, state.held) = (books.refused, books.givenUp, books.held) }
                return (books.refused - state.refused, books.givenUp - state.givenUp, books.held - state.held)
            }
            if refused > 0 { self.refused.increment(by: refused) }
            if givenUp > 0 { self.givenUp.increment(by: givenUp) }
            if held > 0 { self.held.increment(by: Double(held)) }
            if held < 0 { self.held.decrement(by: Double(-held)) }
        }

        /// The outbox takes nothing any more, and holds nothing.
        func end() {
            self.report()
            self.state.withLock { state in
                state.isOver = true
                return state.task.take()
            }?.cancel()
        }
    }
#else
    /// Never created.
    final class OutboxMetrics: Sendable {
        init?(_ outbox: Outbox) { nil }
        func end() {}
    }
#endif
