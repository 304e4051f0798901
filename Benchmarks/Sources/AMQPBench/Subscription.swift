// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Synchronization

// Subscription: the channel of a consumer, subscribed to its queue or about to poll it, which can be opened again after it
// was lost.

/// A channel that is subscribed to a queue, and can be opened again after it was lost.
final class Subscription: Sendable {
    private struct State {
        var connection: AMQPConnection
        var channel: AMQPChannel
        /// Nil where the queue is polled, or before a late start.
        var deliveries: AMQPDeliveries?
        var isEnded = false
    }

    let queue: String
    private let link: Link
    private let options: RunOptions
    private let state: Mutex<State>

    /// A channel for a consumer.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - options: What the run was told.
    ///   - isLate: True to subscribe only when ``start()`` is called.
    ///   - link: The connection.
    /// - Throws: `AMQPError`.
    init(queue: String, options: RunOptions, isLate: Bool = false, on link: Link) async throws {
        self.queue = queue
        self.link = link
        self.options = options
        let connection = link.connection
        let channel = try await Self.open(options, on: connection)
        let deliveries = isLate ? nil : try await Self.subscribe(queue, options, on: channel)
        self.state = Mutex(State(connection: connection, channel: channel, deliveries: deliveries))
    }

    private static func open(_ options: RunOptions, on connection: AMQPConnection) async throws -> AMQPChannel {
        let channel = try await connection.openChannel()
        if let prefetch = options.prefetch, !options.autoAck {
            try await channel.setPrefetch(count: UInt16(prefetch))
        }
        return channel
    }

    /// Subscribes; nil where the queue is polled.
    private static func subscribe(
        _ queue: String,
        _ options: RunOptions,
        on channel: AMQPChannel
    ) async throws -> AMQPDeliveries? {
        if options.isPolling { return nil }
        // A stream that was filled before is read from its beginning; by default only what comes next is sent.
        let isFilled = options.queueType == .stream && options.producers == 0
        var arguments = FieldTable(typing: options.consumerArguments ?? [:])
        if isFilled, options.consumerArguments?["x-stream-offset"] == nil {
            arguments.append(.string("first"), named: "x-stream-offset")
        }
        return try await channel.deliveries(
            from: queue,
            acknowledgement: options.autoAck ? .automatic : .manual,
            arguments: arguments
        )
    }

    var channel: AMQPChannel { self.state.withLock { $0.channel } }
    var deliveries: AMQPDeliveries? { self.state.withLock { $0.deliveries } }

    /// Subscribes, after a late start.
    func start() async throws {
        guard let deliveries = try await Self.subscribe(self.queue, self.options, on: self.channel) else { return }
        let (channel, isEnded) = self.state.withLock { state in
            state.deliveries = deliveries
            return (state.channel, state.isEnded)
        }
        if isEnded { try? await channel.cancel(deliveries) }
    }

    /// True when nothing more is wanted.
    var isEnded: Bool { self.state.withLock { $0.isEnded } }

    /// Subscribes again after the connection was lost.
    func renew() async throws {
        let deadline = ContinuousClock.now + Link.patience
        while true {
            let lost = self.state.withLock { $0.connection }
            // Where the queue alone was lost, the connection stays.
            let connection = lost.isOpen ? lost : try await self.link.renewed(after: lost)
            do {
                try await QueueUnderTest.restore(self.queue, self.options, on: connection)
                let channel = try await Self.open(self.options, on: connection)
                let deliveries = try await Self.subscribe(self.queue, self.options, on: channel)
                self.state.withLock { ($0.connection, $0.channel, $0.deliveries) = (connection, channel, deliveries) }
                return
            } catch let error as AMQPError where error.isLoss {
                self.state.withLock { $0.connection = connection }
            } catch let error as AMQPError where error.code != .cancelled && ContinuousClock.now < deadline {
                // A cluster refuses what it will have again when the node that is gone is back.
                try await Task.sleep(for: Link.pause)
            }
        }
    }

    /// Whether an error is mended by subscribing again: the connection was lost, or the broker cancelled the consumer.
    func resumes(after error: AMQPError) -> Bool {
        self.options.resumes && !self.isEnded && (error.isLoss || error.code == .consumerCancelled)
    }

    /// Notes the first delivery after the connection was made again.
    func noteDelivery() { self.link.resumed(at: MonotonicClock.now) }

    /// Asks the broker to send no more; the deliveries end behind what it has sent.
    func cancel() async {
        let (channel, deliveries) = self.state.withLock { state in
            state.isEnded = true
            return (state.channel, state.deliveries)
        }
        // A failure shows in the consumer itself.
        if let deliveries { try? await channel.cancel(deliveries) }
    }
}
