// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// AMQPPublisher: a separate channel with confirms enabled, and five ways to publish on it:
//
//   send                    back-pressure only
//   publish                 waits for the outcome of this one
//   enqueue, tryEnqueue     a receipt, whose outcome is queried later
//   publish(contentsOf:)    a batch: one outcome per message, in order
//   publish(stream:)        pulls from a sequence under the confirm window
//
// Any number of tasks may use one publisher. Not here: the waits (ChannelSession+Receipts), and publishes after the loss
// of a client's connection (RecoveringPublisher).

/// Publishes with confirms on a separate channel.
///
/// A publisher of an ``AMQPConnection`` ends with its connection, and keeps it from being released. A publisher of an
/// ``AMQPClient`` survives reconnects: a publish waits for a connection within its timeout.
public struct AMQPPublisher: Sendable {
    /// The source of its channel.
    enum Source: Sendable {
        case channel(ChannelSession)
        case recovering(RecoveringPublisher)
    }

    let source: Source
    /// Its connection, which stays open while the publisher exists; nil for a client's publisher.
    private let connection: AMQPConnection?

    init(source: Source, of connection: AMQPConnection? = nil) {
        self.source = source
        self.connection = connection
    }

    /// Outcomes of the publishes so far.
    public var counts: AMQPConfirmCounts {
        switch self.source {
        case .channel(let core): core.confirmCounts
        case .recovering(let publisher): publisher.counts
        }
    }

    /// True until the publisher, or its connection or client, is closed.
    public var isOpen: Bool {
        switch self.source {
        case .channel(let core): AMQPChannel(core: core).isOpen
        case .recovering(let publisher): publisher.isOpen
        }
    }

    // MARK: fire

    /// Publishes a message and waits for room only.
    ///
    /// ``waitForConfirms(timeout:)`` and the end of `withPublisher` throw failures.
    ///
    /// - Parameters:
    ///   - message: The message.
    ///   - destination: The exchange and routing key to publish to.
    ///   - mandatory: True to have the broker return a message that is routed to no queue.
    ///   - timeout: Time to wait for room; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Throws: ``AMQPError``, always with `isSafeToRetry`: nothing was written.
    public func send(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async throws(AMQPError) {
        switch self.source {
        case .channel(let core):
            try await AMQPChannel(core: core).publish(
                message,
                to: destination,
                mandatory: mandatory,
                timeout: timeout,
                fileID: fileID,
                line: line
            )
        case .recovering(let publisher):
            try await publisher.send(
                message,
                to: destination,
                mandatory: mandatory,
                site: CallSite(fileID, line),
                deadline: publisher.deadline(timeout)
            )
        }
    }

    /// Waits until all publishes are confirmed.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: the first failure of a `send` since the last call, with their number in its text;
    ///   `.timedOut`; `.channelClosed` or `.connectionClosed`. With an outbox: the first unreported message since the last
    ///   call that was returned, nacked, refused or given up; `.timedOut` while a message is held.
    public func waitForConfirms(timeout: Duration? = nil) async throws(AMQPError) {
        switch self.source {
        case .channel(let core): try await core.waitForConfirms(timeout: timeout)
        case .recovering(let publisher): try await publisher.waitForConfirms(until: publisher.deadline(timeout))
        }
    }

    // MARK: one

    /// Publishes a message and waits for its confirm.
    ///
    /// - Parameters:
    ///   - message: The message.
    ///   - destination: The exchange and routing key to publish to.
    ///   - mandatory: True to have the broker return a message that is routed to no queue.
    ///   - timeout: Time to wait for room and the confirm together; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Throws: ``AMQPError``: `.nacked`; `.returned` with code and text; `.refused` when the broker closed the channel
    ///   for this message, with its code and text; `.unknownOutcome` when the message was written and no confirm came;
    ///   with `isSafeToRetry` when nothing was written or processed.
    public func publish(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async throws(AMQPError) {
        let site = CallSite(fileID, line)
        switch self.source {
        case .channel(let core):
            try await core.publishAndConfirm(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                timeout: timeout
            )
        case .recovering(let publisher):
            try await publisher.publish(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: publisher.deadline(timeout)
            )
        }
    }

    // MARK: receipts

    /// Publishes a message as soon as there is room, and returns a receipt for its outcome.
    ///
    /// - Parameters:
    ///   - message: The message.
    ///   - destination: The exchange and routing key to publish to.
    ///   - mandatory: True to have the broker return a message that is routed to no queue.
    ///   - timeout: Time to wait for room; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: The receipt, which may be dropped.
    /// - Throws: ``AMQPError``, always with `isSafeToRetry`: nothing was written.
    public func enqueue(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async throws(AMQPError) -> AMQPPublishReceipt {
        let site = CallSite(fileID, line)
        switch self.source {
        case .channel(let core):
            let sequence = try await core.enqueue(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: core.driver.deadline(timeout)
            )
            return AMQPPublishReceipt(core: core, sequenceNumber: sequence)
        case .recovering(let publisher):
            return try await publisher.enqueue(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: publisher.deadline(timeout)
            )
        }
    }

    /// Publishes a message if there is room now.
    ///
    /// - Parameters:
    ///   - message: The message.
    ///   - destination: The exchange and routing key to publish to.
    ///   - mandatory: True to have the broker return a message that is routed to no queue.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: The receipt; nil, and nothing was written, if the window, the write buffer or the outbox is full,
    ///   the broker blocks publishers, or a client is reconnecting.
    /// - Throws: ``AMQPError``, always with `isSafeToRetry`: nothing was written.
    public func tryEnqueue(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPPublishReceipt? {
        let site = CallSite(fileID, line)
        switch self.source {
        case .channel(let core):
            return switch try core.tryEnqueue(message, to: destination, mandatory: mandatory, site: site) {
            case .done(let sequence): AMQPPublishReceipt(core: core, sequenceNumber: sequence)
            case .noRoom: nil
            }
        case .recovering(let publisher):
            return try publisher.tryEnqueue(message, to: destination, mandatory: mandatory, site: site)
        }
    }

    // MARK: closing

    /// Waits for the outcomes of all publishes, then closes the publisher's channel.
    ///
    /// - Parameter timeout: Time for each of the two; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError`` as ``waitForConfirms(timeout:)``; the channel is closed in any case. A close that the broker
    ///   does not answer is no error: every publish has its outcome by then.
    public func close(timeout: Duration? = nil) async throws(AMQPError) {
        switch self.source {
        case .channel(let core):
            do throws(AMQPError) {
                try await core.waitForConfirms(timeout: timeout)
            } catch {
                await core.closeShielded()
                throw error
            }
            // Every publish has its outcome: a broker that does not answer the close is no failure of any of them.
            try? await core.close(timeout: timeout)
        case .recovering(let publisher):
            try await publisher.close(until: publisher.deadline(timeout))
        }
    }

    /// Closes its channel, even if the calling task is cancelled.
    func closeShielded() async {
        switch self.source {
        case .channel(let core): await core.closeShielded()
        case .recovering(let publisher): await publisher.closeShielded()
        }
    }

    /// Runs `body`, waits for the outcomes of all publishes, and closes the publisher.
    func use<Result>(_ body: (AMQPPublisher) async throws -> Result) async throws -> Result {
        let result: Result
        do {
            result = try await body(self)
        } catch {
            await self.closeShielded()
            throw error
        }
        try await self.close()
        return result
    }
}

extension AMQPConnection {
    /// Opens a publisher: a separate channel with confirms enabled.
    ///
    /// - Parameters:
    ///   - maxInFlight: Maximum number of unconfirmed messages, 1...4194304.
    ///   - maxInFlightOctets: Maximum size of unconfirmed bodies in octets.
    ///   - timeout: Time for each of the broker's replies; the configuration's `operationTimeout` by default.
    /// - Returns: The publisher; the caller closes it.
    /// - Throws: ``AMQPError``.
    public func openPublisher(
        maxInFlight: Int = 1024,
        maxInFlightOctets: Int = 64 << 20,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> AMQPPublisher {
        let core = try await self.openConfirmingChannel(
            maxInFlight: maxInFlight,
            maxInFlightOctets: maxInFlightOctets,
            timeout: timeout
        )
        return AMQPPublisher(source: .channel(core), of: self)
    }

    /// Opens a channel with confirms enabled.
    func openConfirmingChannel(
        maxInFlight: Int,
        maxInFlightOctets: Int,
        timeout: Duration?
    ) async throws(AMQPError) -> ChannelSession {
        let channel = try await self.openChannel(timeout: timeout)
        do throws(AMQPError) {
            try await channel.enableConfirms(window: maxInFlight, windowOctets: maxInFlightOctets, timeout: timeout)
        } catch {
            await channel.core.closeShielded()
            throw error
        }
        return channel.core
    }

    /// Opens a publisher, runs `body`, waits for the outcomes of all publishes, and closes it.
    ///
    /// - Parameters:
    ///   - maxInFlight: Maximum number of unconfirmed messages, 1...4194304.
    ///   - maxInFlightOctets: Maximum size of unconfirmed bodies in octets.
    ///   - body: Receives the publisher.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`, or ``AMQPError``: among others the first failure of a
    ///   ``AMQPPublisher/send(_:to:mandatory:timeout:fileID:line:)`` that was not reported.
    @discardableResult
    public func withPublisher<Result>(
        maxInFlight: Int = 1024,
        maxInFlightOctets: Int = 64 << 20,
        _ body: (AMQPPublisher) async throws -> Result
    ) async throws -> Result {
        let publisher = try await self.openPublisher(maxInFlight: maxInFlight, maxInFlightOctets: maxInFlightOctets)
        return try await publisher.use(body)
    }
}
