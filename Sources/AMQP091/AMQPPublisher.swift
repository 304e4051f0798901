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
// Any number of tasks may use one publisher at a time. Not here: the waits (ChannelCore+Receipts).

/// Publishes with confirms, on a channel of its own.
public struct AMQPPublisher: Sendable {
    let channel: AMQPChannel

    private var core: ChannelCore { self.channel.core }

    /// How the publishes made so far have ended.
    public var counts: AMQPConfirmCounts { self.core.confirmCounts }

    /// True until the publisher or its connection is closed.
    public var isOpen: Bool { self.channel.isOpen }

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
        try await self.channel.publish(
            message,
            to: destination,
            mandatory: mandatory,
            timeout: timeout,
            fileID: fileID,
            line: line
        )
    }

    /// Waits until the broker has confirmed all that was published.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: the first refusal of a `send` since the last call, with their count in its text;
    ///   `.timedOut`; `.channelClosed` or `.connectionClosed`.
    public func waitForConfirms(timeout: Duration? = nil) async throws(AMQPError) {
        try await self.channel.waitForConfirms(timeout: timeout)
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
    /// - Throws: ``AMQPError``: `.nacked`; `.returned` with code and text; `.unknownOutcome` when the message was
    ///   written and no confirm came; with `isSafeToRetry` when nothing was written.
    public func publish(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async throws(AMQPError) {
        try await self.channel.publishAndConfirm(
            message,
            to: destination,
            mandatory: mandatory,
            timeout: timeout,
            fileID: fileID,
            line: line
        )
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
        let sequence = try await self.core.watchedEnqueue(
            message,
            to: destination,
            mandatory: mandatory,
            site: CallSite(fileID, line),
            deadline: self.core.driver.deadline(timeout)
        )
        return AMQPPublishReceipt(core: self.core, sequenceNumber: sequence)
    }

    /// Publishes a message if there is room now.
    ///
    /// - Parameters:
    ///   - message: Body and properties.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: The receipt; nil, and nothing was written, when the window or the write buffer is full or the broker
    ///   blocks publishers.
    /// - Throws: ``AMQPError``, always with `isSafeToRetry`: nothing was written.
    public func tryEnqueue(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPPublishReceipt? {
        let site = CallSite(fileID, line)
        return switch try self.core.watchedTryEnqueue(message, to: destination, mandatory: mandatory, site: site) {
        case .done(let sequence): AMQPPublishReceipt(core: self.core, sequenceNumber: sequence)
        case .noRoom: nil
        }
    }

    // MARK: closing

    /// Waits for the outcome of everything published, then closes the publisher's channel.
    ///
    /// - Parameter timeout: Time for each of the two; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError`` as ``waitForConfirms(timeout:)``; the channel is closed all the same.
    public func close(timeout: Duration? = nil) async throws(AMQPError) {
        do throws(AMQPError) {
            try await self.waitForConfirms(timeout: timeout)
        } catch {
            await self.core.closeShielded()
            throw error
        }
        try await self.channel.close(timeout: timeout)
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
        let channel = try await self.openChannel(timeout: timeout)
        do throws(AMQPError) {
            try await channel.enableConfirms(window: maxInFlight, windowOctets: maxInFlightOctets, timeout: timeout)
        } catch {
            await channel.core.closeShielded()
            throw error
        }
        return AMQPPublisher(channel: channel)
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
        let result: Result
        do {
            result = try await body(publisher)
        } catch {
            await publisher.channel.core.closeShielded()
            throw error
        }
        try await publisher.close()
        return result
    }
}
