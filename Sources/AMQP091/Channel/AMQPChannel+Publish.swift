// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire
import EpollNetworking

// Publishing. A publish is encoded on the caller's thread under the connection's short lock and returns without
// suspending; it waits only for the confirm window, for room in the write buffer, or while the broker blocks publishers.
//
//   publish             back-pressure only; failures are kept for waitForConfirms
//   publishAndConfirm   waits for the outcome of this one
//   waitForConfirms     waits until nothing is unconfirmed, and throws the first failure in between

extension AMQPChannel {
    /// Enables publisher confirms: `confirm.select` (85, 10).
    ///
    /// - Parameters:
    ///   - window: Maximum number of unconfirmed publishes, 1...4194304.
    ///   - windowOctets: Maximum size of unconfirmed bodies in octets.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``; after a refusal by the broker the channel is closed.
    public func enableConfirms(
        window: Int = 1024,
        windowOctets: Int = 64 << 20,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        guard 1...(1 << 22) ~= window, windowOctets > 0 else {
            throw AMQPError(
                .invalidArgument,
                "the confirm window is 1 to \(1 << 22) messages and at least one octet",
                isSafeToRetry: true
            )
        }
        try await self.core.call(
            Confirm.Select(),
            for: .enableConfirms(window: window, windowOctets: windowOctets),
            timeout: timeout
        )
    }

    /// Publishes a message: `basic.publish` (60, 40).
    ///
    /// Returns as soon as the message is in the write buffer; waits while the confirm window or the buffer is
    /// full or the broker blocks publishers. With confirms enabled, failures are kept for
    /// ``waitForConfirms(timeout:)``.
    ///
    /// - Parameters:
    ///   - message: The message.
    ///   - destination: The exchange and routing key to publish to.
    ///   - mandatory: True to have the broker return a message that is routed to no queue.
    ///   - timeout: Time to wait for room; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Throws: ``AMQPError``: `.invalidArgument`, and the channel stays open; `.timedOut` or `.cancelled`, nothing was
    ///   sent and the channel stays open; `.channelClosed` or `.connectionClosed`.
    @inlinable
    public func publish(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async throws(AMQPError) {
        let step = try self.core.publishAtOnce(
            message.body.bytes,
            to: destination,
            mandatory: mandatory,
            properties: message.properties,
            site: CallSite(fileID, line)
        )
        if step == .done { return }
        try await self.core.publish(
            message.body.bytes,
            to: destination,
            mandatory: mandatory,
            properties: message.properties,
            site: CallSite(fileID, line),
            timeout: timeout,
            after: step
        )
    }

    /// Publishes borrowed octets, which are copied once, into the write buffer.
    ///
    /// Otherwise as ``publish(_:to:mandatory:timeout:fileID:line:)``.
    ///
    /// - Parameters:
    ///   - body: The octets of the body; borrowed until this returns.
    ///   - destination: The exchange and routing key to publish to.
    ///   - mandatory: True to have the broker return a message that is routed to no queue.
    ///   - properties: The properties; none by default.
    ///   - timeout: Time to wait for room; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Throws: ``AMQPError`` as ``publish(_:to:mandatory:timeout:fileID:line:)``.
    @inlinable
    public func publish(
        _ body: RawSpan,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        properties: BasicProperties = BasicProperties(),
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async throws(AMQPError) {
        let step = try self.core.publishAtOnce(
            body,
            to: destination,
            mandatory: mandatory,
            properties: properties,
            site: CallSite(fileID, line)
        )
        if step == .done { return }
        try await self.core.publish(
            body,
            to: destination,
            mandatory: mandatory,
            properties: properties,
            site: CallSite(fileID, line),
            timeout: timeout,
            after: step
        )
    }

    /// Publishes a message and waits for its confirm.
    ///
    /// - Parameters:
    ///   - message: The message.
    ///   - destination: The exchange and routing key to publish to.
    ///   - mandatory: True to have the broker return a message that is routed to no queue.
    ///   - timeout: Time to wait for room and the confirm together; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Throws: ``AMQPError``: `.nacked`; `.returned` with code and text; `.unknownOutcome` when the message was
    ///   written and no confirm came; with `isSafeToRetry` when nothing was written.
    public func publishAndConfirm(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async throws(AMQPError) {
        try await self.core.publishAndConfirm(
            message,
            to: destination,
            mandatory: mandatory,
            site: CallSite(fileID, line),
            timeout: timeout
        )
    }

    /// Waits until all publishes of this channel are confirmed.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: the first failure since the last call (`.nacked` or `.returned`), with the
    ///   number of failures in its text; `.timedOut`; `.channelClosed` or `.connectionClosed`, after which the outcome
    ///   of unconfirmed publishes is unknown.
    public func waitForConfirms(timeout: Duration? = nil) async throws(AMQPError) {
        try await self.core.waitForConfirms(timeout: timeout)
    }
}

extension AMQPError {
    /// Returns this failure as the first of several.
    func firstOf(_ count: Int) -> AMQPError {
        AMQPError(
            self.code,
            count == 1 ? self.replyText : "\(self.replyText) (the first of \(count))",
            replyCode: self.replyCode,
            method: self.method,
            callSite: self.callSite,
            origin: self.origin,
            isSafeToRetry: count == 1 && self.isSafeToRetry
        )
    }

    /// The error of a failed publish; nil if it was confirmed.
    init?(_ outcome: PublishOutcome) {
        switch outcome {
        case .confirmed: return nil
        case .nacked: self.init(.nacked, method: Basic.Nack.id, origin: .broker)
        case .returned(let code, let text):
            self.init(.returned, text, replyCode: code, method: Basic.Return.id, origin: .broker)
        }
    }
}
