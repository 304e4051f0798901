// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Consuming with a client: one sequence for as long as the scope lasts, over any number of connections.

extension AMQPClient {
    /// Consumes a queue while `body` runs.
    ///
    /// The consumer has a channel of its own. It goes on after the loss of the connection, a cancellation by the broker
    /// and the return of a node; a queue of the topology that was deleted is declared again. What came on a connection
    /// that is gone the broker delivers again: ``AMQPDeliveries/process(maxConcurrency:requeue:fileID:line:_:)`` skips it,
    /// a loop may still get the rest of what it is reading, and settling such a delivery gives
    /// ``AMQPSettlement/stale``. A consumer of a stream resumes after the last delivery that was given to `body`, and
    /// before the first one where it began: nothing of the stream is skipped.
    ///
    /// When `body` returns or throws the consumer ends, and what was not settled goes back to the queue. When the client
    /// is shut down the sequence ends after what is being processed; the rest goes back when `body` returns, in order,
    /// so that the next consumer of a queue with a single active one continues there.
    ///
    /// - Parameters:
    ///   - queue: The queue: a name, `.queue(…)` or `.temporary(boundTo:routingKeys:)`.
    ///   - prefetch: Deliveries the broker sends ahead of acknowledgement, 1...65535; not used with `.automatic`.
    ///   - acknowledgement: Who says that a delivery was processed.
    ///   - exclusive: Whether no other consumer may use the queue.
    ///   - arguments: The broker's own options, such as `x-priority` or `x-stream-offset`.
    ///   - timeout: Time to wait for the first consumer; the configuration's `operationTimeout` by default.
    ///   - body: Gets the deliveries.
    /// - Returns: What `body` returns.
    /// - Throws: What `body` throws; or ``AMQPError``: the broker refused the consumer. The sequence throws what ends it
    ///   for good: a refusal (403, 404 of a queue that is not in the topology), a mistake (406), the end of the client.
    @discardableResult
    public func consume<Result>(
        _ queue: AMQPConsumerQueue,
        prefetch: UInt16 = 256,
        acknowledgement: AMQPAcknowledgement = .manual,
        exclusive: Bool = false,
        arguments: FieldTable = [:],
        timeout: Duration? = nil,
        _ body: (AMQPDeliveries) async throws -> Result
    ) async throws -> Result {
        guard prefetch > 0 || acknowledgement == .automatic else {
            throw AMQPError(.invalidArgument, "prefetch is 0; it is 1 to 65535", isSafeToRetry: true)
        }
        let consumer = RecoveringConsumer(
            self.consuming,
            topology: self.topology,
            RecoveringConsumer.Options(
                queue: queue,
                prefetch: prefetch,
                isAutomatic: acknowledgement == .automatic,
                isExclusive: exclusive,
                arguments: arguments
            )
        )
        try self.add(consumer)
        defer { self.remove(consumer) }
        let inbox = try await consumer.start(until: self.consuming.deadline(timeout))
        let result: Result
        do {
            result = try await whenGracefullyShutDown {
                await consumer.stop()
            } during: {
                try await self.asUser { try await body(AMQPDeliveries(inbox: inbox, successor: consumer)) }
            }
        } catch {
            await consumer.finish()
            throw error
        }
        await consumer.finish()
        return result
    }

    /// Consumes a queue while `body` runs, as the method that takes an ``AMQPConsumerQueue``.
    ///
    /// - Parameters:
    ///   - queue: The queue's name.
    ///   - prefetch: Deliveries the broker sends ahead of acknowledgement, 1...65535; not used with `.automatic`.
    ///   - acknowledgement: Who says that a delivery was processed.
    ///   - exclusive: Whether no other consumer may use the queue.
    ///   - arguments: The broker's own options.
    ///   - timeout: Time to wait for the first consumer; the configuration's `operationTimeout` by default.
    ///   - body: Gets the deliveries.
    /// - Returns: What `body` returns.
    /// - Throws: What `body` throws, or ``AMQPError``.
    @discardableResult
    public func consume<Result>(
        _ queue: String,
        prefetch: UInt16 = 256,
        acknowledgement: AMQPAcknowledgement = .manual,
        exclusive: Bool = false,
        arguments: FieldTable = [:],
        timeout: Duration? = nil,
        _ body: (AMQPDeliveries) async throws -> Result
    ) async throws -> Result {
        try await self.consume(
            AMQPConsumerQueue.queue(queue),
            prefetch: prefetch,
            acknowledgement: acknowledgement,
            exclusive: exclusive,
            arguments: arguments,
            timeout: timeout,
            body
        )
    }

    /// Answers requests from a queue until the client is shut down: the reply is confirmed, then the request
    /// acknowledged.
    ///
    /// The reply goes to the request's `replyTo` with its `correlationID`; a request without `replyTo` is processed and
    /// not answered. A request whose acknowledgement is lost comes again, so a handler may see it twice.
    ///
    /// - Parameters:
    ///   - queue: The queue; it must exist, or be in the topology.
    ///   - maxConcurrency: Requests at a time, 1 or more.
    ///   - requeue: What happens to a request whose handler throws; the caller gets no reply to it. By default it is
    ///     dead-lettered, or dropped where the queue has no dead-letter exchange: its caller does not wait for ever.
    ///   - handler: Makes the reply.
    /// - Throws: ``AMQPError``: the reason why no more requests come, `.cancelled` among them.
    public func serveRPC(
        _ queue: String,
        maxConcurrency: Int = 1,
        requeue: AMQPRequeuePolicy = .never,
        _ handler: @escaping @Sendable (AMQPDelivery) async throws -> AMQPMessage
    ) async throws {
        let prefetch = UInt16(clamping: maxConcurrency > Int(UInt16.max) ? Int(UInt16.max) : maxConcurrency * 2)
        try await self.withPublisher { publisher in
            try await self.consume(queue, prefetch: max(1, prefetch)) { deliveries in
                try await deliveries.process(maxConcurrency: maxConcurrency, requeue: requeue) { request in
                    let properties = try request.properties()
                    var reply = try await handler(request)
                    guard let replyTo = properties.replyDestination else { return }
                    reply.properties.copy(.correlationID, from: properties)
                    // A caller that has gone is no reason to process the request again: not mandatory.
                    try await publisher.publish(reply, to: replyTo)
                }
            }
        }
    }
}
