// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// AMQPPublisher: a channel of its own with confirms on, and the five ways to publish on it:
//
//   send                    back-pressure only
//   publish                 waits for the outcome of this one
//   enqueue, tryEnqueue     a receipt, whose outcome is asked for later
//   publish(contentsOf:)    a batch: one outcome per message, in order
//   publish(stream:)        pulls from a sequence under the confirm window
//
// Any number of tasks may use one publisher at a time. Not here: the waits (ChannelSession+Receipts), and what becomes of
// publishes when a client's connection is lost (RecoveringPublisher).

/// Publishes with confirms, on a channel of its own.
///
/// One of an ``AMQPConnection`` ends with its connection, and keeps it from being released. One of an ``AMQPClient`` goes on with the next connection:
/// a publish waits for it within its timeout.
public struct AMQPPublisher: Sendable {
    /// Where its channel comes from.
    enum Source: Sendable {
        case channel(ChannelSession)
        case recovering(RecoveringPublisher)
    }

    let source: Source
    /// The connection it was opened on, which stays open as long as the publisher is there; nil with a client's.
    private let connection: AMQPConnection?

    init(source: Source, of connection: AMQPConnection? = nil) {
        self.source = source
        self.connection = connection
    }

    /// How the publishes made so far have ended.
    public var counts: AMQPConfirmCounts {
        switch self.source {
        case .channel(let core): core.confirmCounts
        case .recovering(let publisher): publisher.counts
        }
    }

    /// True until the publisher is closed, and its connection or client.
    public var isOpen: Bool {
        switch self.source {
        case .channel(let core): AMQPChannel(core: core).isOpen
        case .recovering(let publisher): publisher.isOpen
        }
    }

    // MARK: fire

    /// Publishes a message and waits for room only.
    ///
    /// What the broker refuses is thrown by ``waitForConfirms(timeout:)`` and by the end of `withPublisher`.
    ///
    /// - Parameters:
    ///   - message: Body and properties.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
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

    /// Waits until the broker has confirmed all that was published.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: the first refusal of a `send` since the last call, with their count in its text;
    ///   `.timedOut`; `.channelClosed` or `.connectionClosed`. With an outbox: the first message since the last call
    ///   that was returned, nacked, refused or given up and that nobody was told of; `.timedOut` as long as one is held.
    public func waitForConfirms(timeout: Duration? = nil) async throws(AMQPError) {
        switch self.source {
        case .channel(let core): try await core.waitForConfirms(timeout: timeout)
        case .recovering(let publisher): try await publisher.waitForConfirms(until: publisher.deadline(timeout))
        }
    }

    // MARK: one

    /// Publishes a message and waits for the broker's word on it.
    ///
    /// - Parameters:
    ///   - message: Body and properties.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
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

    /// Publishes a message as soon as there is room, and gives a receipt to ask for its outcome later.
    ///
    /// - Parameters:
    ///   - message: Body and properties.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
    ///   - timeout: Time to wait for room; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: The receipt; dropping it is no error.
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
    ///   - message: Body and properties.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: The receipt; nil, and nothing was written, when the window, the write buffer or the outbox is full,
    ///   the broker blocks publishers, or a client's connection is being made again.
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

    /// Waits for the outcome of everything published, then closes the publisher's channel.
    ///
    /// - Parameter timeout: Time for each of the two; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError`` as ``waitForConfirms(timeout:)``; the channel is closed all the same.
    public func close(timeout: Duration? = nil) async throws(AMQPError) {
        switch self.source {
        case .channel(let core):
            do throws(AMQPError) {
                try await core.waitForConfirms(timeout: timeout)
            } catch {
                await core.closeShielded()
                throw error
            }
            try await core.close(timeout: timeout)
        case .recovering(let publisher):
            try await publisher.close(until: publisher.deadline(timeout))
        }
    }

    /// Closes its channel, also when the calling task is cancelled.
    func closeShielded() async {
        switch self.source {
        case .channel(let core): await core.closeShielded()
        case .recovering(let publisher): await publisher.closeShielded()
        }
    }

    /// Runs `body`, waits for the outcome of everything published, and closes the publisher.
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
    /// Opens a publisher: a channel of its own with confirms on.
    ///
    /// - Parameters:
    ///   - maxInFlight: Messages unconfirmed at which the next one waits, 1...4194304.
    ///   - maxInFlightOctets: Octets of bodies unconfirmed at which the next one waits.
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

    /// Opens a channel with confirms on.
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

    /// Opens a publisher, runs `body`, waits for the outcome of everything published, and closes it.
    ///
    /// - Parameters:
    ///   - maxInFlight: Messages unconfirmed at which the next one waits, 1...4194304.
    ///   - maxInFlightOctets: Octets of bodies unconfirmed at which the next one waits.
    ///   - body: Publishes.
    /// - Returns: What `body` returns.
    /// - Throws: What `body` throws, or ``AMQPError``: among others the first refusal of a
    ///   ``AMQPPublisher/send(_:to:mandatory:timeout:fileID:line:)`` nobody has asked for.
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
