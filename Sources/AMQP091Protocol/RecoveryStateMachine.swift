// SPDX-License-Identifier: Apache-2.0

// RecoveryStateMachine: connects, and reconnects after each loss.
// Pure: no socket, clock, task or lock; time and chance are arguments. The owner performs the action each call returns.
// The actions carry their data, so that the owner keeps no state between two of them.
// Not here: what an error means (Disposition), the delays (RecoveryBackoff).
//
//   idle --start--> connecting --connected--> restoring --restored--> up
//                    ^      |                     |                   |
//              waited|      |failed               |lost               |lost
//                    |      v                     v                   |
//                   waiting <-----------------------------------------+
//
//   any state --refused--> ended       any state --stop--> ended

/// The life of one recovering connection.
package struct RecoveryStateMachine<Connection: Sendable, Failure: Error>: Sendable {
    /// The owner's next step.
    package enum Action: Sendable {
        /// None: the event came too late or too early.
        case none
        /// Connect to one of these endpoints, by index, in this order.
        case connect([Int])
        /// Declare the topology on the new connection.
        case restore(Connection, isFirst: Bool)
        /// The connection is ready.
        case announce(Connection, endpoint: Int, isRecovery: Bool)
        /// Wait, then call `waited`.
        ///
        /// Attempts count from 1 since the last stable connection.
        case wait(nanoseconds: UInt64, attempt: Int, after: Failure)
        /// No more attempts, for this reason; nil if the application stopped them.
        case end(Failure?)
    }

    private enum State: Sendable {
        case idle
        case connecting
        case restoring(Connection, endpoint: Int)
        case up(endpoint: Int, since: MonotonicNanoseconds)
        case waiting
        case ended
    }

    private var state = State.idle
    private let backoff: RecoveryBackoff
    private let shuffles: Bool
    /// Consecutive failures of each endpoint.
    private var failures: [Int]
    private var attempts = 0
    private var hasBeenUp = false

    /// A connection up for this long is stable: the next loss begins with short delays again.
    private static var steadyTime: MonotonicNanoseconds { 10_000_000_000 }

    /// Creates a machine in its first state.
    ///
    /// - Parameters:
    ///   - endpoints: The number of endpoints, 1 or more.
    ///   - shuffles: True for a random order of endpoints; otherwise they are tried in the given order.
    ///   - backoff: The delays.
    package init(endpoints: Int, shuffles: Bool, backoff: RecoveryBackoff) {
        self.failures = Array(repeating: 0, count: max(1, endpoints))
        self.shuffles = shuffles
        self.backoff = backoff
    }

    /// Starts connecting.
    package mutating func start(using random: inout some RandomNumberGenerator) -> Action {
        guard case .idle = self.state else { return .none }
        return self.connect(&random)
    }

    /// Records a successful login.
    package mutating func connected(_ connection: Connection, endpoint: Int) -> Action {
        guard case .connecting = self.state, self.failures.indices.contains(endpoint) else { return .none }
        self.state = .restoring(connection, endpoint: endpoint)
        return .restore(connection, isFirst: !self.hasBeenUp)
    }

    /// Records that no endpoint could be connected.
    package mutating func failed(_ failure: Failure, using random: inout some RandomNumberGenerator) -> Action {
        guard case .connecting = self.state else { return .none }
        for index in self.failures.indices { self.failures[index] += 1 }
        return self.wait(after: failure, &random)
    }

    /// Records that the topology is declared.
    package mutating func restored(now: MonotonicNanoseconds) -> Action {
        guard case .restoring(let connection, let endpoint) = self.state else { return .none }
        self.state = .up(endpoint: endpoint, since: now)
        self.failures[endpoint] = 0
        defer { self.hasBeenUp = true }
        return .announce(connection, endpoint: endpoint, isRecovery: self.hasBeenUp)
    }

    /// Records the loss of the connection, while restoring or later.
    package mutating func lost(
        _ failure: Failure,
        now: MonotonicNanoseconds,
        using random: inout some RandomNumberGenerator
    ) -> Action {
        switch self.state {
        case .restoring(_, let endpoint):
            self.failures[endpoint] += 1
        case .up(let endpoint, let since):
            self.failures[endpoint] += 1
            if now >= since, now - since >= Self.steadyTime { self.attempts = 0 }
        case .idle, .connecting, .waiting, .ended:
            return .none
        }
        return self.wait(after: failure, &random)
    }

    /// Records the end of a delay.
    package mutating func waited(using random: inout some RandomNumberGenerator) -> Action {
        guard case .waiting = self.state else { return .none }
        return self.connect(&random)
    }

    /// Records a permanent refusal: credentials, virtual host, topology.
    package mutating func refused(_ failure: Failure) -> Action { self.end(failure) }

    /// Stops: the application needs no connection any more.
    package mutating func stop() -> Action { self.end(nil) }

    private mutating func end(_ failure: Failure?) -> Action {
        self.state = .ended
        return .end(failure)
    }

    private mutating func connect(_ random: inout some RandomNumberGenerator) -> Action {
        self.state = .connecting
        var order = Array(self.failures.indices)
        if self.shuffles { order.shuffle(using: &random) }
        // Stable, so that endpoints with equal failures keep their order.
        let failures = self.failures
        order = order.enumerated()
            .sorted { (failures[$0.element], $0.offset) < (failures[$1.element], $1.offset) }
            .map(\.element)
        return .connect(order)
    }

    private mutating func wait(after failure: Failure, _ random: inout some RandomNumberGenerator) -> Action {
        self.state = .waiting
        self.attempts += 1
        return .wait(
            nanoseconds: self.backoff.delay(attempt: self.attempts, using: &random),
            attempt: self.attempts,
            after: failure
        )
    }
}

extension RecoveryStateMachine.Action: Equatable where Connection: Equatable, Failure: Equatable {}

/// Delays with full jitter: a random time up to a bound that doubles with each attempt.
///
/// Clients that lost the same broker spread their attempts over the whole time instead of reconnecting in waves.
package struct RecoveryBackoff: Hashable, Sendable {
    private let initial: UInt64
    private let maximum: UInt64

    /// Bounds of the delays in nanoseconds: before the first attempt, and the maximum.
    package init(initial: UInt64, maximum: UInt64) {
        self.initial = initial
        self.maximum = max(initial, maximum)
    }

    /// Returns the longest delay before an attempt, counted from 1.
    package func bound(attempt: Int) -> UInt64 {
        let (bound, overflows) = self.initial.multipliedReportingOverflow(by: 1 << UInt64(min(max(0, attempt - 1), 62)))
        return overflows ? self.maximum : min(bound, self.maximum)
    }

    /// Returns the delay before an attempt, counted from 1.
    package func delay(attempt: Int, using random: inout some RandomNumberGenerator) -> UInt64 {
        UInt64.random(in: 0...self.bound(attempt: attempt), using: &random)
    }
}
