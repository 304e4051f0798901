// SPDX-License-Identifier: Apache-2.0

// RecoveryStateMachine: how one connection is made, and made again whenever it is lost.
// Pure: no socket, clock, task or lock; time and chance are arguments. The owner performs the action each call returns.
// The actions carry what they are about, so that the owner remembers nothing between two of them.
// Not here: what an error means (Disposition), the delays (RecoveryBackoff).
//
//   idle --start--> connecting --connected--> restoring --restored--> up
//                    ^      |                     |                   |
//              waited|      |failed               |lost               |lost
//                    |      v                     v                   |
//                   waiting <-----------------------------------------+
//
//   any state --refused--> ended       any state --stop--> ended

/// The life of one connection that recovers.
package struct RecoveryStateMachine<Connection: Sendable, Failure: Error>: Sendable {
    /// What the owner does next.
    package enum Action: Sendable {
        /// Nothing: the event came too late or too early.
        case none
        /// Connect to one of these endpoints, by index; the first is tried first.
        case connect([Int])
        /// Declare the topology on the new connection.
        case restore(Connection, isFirst: Bool)
        /// The connection may be used.
        case announce(Connection, endpoint: Int, isRecovery: Bool)
        /// Wait, then call `waited`.
        ///
        /// The attempt counts from 1 since the last connection that held.
        case wait(nanoseconds: UInt64, attempt: Int, after: Failure)
        /// No more attempts, for this reason; nil when the application wants none.
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
    /// How often in a row each endpoint has failed.
    private var failures: [Int]
    private var attempts = 0
    private var hasBeenUp = false

    /// A connection that holds for this long has held: the next loss begins with short delays again.
    private static var steadyTime: MonotonicNanoseconds { 10_000_000_000 }

    /// Makes a machine in its first state.
    ///
    /// - Parameters:
    ///   - endpoints: How many endpoints there are, 1 or more.
    ///   - shuffles: Whether they are tried in random order; otherwise in the order given.
    ///   - backoff: The delays.
    package init(endpoints: Int, shuffles: Bool, backoff: RecoveryBackoff) {
        self.failures = Array(repeating: 0, count: max(1, endpoints))
        self.shuffles = shuffles
        self.backoff = backoff
    }

    /// The owner begins.
    package mutating func start(using random: inout some RandomNumberGenerator) -> Action {
        guard case .idle = self.state else { return .none }
        return self.connect(&random)
    }

    /// An endpoint took the login.
    package mutating func connected(_ connection: Connection, endpoint: Int) -> Action {
        guard case .connecting = self.state, self.failures.indices.contains(endpoint) else { return .none }
        self.state = .restoring(connection, endpoint: endpoint)
        return .restore(connection, isFirst: !self.hasBeenUp)
    }

    /// No endpoint could be connected to.
    package mutating func failed(_ failure: Failure, using random: inout some RandomNumberGenerator) -> Action {
        guard case .connecting = self.state else { return .none }
        for index in self.failures.indices { self.failures[index] += 1 }
        return self.wait(after: failure, &random)
    }

    /// The topology stands.
    package mutating func restored(now: MonotonicNanoseconds) -> Action {
        guard case .restoring(let connection, let endpoint) = self.state else { return .none }
        self.state = .up(endpoint: endpoint, since: now)
        self.failures[endpoint] = 0
        defer { self.hasBeenUp = true }
        return .announce(connection, endpoint: endpoint, isRecovery: self.hasBeenUp)
    }

    /// The connection was lost, while restoring or later.
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

    /// The delay is over.
    package mutating func waited(using random: inout some RandomNumberGenerator) -> Action {
        guard case .waiting = self.state else { return .none }
        return self.connect(&random)
    }

    /// The broker refuses this client for good: credentials, virtual host, topology.
    package mutating func refused(_ failure: Failure) -> Action { self.end(failure) }

    /// The application wants no connection any more.
    package mutating func stop() -> Action { self.end(nil) }

    private mutating func end(_ failure: Failure?) -> Action {
        self.state = .ended
        return .end(failure)
    }

    private mutating func connect(_ random: inout some RandomNumberGenerator) -> Action {
        self.state = .connecting
        var order = Array(self.failures.indices)
        if self.shuffles { order.shuffle(using: &random) }
        // Stable, so that those that failed equally often stay in their order.
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

/// Delays with full jitter: anything between nothing and a bound that doubles with each attempt.
///
/// Many clients that lost the same broker spread their attempts over the whole time instead of coming in waves.
package struct RecoveryBackoff: Hashable, Sendable {
    private let initial: UInt64
    private let maximum: UInt64

    /// Bounds of the delays in nanoseconds: before the first attempt, and at most.
    package init(initial: UInt64, maximum: UInt64) {
        self.initial = initial
        self.maximum = max(initial, maximum)
    }

    /// The longest delay before an attempt, which counts from 1.
    package func bound(attempt: Int) -> UInt64 {
        let (bound, overflows) = self.initial.multipliedReportingOverflow(by: 1 << UInt64(min(max(0, attempt - 1), 62)))
        return overflows ? self.maximum : min(bound, self.maximum)
    }

    /// The delay before an attempt, which counts from 1.
    package func delay(attempt: Int, using random: inout some RandomNumberGenerator) -> UInt64 {
        UInt64.random(in: 0...self.bound(attempt: attempt), using: &random)
    }
}
