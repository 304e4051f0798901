// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// RecoveringConsumer: the consumers behind one sequence of deliveries, one after the other, each on a channel of its own,
// so that no other consumer's mistake can end it. The task that reads the sequence makes the next one when the last has
// ended for a reason that another consumer does not share; so nothing is delivered ahead of a reader that is busy.
//
//   lost connection, server cancel, queue or node away for now  -> the next one, when there is a connection
//   queue of the topology that is missing                       -> the topology is declared again, then the next one
//   anything else, and the end of the client                    -> the sequence throws it
//   stop                                                        -> the sequence ends
//
// Not here: where in a stream the next one begins (StreamPosition).

/// Which queue a consumer reads.
public struct AMQPConsumerQueue: Hashable, Sendable, ExpressibleByStringLiteral {
    enum Kind: Hashable, Sendable {
        case named(String)
        case temporary(bindings: [AMQPTopology.Binding])
    }

    let kind: Kind

    /// A queue of this name.
    ///
    /// One of the client's topology is declared again when it was deleted.
    public static func queue(_ name: String) -> AMQPConsumerQueue { AMQPConsumerQueue(kind: .named(name)) }

    /// A queue of this name.
    public init(stringLiteral value: String) { self = .queue(value) }

    private init(kind: Kind) { self.kind = kind }

    /// A queue of this consumer's own, named by the broker, which goes with its connection.
    ///
    /// After a reconnect there is a new one, under a new name, with the same bindings; what was published in between is
    /// not in it.
    ///
    /// - Parameters:
    ///   - exchange: The exchange to bind it to.
    ///   - routingKeys: A binding for each of these keys or patterns.
    /// - Returns: The queue.
    public static func temporary(boundTo exchange: String, routingKeys: [String] = [""]) -> AMQPConsumerQueue {
        AMQPConsumerQueue(
            kind: .temporary(
                bindings: routingKeys.map { key in
                    AMQPTopology.Binding(source: exchange, target: .queue(""), routingKey: key, arguments: [:])
                }
            )
        )
    }

    /// The name; empty for a queue that the broker names.
    var name: String { if case .named(let name) = self.kind { name } else { "" } }
}

@usableFromInline
final class RecoveringConsumer: Sendable {
    struct Options: Sendable {
        var queue: AMQPConsumerQueue
        var prefetch: UInt16
        var isAutomatic: Bool
        var isExclusive: Bool
        var arguments: FieldTable
    }

    private struct State {
        var inbox: ConsumerInbox?
        var isStopped = false
        var position: StreamPosition
        /// Which making of its queue the position is in.
        var incarnation: Int
        /// The broker has cancelled the consumer: another stream may have its name by now.
        var mayBeAnotherStream = false
        /// When the first consumer was about to start.
        var startedAt: MonotonicTime?
        /// Endings in a row without a delivery in between.
        var attempts = 0
        /// Connections in a row that ended because the peer broke the protocol, and when the last one did.
        var violations = 0
        var lastViolation = MonotonicTime(nanoseconds: 0)
        /// Since when every attempt to resume is refused for missing rights.
        var refusedSince: MonotonicTime?
    }

    /// How a consumer ends that is stopped while its handlers run.
    enum Ending {
        /// Cancelled; what nobody has read goes back at once, and other consumers need not wait for the handlers.
        case returnsAtOnce
        /// Its channel is closed when the handlers are done, which returns what was not processed in one step and in
        /// order: cancelled before, the next single active consumer would start in between.
        case returnsInOrder
        /// Cancelled; what was delivered is processed, because the broker has forgotten it.
        case readsToTheEnd
    }

    private let link: ConnectionLink
    private let topology: AMQPTopology
    private let options: Options
    let ending: Ending
    private let state: ObservedValue<State>

    init(_ link: ConnectionLink, topology: AMQPTopology, _ options: Options) {
        self.link = link
        self.topology = topology
        self.options = options
        let queue = topology.queues.first { $0.name == options.queue.name }
        let isStream = options.arguments["x-stream-offset"] != nil ? true : queue.map(\.isStream)
        self.state = ObservedValue(
            State(
                position: StreamPosition(isStream: options.isAutomatic ? false : isStream),
                incarnation: link.repair.incarnation(of: options.queue.name)
            )
        )
        self.ending =
            if options.isAutomatic {
                .readsToTheEnd
            } else if options.isExclusive || queue?.isSingleActive ?? true {
                // Of a queue that is not in the topology nobody here knows.
                .returnsInOrder
            } else {
                .returnsAtOnce
            }
    }

    /// The inbox of the present consumer.
    var inbox: ConsumerInbox? { self.state.withLock { $0.inbox } }

    var isStopped: Bool { self.state.withLock { $0.isStopped } }

    /// Why the client ends; nil when it is told to.
    var failure: AMQPError? { self.link.clientFailure }

    // MARK: the sequence

    /// Starts the first consumer; one that was stopped meanwhile gets nothing.
    ///
    /// Temporary refusals do not fail the start either: a lost connection, a queue that is
    /// locked, an exclusive consumer that is still there.
    ///
    /// - Throws: Why there is none at the deadline.
    func start(until deadline: MonotonicTime) async throws(AMQPError) -> ConsumerInbox {
        let inbox = try await self.open(asOftenAsNeededUntil: deadline)
        let isStopped = self.state.change { state in
            state.attempts = 0
            state.inbox = inbox
            return state.isStopped
        }
        if isStopped { await self.stop() }
        return inbox
    }

    private func open(asOftenAsNeededUntil deadline: MonotonicTime) async throws(AMQPError) -> ConsumerInbox {
        var failure: AMQPError?
        while true {
            do throws(AMQPError) {
                return try await self.open(until: deadline)
            } catch {
                // The last refusal says more than that the time is over.
                if error.code == .timedOut, let failure { throw failure }
                guard !self.isStopped, self.link.ending == nil, !error.isMissingRight, self.mayResume(after: error),
                    MonotonicTime.now < deadline
                else { throw error }
                failure = error
                try await self.delay(after: error, until: deadline)
            }
        }
    }

    /// The reader is done with a batch, as far as it was given out.
    func hasRead(_ batch: DeliveryBatch) {
        let isWatching = self.state.withLock { state in
            state.attempts = 0
            return state.position.isWatching
        }
        guard isWatching, batch.readCount > 0, batch.count > 0 else { return }
        let last = AMQPDelivery(batch: batch, record: batch.records[batch.readCount - 1])
        let offset = (try? last.properties())?.streamOffset
        self.state.withLock { $0.position.gave(offset) }
    }

    /// No handler begins with this delivery, which comes again, nor with any that follows it from the same consumer.
    func skipped(_ delivery: AMQPDelivery) {
        guard self.state.withLock({ $0.position.isWatching }) else { return }
        let offset = (try? delivery.properties())?.streamOffset
        self.state.withLock { $0.position.skipped(offset) }
    }

    /// The consumer to go on with when one has ended; nil when it was stopped by the application.
    nonisolated(nonsending) func inbox(
        after ended: ConsumerInbox,
        _ reason: AMQPError
    ) async throws(AMQPError) -> ConsumerInbox? {
        if self.isStopped { return try self.stopped() }
        guard reason.code != .cancelled else { throw reason }
        guard self.mayResume(after: reason) else { throw reason }
        // The channel of a consumer that the broker cancelled is still open, and its deliveries can be settled.
        let channel = reason.code == .consumerCancelled ? AMQPChannel(core: ended.channel) : nil
        var failure = reason
        while true {
            do throws(AMQPError) {
                try await self.delay(after: failure)
                let inbox = try await self.open(until: .distantFuture, again: channel)
                guard self.use(inbox) else { return try self.stopped() }
                self.link.emit(.consumerRecovered(queue: self.options.queue.name))
                return inbox
            } catch {
                if self.isStopped { return try self.stopped() }
                let isTemporary = error.code == .timedOut || error.code == .noFreeChannel
                guard isTemporary || self.mayResume(after: error), self.link.ending == nil else { throw error }
                failure = error
            }
        }
    }

    /// Whether another consumer may do better; not after a peer that breaks the protocol again and again.
    private func mayResume(after reason: AMQPError) -> Bool {
        guard reason.isViolation else {
            // A consumer whose request fails in the broker each time would end the connection for all, again and again.
            if reason.isInternalErrorOfConsumer, self.state.withLock({ $0.attempts >= Self.internalErrorLimit }) {
                return false
            }
            if reason.isMissingRight, !self.mayBeGivenBack() { return false }
            return reason.endsOnlyThisConsumer
        }
        let now = MonotonicTime.now
        let violations = self.state.withLock { state in
            state.violations = now - state.lastViolation > .seconds(60) ? 1 : state.violations + 1
            state.lastViolation = now
            return state.violations
        }
        return violations < Self.violationLimit
    }

    /// Whether rights have been missing for a short time only.
    private func mayBeGivenBack() -> Bool {
        let now = MonotonicTime.now
        return self.state.withLock { state in
            let since = state.refusedSince ?? now
            state.refusedSince = since
            return now - since < Self.refusalPatience
        }
    }

    /// Time for which a consumer that had the rights it needs is refused before the sequence throws.
    private static let refusalPatience = Duration.seconds(30)

    /// Violations in a row, each within a minute of the one before, after which the sequence throws.
    private static let violationLimit = 10

    /// Endings in a row without a delivery in between, after which a 541 that blames the consumer is thrown.
    private static let internalErrorLimit = 5

    /// No other consumer follows: without an error only when that is what the application wants.
    private func stopped() throws(AMQPError) -> ConsumerInbox? {
        if let failure = self.failure { throw failure }
        return nil
    }

    /// Takes the new inbox into use, unless the consumer was stopped meanwhile.
    private func use(_ inbox: ConsumerInbox) -> Bool {
        let isStopped = self.state.change { state in
            state.inbox = inbox
            state.refusedSince = nil
            return state.isStopped
        }
        if isStopped { self.discard(inbox) }
        return !isStopped
    }

    /// Endings that come one after the other are answered slower and slower.
    private func delay(
        after reason: AMQPError,
        until deadline: MonotonicTime = .distantFuture
    ) async throws(AMQPError) {
        let attempt = self.state.withLock { state in
            state.attempts += 1
            return state.attempts - 1
        }
        // The first is answered at once; after a loss the link has waited already.
        guard attempt > 0, !reason.isLoss else { return }
        var random = RandomNumbers()
        let delay = RecoveryBackoff(initial: 20_000_000, maximum: 2_000_000_000).delay(attempt: attempt, using: &random)
        let left = max(.zero, deadline - MonotonicTime.now)
        do {
            try await EventLoopGroup.shared.next().sleep(for: min(.nanoseconds(Int64(clamping: delay)), left))
        } catch {
            throw ConnectionSession.cancelled(safe: true)
        }
    }

    private func open(
        until deadline: MonotonicTime,
        again cancelled: AMQPChannel? = nil
    ) async throws(AMQPError) -> ConsumerInbox {
        let connection = try await self.link.connection(until: deadline) { self.isStopped }
        let timeout = deadline == .distantFuture ? nil : max(.zero, deadline - .now)
        var declarations = 0
        if let cancelled {
            declarations += 1
            self.state.withLock { $0.mayBeAnotherStream = $0.position.isStream }
            await self.lookForDeletion(on: connection)
            try await self.declareAgain(on: connection, cancelled, timeout: timeout)
        }
        var channel = cancelled?.isOpen == true ? cancelled : nil
        while true {
            let begun = self.link.repair.begun
            self.restartIfMadeAgain()
            var isGuess = false
            do throws(AMQPError) {
                try await self.restartIfAnother(on: connection, timeout: timeout)
                let arguments = try await self.arguments(on: connection, timeout: timeout)
                isGuess = arguments.isGuess
                let channel = try await self.channel(channel, on: connection, timeout: timeout)
                return try await self.startConsumer(on: channel, arguments.table, timeout: timeout)
            } catch {
                channel = nil
                if isGuess, error.scope == .channel, error.replyCode == .preconditionFailed {
                    self.state.withLock { $0.position.isNoStream() }
                } else if error.isMissingEntity, declarations < 3, self.isOfTopology {
                    // An automatically deleted queue may go again in between.
                    declarations += 1
                    self.link.repair.foundMissing(self.options.queue.name, since: begun)
                    try await self.declareAgain(on: connection, nil, timeout: timeout)
                } else {
                    throw error
                }
            }
        }
    }

    /// Before a stream of the topology is declared again: what is made again begins at 0, and all of it is new.
    private func lookForDeletion(on connection: AMQPConnection) async {
        let (isStream, known) = self.state.withLock { ($0.position.isStream, $0.incarnation) }
        let queue = self.options.queue.name
        guard isStream, self.isOfTopology, self.link.repair.incarnation(of: queue) == known else { return }
        _ = await self.link.isDeleted(queue, on: connection)
    }

    private func restartIfMadeAgain() {
        let incarnation = self.link.repair.incarnation(of: self.options.queue.name)
        self.state.withLock { state in
            guard state.incarnation != incarnation else { return }
            state.incarnation = incarnation
            state.mayBeAnotherStream = false
            state.position.restart()
        }
    }

    /// After the broker has cancelled the consumer of a stream whose deletion nobody saw: a stream that ends before the
    /// position is another one.
    ///
    /// A stream that is being deleted can be there for seconds, and RabbitMQ 3.10 closes the connection of whoever consumes
    /// from it then; by the next connection it has been made again.
    private func restartIfAnother(on connection: AMQPConnection, timeout: Duration?) async throws(AMQPError) {
        let (isOpen, next) = self.state.withLock { ($0.mayBeAnotherStream, $0.position.next) }
        guard isOpen else { return }
        if let next, next > 0 {
            let queue = self.options.queue.name
            let end = try await connection.streamEnd(of: queue, emptyDelay: .seconds(2), timeout: timeout)
            if end < next { self.state.withLock { $0.position.restart() } }
        }
        self.state.withLock { $0.mayBeAnotherStream = false }
    }

    /// Whether the queue is declared by the client, as a classic one.
    private var isClassic: Bool {
        self.topology.queues.contains { $0.name == self.options.queue.name && $0.isClassic }
    }

    /// Whether what the consumer needs is declared by the client.
    private var isOfTopology: Bool {
        switch self.options.queue.kind {
        case .named(let name): self.topology.queues.contains { $0.name == name }
        case .temporary(let bindings):
            bindings.contains { binding in self.topology.exchanges.contains { $0.name == binding.source } }
        }
    }

    private func channel(
        _ present: AMQPChannel?,
        on connection: AMQPConnection,
        timeout: Duration?
    ) async throws(AMQPError) -> AMQPChannel {
        if let present { return present }
        let channel = try await connection.openChannel(timeout: timeout)
        channel.core.isOfClient = true
        return channel
    }

    private func startConsumer(
        on channel: AMQPChannel,
        _ arguments: FieldTable,
        timeout: Duration?
    ) async throws(AMQPError) -> ConsumerInbox {
        do throws(AMQPError) {
            if !self.options.isAutomatic {
                try await channel.setPrefetch(count: self.options.prefetch, timeout: timeout)
            }
            let inbox = try await channel.core.startConsumer(
                queue: try await self.queueName(on: channel, timeout: timeout),
                consumerTag: nil,
                isAutomatic: self.options.isAutomatic,
                exclusive: self.options.isExclusive,
                arguments: self.isClassic ? arguments.cancelling(by: channel.core.driver.serverVersion) : arguments,
                timeout: timeout
            )
            self.state.withLock { $0.position.resumed() }
            return inbox
        } catch {
            if channel.isOpen { await channel.core.closeShielded() }
            throw error
        }
    }

    /// Declares the topology, of which something is missing.
    ///
    /// - Throws: Why the consumer's own queue cannot be declared. What else cannot is an event.
    private func declareAgain(
        on connection: AMQPConnection,
        _ channel: AMQPChannel?,
        timeout: Duration?
    ) async throws(AMQPError) {
        guard !self.topology.isEmpty else { return }
        let report: AMQPTopologyReport
        do throws(AMQPError) {
            report = try await self.link.declareTopologyAgain(on: connection, timeout: timeout)
        } catch {
            // The consumer's own channel does as well; a refusal closes it, and frees its number.
            guard error.code == .noFreeChannel, let channel, channel.isOpen else { throw error }
            try? await channel.declare(self.topology, timeout: timeout)
            guard !channel.isOpen else { return }
            report = try await self.link.declareTopologyAgain(on: connection, timeout: timeout)
        }
        guard let own = report.entries.first(where: { $0.entity == .queue(self.options.queue.name) }),
            case .failed(let error) = own.finding
        else { return }
        throw error
    }

    private func queueName(on channel: AMQPChannel, timeout: Duration?) async throws(AMQPError) -> String {
        switch self.options.queue.kind {
        case .named(let name): return name
        case .temporary(let bindings):
            let queue = try await channel.declareQueue("", exclusive: true, autoDelete: true, timeout: timeout)
            for binding in bindings {
                try await channel.bindQueue(
                    queue.name,
                    to: binding.source,
                    routingKey: binding.routingKey,
                    timeout: timeout
                )
            }
            return queue.name
        }
    }

    /// The arguments, of a stream from where the reader is; a guess if the queue may be no stream.
    private func arguments(
        on connection: AMQPConnection,
        timeout: Duration?
    ) async throws(AMQPError) -> (table: FieldTable, isGuess: Bool) {
        let now = MonotonicTime.now
        let (position, startedAt) = self.state.withLock { state in
            defer { state.startedAt = state.startedAt ?? now }
            return (state.position, state.startedAt)
        }
        var arguments = self.options.arguments
        guard position.isWatching else { return (arguments, false) }
        let wanted = arguments["x-stream-offset"]
        if let next = position.next {
            arguments["x-stream-offset"] = .int64(Int64(clamping: next))
            return (arguments, !position.isCertain)
        }
        if position.isStream {
            let start = try await connection.streamStart(
                of: self.options.queue.name,
                at: wanted,
                timeout: timeout
            )
            guard let start else { return (arguments, false) }
            self.state.withLock { $0.position.begins(at: start) }
            arguments["x-stream-offset"] = .int64(Int64(clamping: start))
            return (arguments, false)
        }
        // Resumed before its first delivery: if it is a stream, from the time when it began, by the broker's clock.
        guard let startedAt, case .named = self.options.queue.kind else { return (arguments, false) }
        arguments["x-stream-offset"] = AMQPStreamOffset.ago(now - startedAt + Self.intervalTolerance).fieldValue
        return (arguments, true)
    }

    /// The broker takes whole seconds, and looks at its clock later than the client.
    private static let intervalTolerance = Duration.seconds(2)

    // MARK: the end

    /// Ends the sequence behind what is being processed; what nobody has read goes back to its queue.
    ///
    /// - Returns: When the broker has been told, or will be by the end of the scope.
    func stop() async {
        let inbox = self.state.change { state in
            state.isStopped = true
            return state.inbox
        }
        // The reader may be waiting for the connection of the next consumer.
        self.link.recheck()
        guard let inbox else { return }
        switch self.ending {
        case .returnsInOrder:
            inbox.stop()
            inbox.finish(.cancelledByApplication)
        case .returnsAtOnce:
            inbox.stop()
            try? await inbox.channel.cancelShielded(inbox, timeout: nil)
            inbox.channel.returnUnread(inbox)
        case .readsToTheEnd:
            try? await inbox.channel.cancelShielded(inbox, timeout: nil)
        }
    }

    /// The scope of the consumer is over.
    func finish() async {
        let inbox = self.state.change { state in
            state.isStopped = true
            return state.inbox
        }
        if let inbox { await self.close(inbox) }
    }

    private func discard(_ inbox: ConsumerInbox) {
        Task { await self.close(inbox) }
    }

    private func close(_ inbox: ConsumerInbox) async {
        let core = inbox.channel
        inbox.abandon()
        // With the channel go the consumer and all that was not settled; settlements given before go out first.
        if core.isUsable { await core.closeShielded() }
    }
}

extension AMQPError {
    /// Whether a consumer may continue after this end of another.
    var endsOnlyThisConsumer: Bool {
        switch self.disposition(for: .consumer) {
        case .resume, .retry:
            self.code != .timedOut && self.code != .authenticationFailed && self.code != .virtualHostRefused
        case .isolate, .tell, .end: false
        }
    }

    /// Whether the user has no permission for this, which is not the 403 of an exclusive consumer elsewhere.
    var isMissingRight: Bool {
        self.scope == .channel && self.replyCode == .accessRefused && !Ending.isInUse(self.replyText)
    }

    /// Whether the broker closed the connection because it failed on a consumer's request.
    var isInternalErrorOfConsumer: Bool {
        self.scope == .connection && self.replyCode == .internalError && self.method == Basic.Consume.id
    }

    /// Whether the connection ended because the peer broke the protocol.
    var isViolation: Bool { self.code == .protocolViolation && self.scope == .connection }

    /// Whether the broker does not know a queue or an exchange, which may be one of the topology.
    var isMissingEntity: Bool {
        self.replyCode == .notFound && self.scope == .channel && self.disposition(for: .topology) != .retry
    }
}

extension AMQPTopology.Queue {
    fileprivate var isStream: Bool { self.arguments["x-queue-type"]?.stringValue == "stream" }
    fileprivate var isClassic: Bool { self.arguments["x-queue-type"]?.stringValue == "classic" }

    fileprivate var isSingleActive: Bool { self.arguments["x-single-active-consumer"] == .bool(true) }
}

extension FieldTable {
    /// Has RabbitMQ 3 cancel a consumer of a classic queue whenever its queue goes.
    ///
    /// Without it the broker consumes from a queue of the same name that is there again, as for mirrored queues, and then
    /// drops what that queue delivers (measured on 3.10.8). Quorum queues refuse the argument. Later releases have no mirrored
    /// queues, and always cancel.
    fileprivate func cancelling(by version: ServerVersion?) -> FieldTable {
        let key = "x-cancel-on-ha-failover"
        guard let version, version < ServerVersion(4, 0), self[key] == nil else { return self }
        var table = self
        table[key] = true
        return table
    }
}
