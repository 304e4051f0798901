// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// RecoveringConsumer: the consumers behind one sequence of deliveries, one after the other, each on a channel of its own,
// so that no other consumer's mistake can end it. The task that reads the sequence makes the next one when the last has
// ended for a reason that another consumer does not share; so nothing is delivered ahead of a reader that is busy.
//
//   lost connection, server cancel, queue or node away for now  -> the next one, when there is a connection
//   anything else, and the end of the client                    -> the sequence throws it
//   stop                                                        -> the sequence ends

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
        /// The offset behind the last delivery read from a stream.
        var streamOffset: Int64?
        /// Endings in a row without a delivery in between.
        var attempts = 0
    }

    private let link: ConnectionLink
    private let topology: AMQPTopology
    private let options: Options
    private let state = Watched(State())

    init(_ link: ConnectionLink, topology: AMQPTopology, _ options: Options) {
        self.link = link
        self.topology = topology
        self.options = options
    }

    /// The inbox of the present consumer.
    var inbox: ConsumerInbox? { self.state.withLock { $0.inbox } }

    var isStopped: Bool { self.state.withLock { $0.isStopped } }

    /// Why the client ends; nil when it is told to.
    var failure: AMQPError? { self.link.clientFailure }

    // MARK: the sequence

    /// Starts the first consumer; one that was stopped meanwhile gets nothing.
    func start(until deadline: MonotonicTime) async throws(AMQPError) -> ConsumerInbox {
        let inbox = try await self.open(until: deadline)
        let isStopped = self.state.change { state in
            state.inbox = inbox
            return state.isStopped
        }
        if isStopped { await self.stop() }
        return inbox
    }

    /// The reader has read a batch to its end.
    func hasRead(_ batch: DeliveryBatch) {
        self.state.withLock { state in
            state.attempts = 0
            guard self.options.arguments["x-stream-offset"] != nil, batch.count > 0 else { return }
            let last = AMQPDelivery(batch: batch, record: batch.records[batch.count - 1])
            guard let offset = (try? last.properties())?.streamOffset else { return }
            state.streamOffset = Int64(clamping: offset) + 1
        }
    }

    /// The consumer to go on with when one has ended; nil when it was stopped by the application.
    nonisolated(nonsending) func inbox(
        after ended: ConsumerInbox,
        _ reason: AMQPError
    ) async throws(AMQPError) -> ConsumerInbox? {
        if self.isStopped { return try self.stopped() }
        guard reason.code != .cancelled else { throw reason }
        guard reason.endsOnlyThisConsumer else { throw reason }
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
                guard error.endsOnlyThisConsumer || error.code == .timedOut, self.link.ending == nil else {
                    throw error
                }
                failure = error
            }
        }
    }

    /// No other consumer follows: without an error only when that is what the application wants.
    private func stopped() throws(AMQPError) -> ConsumerInbox? {
        if let failure = self.failure { throw failure }
        return nil
    }

    /// Takes the new inbox into use, unless the consumer was stopped meanwhile.
    private func use(_ inbox: ConsumerInbox) -> Bool {
        let isStopped = self.state.change { state in
            state.inbox = inbox
            return state.isStopped
        }
        if isStopped { self.discard(inbox) }
        return !isStopped
    }

    /// Endings that come one after the other are answered slower and slower.
    private func delay(after reason: AMQPError) async throws(AMQPError) {
        let attempt = self.state.withLock { state in
            state.attempts += 1
            return state.attempts - 1
        }
        // The first is answered at once; after a loss the link has waited already.
        guard attempt > 0, !reason.isLoss else { return }
        var random = SystemRandomNumberGenerator()
        let delay = RecoveryBackoff(initial: 20_000_000, maximum: 2_000_000_000).delay(attempt: attempt, using: &random)
        do {
            try await EventLoopGroup.shared.next().sleep(for: .nanoseconds(Int64(clamping: delay)))
        } catch {
            throw ConnectionDriver.cancelled(safe: true)
        }
    }

    private func open(
        until deadline: MonotonicTime,
        again cancelled: AMQPChannel? = nil
    ) async throws(AMQPError) -> ConsumerInbox {
        let connection = try await self.link.connection(until: deadline) { self.isStopped }
        let timeout = deadline == .distantFuture ? nil : max(.zero, deadline - .now)
        if cancelled != nil { try await self.declareQueueAgain(on: connection, timeout: timeout) }
        let channel: AMQPChannel
        if let cancelled, cancelled.isOpen {
            channel = cancelled
        } else {
            channel = try await connection.openChannel(timeout: timeout)
            channel.core.isRecovered = true
        }
        do throws(AMQPError) {
            if !self.options.isAutomatic {
                try await channel.setPrefetch(count: self.options.prefetch, timeout: timeout)
            }
            return try await channel.core.startConsumer(
                queue: try await self.queueName(on: channel, timeout: timeout),
                consumerTag: nil,
                isAutomatic: self.options.isAutomatic,
                exclusive: self.options.isExclusive,
                arguments: self.arguments,
                timeout: timeout
            )
        } catch {
            if channel.isOpen { await channel.core.closeShielded() }
            throw error
        }
    }

    /// A queue of the topology that was deleted is made again.
    private func declareQueueAgain(on connection: AMQPConnection, timeout: Duration?) async throws(AMQPError) {
        let topology = self.topology.only(queue: self.options.queue.name)
        guard !topology.isEmpty else { return }
        let report = try await connection.declare(topology, timeout: timeout)
        // A difference is no obstacle to consuming; a queue that is not there is told by the broker again.
        if !report.isClean { self.link.emit(.topologyIncomplete(report)) }
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

    /// The arguments, of a stream from where the reader is.
    private var arguments: FieldTable {
        var arguments = self.options.arguments
        if let offset = self.state.withLock({ $0.streamOffset }) { arguments["x-stream-offset"] = .int64(offset) }
        return arguments
    }

    // MARK: the end

    /// Ends the sequence behind what is being processed; what nobody has read goes back to its queue.
    ///
    /// - Returns: When the broker has been told.
    func stop() async {
        let inbox = self.state.change { state in
            state.isStopped = true
            return state.inbox
        }
        guard let inbox else { return self.link.recheck() }
        inbox.stop()
        // The reader may be waiting for the connection of the next consumer.
        self.link.recheck()
        try? await inbox.channel.cancelShielded(inbox, timeout: nil)
        // At once: another consumer need not wait until this one's handlers are done.
        inbox.channel.returnUnread(inbox)
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
    /// Whether a consumer may go on where this one has ended.
    var endsOnlyThisConsumer: Bool { self.isLoss || self.code == .consumerCancelled || self.mayPass }
}
