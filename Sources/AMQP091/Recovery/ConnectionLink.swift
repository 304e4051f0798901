// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking
import Logging

// ConnectionLink: one of a client's connections, kept alive: it performs what the RecoveryStateMachine says. Publishers,
// consumers and calls ask it for the connection and wait while there is none.
// Not here: what they do with it (RecoveringPublisher, RecoveringConsumer), and the order of a shutdown (AMQPClient).

final class ConnectionLink: Sendable {
    private struct State {
        var connection: AMQPConnection?
        /// Somebody has asked for the connection.
        var isWanted = false
        var isStopping = false
        /// When an orderly close has to be done.
        var stopDeadline = MonotonicTime.distantFuture
        /// Why no connection is made any more.
        var ending: AMQPError?
        /// Why the whole client ends, when it is not shut down.
        var clientFailure: AMQPError?
        /// Messages that outboxes have let go of in the shutdown.
        var givenUp = 0
        /// Why there was none when it was last tried.
        var lastFailure: AMQPError?
        /// The client is being shut down.
        var isShuttingDown = false
        /// Connections in a row that the broker closed while the topology was declared.
        var refusedTopologies = 0
        /// What to make again on a new connection, before anybody asks for it.
        var renewables = OrderedObjects<any Renewing>()
    }

    let role: AMQPConnectionRole
    let configuration: AMQPClientConfiguration
    let logger: Logger
    let events: Broadcast<AMQPClientEvent>
    let topology: AMQPTopology
    private let dial: ConnectionRace.Dial
    private let login: LoginMemory
    /// Nil without a limit.
    private let stalls: StallWatch?
    private let state = ObservedValue(State())
    /// Declares the topology again on the present connection.
    let repair = TopologyRepair()

    init(
        _ role: AMQPConnectionRole,
        _ configuration: AMQPClientConfiguration,
        topology: AMQPTopology,
        events: Broadcast<AMQPClientEvent>,
        logger: Logger,
        login: LoginMemory,
        stalled: StalledNodes,
        dial: @escaping ConnectionRace.Dial
    ) {
        self.role = role
        self.configuration = configuration
        self.topology = topology
        self.events = events
        self.logger = logger
        self.login = login
        self.stalls = configuration.recovery.confirmTimeout.map { StallWatch(limit: $0, nodes: stalled) }
        self.dial = dial
    }

    // MARK: for those who use it

    /// The moment a call that may take `timeout` gives up.
    func deadline(_ timeout: Duration?) -> MonotonicTime {
        MonotonicTime.now.advanced(by: timeout ?? self.configuration.operationTimeout)
    }

    /// The connection, as soon as there is one.
    ///
    /// - Parameters:
    ///   - deadline: The moment to give up.
    ///   - isAbandoned: Whether the caller no longer wants it; asked now, at each change and at each `recheck`.
    /// - Returns: A connection that is open.
    /// - Throws: Why there is none: the end of the client, or `.timedOut` with the last failure in its text.
    func connection(
        until deadline: MonotonicTime,
        unless isAbandoned: () -> Bool = { false }
    ) async throws(AMQPError) -> AMQPConnection {
        let result: Result<AMQPConnection, AMQPError>
        if !self.state.withLock({ $0.isWanted }) { self.state.change { $0.isWanted = true } }
        do throws(AMQPError) {
            result = try await self.state.wait(until: deadline) { state in
                if let ending = state.ending { return .failure(ending.withSafeRetry) }
                if isAbandoned() { return .failure(Self.shutDown.withSafeRetry) }
                if let connection = state.connection, connection.isOpen { return .success(connection) }
                return nil
            }
        } catch {
            guard error.code == .timedOut else { throw error }
            let reason = self.state.withLock { $0.lastFailure }.map { ": \($0)" } ?? ""
            throw AMQPError(.timedOut, "there is no connection to a broker\(reason)", isSafeToRetry: true)
        }
        return try result.get()
    }

    /// Has all who wait for a connection look whether they still want it.
    func recheck() { self.state.change { _ in } }

    /// What is made again as soon as there is a new connection.
    func register(_ renewable: any Renewing) {
        self.state.withLock { $0.renewables.add(renewable) }
    }

    func deregister(_ renewable: any Renewing) {
        self.state.withLock { $0.renewables.remove(renewable) }
    }

    /// The connection if there is one now.
    var current: AMQPConnection? { self.state.withLock { $0.connection } }

    /// Why no connection is made any more; nil while one may be.
    var ending: AMQPError? { self.state.withLock { $0.ending } }

    /// Why the client ends, if it does so for the failure of one of its links.
    var clientFailure: AMQPError? { self.state.withLock { $0.clientFailure } }

    /// The client ends for this: whoever still uses the link learns it.
    func clientFails(_ error: AMQPError) { self.state.change { $0.clientFailure = error } }

    func emit(_ kind: AMQPClientEvent.Kind) {
        let event = AMQPClientEvent(connection: self.role, kind: kind)
        self.logger.log(level: kind.logLevel, "\(event)", metadata: ["amqp.connection": "\(self.role)"])
        self.events.emit(event)
    }

    /// The broker refused a message of an outbox.
    func publishRefused(_ error: AMQPError) { self.emit(.publishRefused(error)) }

    /// An outbox let go of so many messages.
    func publishesGivenUp(_ count: Int, _ reason: AMQPError) {
        // The end of the link may be known to a scope before the shutdown is.
        self.state.withLock { if $0.isShuttingDown || $0.ending != nil { $0.givenUp += count } }
        self.emit(.publishesGivenUp(count: count, reason))
    }

    /// How many messages outboxes have let go of in the shutdown.
    var givenUp: Int { self.state.withLock { $0.givenUp } }

    var isStopping: Bool { self.state.withLock { $0.isStopping || $0.isShuttingDown } }

    /// A shutdown has begun: whoever waits for what a broker that is away would have to give is told.
    func shutdownBegins() { self.state.withLock { $0.isShuttingDown = true } }

    // MARK: its life

    /// Has `run` close the connection in order and return.
    func stop(by deadline: MonotonicTime) {
        self.state.change { state in
            state.isStopping = true
            state.stopDeadline = deadline
        }
    }

    /// Makes the connection when somebody wants it, and again whenever it is lost, until `stop`.
    ///
    /// - Throws: The refusal that ended the attempts.
    func run() async throws(AMQPError) {
        let failure = await withTaskGroup(of: AMQPError?.self) { group in
            group.addTask { await self.maintain() }
            group.addTask {
                _ = try? await self.state.wait { $0.isStopping ? true : nil }
                return nil
            }
            let failure = await group.next() ?? nil
            group.cancelAll()
            return failure
        }
        let (connection, deadline) = self.state.change { state in
            state.ending = failure ?? state.clientFailure ?? Self.shutDown
            state.renewables = OrderedObjects()
            return (state.connection.take(), state.stopDeadline)
        }
        if let connection {
            let latest = MonotonicTime.now.advanced(by: self.configuration.recovery.shutdownTimeout)
            let timeout = max(.zero, min(deadline, latest) - MonotonicTime.now)
            // Also when this task is cancelled.
            await Task { try? await connection.close(timeout: timeout) }.value
        }
        self.emit(.ended(failure))
        if let failure { throw failure }
    }

    static let shutDown = AMQPError(.connectionClosed, "the client was shut down", scope: .connection)

    private typealias Machine = RecoveryStateMachine<AMQPConnection, AMQPError>

    /// Returns the refusal that ended it, or the first failure without recovery; nil when it was cancelled.
    private func maintain() async -> AMQPError? {
        guard (try? await self.state.wait { $0.isWanted ? true : nil }) != nil else { return nil }
        var random = RandomNumbers()
        var machine = Machine(
            endpoints: self.configuration.addresses.count,
            shuffles: self.configuration.recovery.shufflesAddresses,
            backoff: self.configuration.recovery.backoff
        )
        var action = machine.start(using: &random)
        while !Task.isCancelled {
            switch action {
            case .connect(let order): action = await self.connect(order, &machine, &random)
            case .restore(let connection, let isFirst):
                action = await self.restore(connection, isFirst: isFirst, &machine, &random)
            case .announce(let connection, let endpoint, let isRecovery):
                if isRecovery { connection.driver.observation.metrics?.recovered() }
                let address = self.configuration.addresses[endpoint]
                let event = isRecovery ? AMQPClientEvent.Kind.recovered(address) : .connected(address)
                guard let error = await self.use(connection, endpoint, event) else { return nil }
                self.failed(.disconnected(error), error)
                action = machine.lost(error, now: MonotonicTime.now.nanoseconds, using: &random)
            case .wait(let nanoseconds, let attempt, let failure):
                guard self.configuration.recovery.isEnabled else { return failure }
                let delay = Duration.nanoseconds(Int64(clamping: nanoseconds))
                self.emit(.retrying(attempt: attempt, delay: delay))
                try? await EventLoopGroup.shared.next().sleep(for: delay)
                action = machine.waited(using: &random)
            case .end(let failure): return failure
            case .none: return nil
            }
        }
        if case .restore(let connection, _) = action { connection.abort() }
        return nil
    }

    private func connect(
        _ order: [Int],
        _ machine: inout Machine,
        _ random: inout RandomNumbers
    ) async -> Machine.Action {
        let result = await ConnectionRace(
            addresses: self.configuration.addresses,
            order: order,
            attemptDelay: self.configuration.recovery.attemptDelay,
            isFirst: !self.login.hasSucceeded,
            dial: self.dial
        ).run()
        switch result {
        case .connected(let endpoint, let connection):
            self.login.succeed()
            connection.driver.state.withLock { $0.isSupervised = true }
            return machine.connected(connection, endpoint: endpoint)
        case .failed(let error):
            self.failed(.connectFailed(error), error)
            return machine.failed(error, using: &random)
        case .refused(let error): return machine.refused(error)
        }
    }

    /// Declares the topology on a new connection.
    private func restore(
        _ connection: AMQPConnection,
        isFirst: Bool,
        _ machine: inout Machine,
        _ random: inout RandomNumbers
    ) async -> Machine.Action {
        do throws(AMQPError) {
            let report = try await self.declareTopology(on: connection)
            if let problem = report.problemError, isFirst {
                // The first connection: better told at once than found out later.
                connection.abort()
                return machine.refused(problem)
            }
            if !report.isClean { self.emit(.topologyIncomplete(report)) }
            self.state.withLock { $0.refusedTopologies = 0 }
            return machine.restored(now: MonotonicTime.now.nanoseconds)
        } catch {
            connection.abort()
            if self.endsClient(error, isFirst: isFirst) { return machine.refused(error) }
            self.failed(.disconnected(error), error)
            return machine.lost(error, now: MonotonicTime.now.nanoseconds, using: &random)
        }
    }

    /// Whether a connection that ended while it declared the topology is no use to make again.
    private func endsClient(_ error: AMQPError, isFirst: Bool) -> Bool {
        if error.disposition(for: .topology) == .end { return true }
        // A failure inside the broker may pass; at the first connection not for ever.
        guard isFirst, case .connectionClosed(.internalError, _, _) = error.ending else { return false }
        let count = self.state.withLock { state in
            state.refusedTopologies += 1
            return state.refusedTopologies
        }
        return count >= Self.topologyAttempts
    }

    /// Attempts to declare a topology for which the broker closes the first connection with 541.
    private static let topologyAttempts = 5

    private func failed(_ kind: AMQPClientEvent.Kind, _ error: AMQPError) {
        self.state.withLock { $0.lastFailure = error }
        self.emit(kind)
    }

    /// Hands the connection out until it ends.
    ///
    /// - Returns: Why it ended; nil when the task was cancelled before.
    private func use(
        _ connection: AMQPConnection,
        _ endpoint: Int,
        _ kind: AMQPClientEvent.Kind
    ) async -> AMQPError? {
        let renewables = self.state.change { state in
            state.connection = connection
            return state.renewables.elements
        }
        self.emit(kind)
        let error = await withTaskGroup(of: Void.self) { group -> AMQPError? in
            group.addTask { await self.watchBlocking(of: connection) }
            if self.role == .consuming, !self.topology.queues.isEmpty {
                let cancelled = connection.driver.unwatchedQueues.subscribe()
                group.addTask { await self.lookAfterQueues(cancelled, of: connection) }
            }
            if let stalls = self.stalls {
                group.addTask { await stalls.confirms(of: connection, at: endpoint) }
                // With one address there is no other node to go to.
                if self.role == .consuming, self.configuration.addresses.count > 1 {
                    group.addTask { await stalls.deliveries(of: connection, at: endpoint) }
                }
            }
            for renewable in renewables { group.addTask { await renewable.renew() } }
            let error = try? await connection.waitUntilClosed()
            group.cancelAll()
            return error
        }
        if error != nil { self.state.change { $0.connection = nil } }
        return error
    }

    private func watchBlocking(of connection: AMQPConnection) async {
        var wasBlocked = false
        for await reason in connection.blockedStates {
            if let reason {
                self.emit(.blocked(reason))
            } else if wasBlocked {
                self.emit(.unblocked)
            }
            wasBlocked = reason != nil
        }
    }

    /// Declares what this connection may declare; entities that are locked or unavailable for now are tried again, if
    /// there is time for that.
    func declareTopology(
        on connection: AMQPConnection,
        timeout: Duration? = nil,
        isPatient: Bool = true
    ) async throws(AMQPError) -> AMQPTopologyReport {
        let all = self.role == .consuming ? self.topology : self.topology.withoutExclusive
        guard !all.isEmpty else { return AMQPTopologyReport() }
        // What belonged to the lost connection stays locked until the broker has noticed, at the latest by heartbeats.
        let patience = isPatient ? max(.seconds(10), self.configuration.heartbeat.saturated * 3) : .zero
        let deadline = MonotonicTime.now.advanced(by: patience)
        var report = try await connection.declare(all, timeout: timeout)
        var random = RandomNumbers()
        let backoff = RecoveryBackoff(initial: 50_000_000, maximum: 1_000_000_000)
        var attempt = 0
        while let again = all.subset(toRetryAfter: report), MonotonicTime.now < deadline {
            attempt += 1
            let delay = Duration.nanoseconds(Int64(clamping: backoff.delay(attempt: attempt, using: &random)))
            do {
                try await EventLoopGroup.shared.next().sleep(for: delay)
            } catch {
                throw ConnectionSession.cancelled(safe: true)
            }
            report.replace(with: try await connection.declare(again, timeout: timeout))
        }
        return report
    }
}
