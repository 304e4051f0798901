// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// AMQPRPCClient: requests and replies over RabbitMQ's direct reply-to: a pseudo-queue per channel, so no queue is
// declared. Many calls share one channel; a reply is matched by its correlation ID, which is the sequence number of
// the request. Requests are mandatory and confirmed: an unroutable one fails at once, not at its deadline.
// Not here: the serving side (AMQPConnection.serveRPC).

/// Sends requests and waits for their replies.
///
/// Any number of tasks may call concurrently. An RPC client of an ``AMQPConnection`` ends with its connection; one of an
/// ``AMQPClient`` survives reconnects: a call waits for a connection within its timeout. A call that was in flight when the
/// connection was lost fails, because it is unknown whether the server has received it.
public struct AMQPRPCClient: Sendable {
    enum Source: Sendable {
        case session(RPCSession)
        case recovering(Renewable<RPCSession>, ConnectionLink, MissingExchanges)
    }

    let source: Source

    /// Sends a request and waits for its reply.
    ///
    /// - Parameters:
    ///   - request: The request; `correlationID` and `replyTo` are set by this call.
    ///   - destination: The exchange and routing key to publish to, usually `.queue(…)` of the server.
    ///   - timeout: Total time for room, publish and reply; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: The reply; it needs no settlement.
    /// - Throws: ``AMQPError``: `.returned` when no queue takes the request, `.nacked` when the broker refuses it,
    ///   `.timedOut` or `.cancelled`, where a reply that comes later is dropped; `.bodyTooLarge`, where the reply was
    ///   read past; with `isSafeToRetry` when nothing was
    ///   written.
    public func call(
        _ request: AMQPMessage,
        to destination: AMQPDestination,
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async throws(AMQPError) -> AMQPDelivery {
        let site = CallSite(fileID, line)
        switch self.source {
        case .session(let session):
            return try await session.call(request, to: destination, site: site, deadline: session.deadline(timeout))
        case .recovering(let sessions, let link, let missing):
            let deadline = link.deadline(timeout)
            var attempts = 0
            while true {
                let session = try await sessions.current(until: deadline)
                do throws(AMQPError) {
                    return try await session.call(request, to: destination, site: site, deadline: deadline.nanoseconds)
                } catch {
                    guard !session.isUsable else { throw error }
                    sessions.drop(session)
                    guard error.isNotSentBecauseGone || missing.mayPublishAgain(after: error, &attempts) else {
                        throw error
                    }
                }
            }
        }
    }

    /// Closes the client's channel; pending calls fail.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError`` as ``AMQPChannel/close(timeout:)``.
    public func close(timeout: Duration? = nil) async throws(AMQPError) {
        switch self.source {
        case .session(let session): try await session.close(timeout: timeout)
        case .recovering(let sessions, _, _): try await sessions.close()?.close(timeout: timeout)
        }
    }

    fileprivate func closeShielded() async {
        switch self.source {
        case .session(let session): await session.closeShielded()
        case .recovering(let sessions, _, _): await sessions.close()?.closeShielded()
        }
    }

    /// Runs `body` and closes the client.
    fileprivate func use<Result>(_ body: (AMQPRPCClient) async throws -> Result) async throws -> Result {
        let result: Result
        do {
            result = try await body(self)
        } catch {
            await self.closeShielded()
            throw error
        }
        await self.closeShielded()
        return result
    }
}

/// A channel for requests, and the task that receives their replies.
final class RPCSession: Sendable {
    private let channel: AMQPChannel
    private let reader: Task<Void, Never>

    /// RabbitMQ's pseudo-queue for direct replies.
    private static let replyQueue = "amq.rabbitmq.reply-to"

    init(channel: AMQPChannel, timeout: Duration?) async throws(AMQPError) {
        self.channel = channel
        channel.core.reportsOversizedBodies = true
        try await channel.enableConfirms(timeout: timeout)
        let deliveries = try await channel.deliveries(
            from: Self.replyQueue,
            acknowledgement: .automatic,
            timeout: timeout
        )
        let core = channel.core
        // Ends with the sequence, which ends with the channel; calls get the reason there.
        self.reader = Task {
            do throws(AMQPError) {
                for try await reply in deliveries { core.received(reply: reply) }
            } catch {
                await core.closeShielded()
            }
        }
    }

    static func open(on connection: AMQPConnection, timeout: Duration?) async throws(AMQPError) -> RPCSession {
        let channel = try await connection.openChannel(timeout: timeout)
        do throws(AMQPError) {
            return try await RPCSession(channel: channel, timeout: timeout)
        } catch {
            await channel.core.closeShielded()
            throw error
        }
    }

    var isUsable: Bool { self.channel.core.isUsable }

    /// Why its channel has ended; nil while it has not.
    var ending: AMQPError? { self.channel.core.ending }

    func deadline(_ timeout: Duration?) -> UInt64 { self.channel.core.driver.deadline(timeout) }

    func call(
        _ request: AMQPMessage,
        to destination: AMQPDestination,
        site: CallSite,
        deadline: UInt64
    ) async throws(AMQPError) -> AMQPDelivery {
        var request = request
        request.properties.replyTo = Self.replyQueue
        return try await self.channel.core.call(request, to: destination, site: site, deadline: deadline)
    }

    func close(timeout: Duration?) async throws(AMQPError) {
        try await self.channel.close(timeout: timeout)
        await self.reader.value
    }

    func closeShielded() async {
        await self.channel.core.closeShielded()
        await self.reader.value
    }
}

extension AMQPClient {
    /// Opens an RPC client, runs `body`, and closes it.
    ///
    /// It uses the publishing connection and survives reconnects.
    ///
    /// - Parameter body: Receives the RPC client.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`, or ``AMQPError``.
    @discardableResult
    public func withRPCClient<Result>(_ body: (AMQPRPCClient) async throws -> Result) async throws -> Result {
        let missing = MissingExchanges(self.publishing)
        let sessions = Renewable<RPCSession>(
            self.publishing,
            make: { connection, deadline throws(AMQPError) in
                try await missing.declare(on: connection, until: deadline)
                return try await RPCSession.open(on: connection, timeout: max(.zero, deadline - .now))
            },
            isAlive: { $0.isUsable },
            retire: { missing.note($0.ending) }
        )
        return try await AMQPRPCClient(source: .recovering(sessions, self.publishing, missing)).use(body)
    }
}

extension AMQPConnection {
    /// Opens an RPC client on a separate channel.
    ///
    /// - Parameter timeout: Time for each of the broker's replies; the configuration's `operationTimeout` by default.
    /// - Returns: The client; the caller closes it.
    /// - Throws: ``AMQPError``.
    public func openRPCClient(timeout: Duration? = nil) async throws(AMQPError) -> AMQPRPCClient {
        AMQPRPCClient(source: .session(try await RPCSession.open(on: self, timeout: timeout)))
    }

    /// Opens an RPC client, runs `body`, and closes it.
    ///
    /// - Parameter body: Receives the RPC client.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`, or ``AMQPError``.
    @discardableResult
    public func withRPCClient<Result>(_ body: (AMQPRPCClient) async throws -> Result) async throws -> Result {
        try await self.openRPCClient().use(body)
    }

    /// Answers requests from a queue until the task is cancelled: each reply is published before its request is acknowledged.
    ///
    /// The reply goes to the request's `replyTo` with its `correlationID`; a request without `replyTo` is processed and
    /// not answered. After a crash between the two the request is delivered again, so a handler may see it twice.
    ///
    /// - Parameters:
    ///   - queue: The queue; it must exist.
    ///   - maxConcurrency: Maximum number of concurrent requests, 1 or more.
    ///   - prefetch: Requests the broker sends ahead; twice `maxConcurrency` by default.
    ///   - requeue: The treatment of a request whose handler throws; its caller gets no reply. By default it is
    ///     dead-lettered, or dropped if the queue has no dead-letter exchange.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    ///   - handler: Returns the reply.
    /// - Throws: ``AMQPError``: the reason why serving ended, such as `.cancelled`.
    public func serveRPC(
        _ queue: String,
        maxConcurrency: Int = 1,
        prefetch: UInt16? = nil,
        requeue: AMQPRequeuePolicy = .never,
        fileID: StaticString = #fileID,
        line: UInt32 = #line,
        _ handler: @escaping @Sendable (AMQPDelivery) async throws -> AMQPMessage
    ) async throws {
        try await self.withChannel { channel in
            try await channel.setPrefetch(count: prefetch ?? UInt16(clamping: maxConcurrency.multipliedClamping(by: 2)))
            try await channel.consume(queue) { deliveries in
                try await deliveries.process(
                    maxConcurrency: maxConcurrency,
                    requeue: requeue,
                    fileID: fileID,
                    line: line
                ) { request in
                    let properties = try request.properties()
                    var reply = try await handler(request)
                    guard let replyTo = properties.replyDestination else { return }
                    reply.properties.copy(.correlationID, from: properties)
                    // Appended before the acknowledgement, which `process` makes when this returns.
                    try await channel.publish(reply, to: replyTo, fileID: fileID, line: line)
                }
            }
        }
    }
}

extension Int {
    fileprivate func multipliedClamping(by factor: Int) -> Int {
        let (product, overflows) = self.multipliedReportingOverflow(by: factor)
        return overflows ? .max : product
    }
}
