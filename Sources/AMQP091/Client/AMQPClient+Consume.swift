// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Consuming with a client: one sequence for the duration of the scope, over any number of connections.

extension AMQPClient {
    /// Consumes a queue while `body` runs.
    ///
    /// The consumer has its own channel. It continues after the loss of the connection, a cancellation by the broker
    /// and the return of a node; a deleted queue of the topology is declared again. Deliveries of a lost connection are
    /// delivered again by the broker: ``AMQPDeliveries/process(maxConcurrency:requeue:fileID:line:_:)`` skips them, a
    /// loop may still get the rest of its batch, and settling such a delivery returns
    /// ``AMQPSettlement/stale``. A consumer of a stream resumes after the last delivery that `body` received, and
    /// before the first one at its start: nothing of the stream is skipped.
    ///
    /// When `body` returns or throws, the consumer ends, and unsettled deliveries are requeued. When the client is shut
    /// down, the sequence ends after the deliveries in process; the rest is requeued in order when `body` returns,
    /// so that the next single active consumer continues there.
    ///
    /// - Parameters:
    ///   - queue: The queue: a name, `.queue(…)` or `.temporary(boundTo:routingKeys:)`.
    ///   - prefetch: Deliveries the broker sends ahead of acknowledgement, 1...65535; not used with `.automatic`.
    ///   - acknowledgement: How deliveries are acknowledged.
    ///   - exclusive: True to exclude other consumers of the queue.
    ///   - arguments: Arguments of the broker, such as `x-priority` or `x-stream-offset`.
    ///   - timeout: Time to wait for the first consumer; the configuration's `operationTimeout` by default.
    ///   - body: Receives the deliveries.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`; or ``AMQPError``: the broker refused the consumer. The sequence throws permanent
    ///   errors: a refusal (403, 404 of a queue that is not in the topology), a mistake (406), the end of the client.
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

    /// Consumes a queue by name while `body` runs; see the method that takes an ``AMQPConsumerQueue``.
    ///
    /// - Parameters:
    ///   - queue: The queue's name.
    ///   - prefetch: Deliveries the broker sends ahead of acknowledgement, 1...65535; not used with `.automatic`.
    ///   - acknowledgement: How deliveries are acknowledged.
    ///   - exclusive: True to exclude other consumers of the queue.
    ///   - arguments: Arguments of the broker.
    ///   - timeout: Time to wait for the first consumer; the configuration's `operationTimeout` by default.
    ///   - body: Receives the deliveries.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`, or ``AMQPError``.
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

    /// Answers requests from a queue until the client is shut down: each reply is confirmed, then its request is
    /// acknowledged.
    ///
    /// The reply goes to the request's `replyTo` with its `correlationID`; a request without `replyTo` is processed and
    /// not answered. A request whose acknowledgement is lost is delivered again, so a handler may see it twice.
    ///
    /// - Parameters:
    ///   - queue: The queue; it must exist, or be in the topology.
    ///   - maxConcurrency: Maximum number of concurrent requests, 1 or more.
    ///   - requeue: The treatment of a request whose handler throws; its caller gets no reply. By default it is
    ///     dead-lettered, or dropped if the queue has no dead-letter exchange.
    ///   - handler: Returns the reply.
    /// - Throws: ``AMQPError``: the reason why serving ended, such as `.cancelled`.
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
                    // Not mandatory: a caller that has gone is no reason to process the request again.
                    try await publisher.publish(reply, to: replyTo)
                }
            }
        }
    }
}
