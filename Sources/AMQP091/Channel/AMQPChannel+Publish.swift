// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire
import EpollNetworking

// Publishing. A publish is encoded on the caller's thread under the connection's short lock and returns without
// suspending; it waits only for the confirm window, for room in the write buffer, or while the broker blocks publishers.
//
//   publish             back-pressure only; refusals are kept for waitForConfirms
//   publishAndConfirm   waits for the outcome of this one
//   waitForConfirms     waits until nothing is unconfirmed, and throws what was refused in between

extension AMQPChannel {
    /// Turns publisher confirms on: `confirm.select` (85, 10).
    ///
    /// - Parameters:
    ///   - window: Publishes unconfirmed at which the next one waits, 1...4194304.
    ///   - windowOctets: Octets of bodies unconfirmed at which the next one waits.
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
    /// Returns as soon as the message has a place in the write buffer; waits while the confirm window or the buffer is
    /// full or the broker blocks publishers. With confirms on, what the broker refuses is kept for
    /// ``waitForConfirms(timeout:)``.
    ///
    /// - Parameters:
    ///   - message: Body and properties.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
    ///   - timeout: Time to wait for room; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Throws: ``AMQPError``: `.invalidArgument` and the channel goes on; `.timedOut` or `.cancelled`, nothing was
    ///   sent and the channel goes on; `.channelClosed` or `.connectionClosed`.
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

    /// Publishes octets the caller keeps, with no copy but the one to the wire.
    ///
    /// Otherwise as ``publish(_:to:mandatory:timeout:fileID:line:)``.
    ///
    /// - Parameters:
    ///   - body: The octets; read before this returns, not kept.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
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

    /// Waits until the broker has confirmed all that was published on this channel.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: the first refusal since the last call of this (`.nacked` or `.returned`), with the
    ///   count of refusals in its text; `.timedOut`; `.channelClosed` or `.connectionClosed`, after which the outcome
    ///   of what was unconfirmed is unknown.
    public func waitForConfirms(timeout: Duration? = nil) async throws(AMQPError) {
        try await self.core.waitForConfirms(timeout: timeout)
    }
}

extension AMQPError {
    /// This refusal as the first of so many.
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

    /// The error of a publish the broker did not take; nil when it was confirmed.
    init?(_ outcome: PublishOutcome) {
        switch outcome {
        case .confirmed: return nil
        case .nacked: self.init(.nacked, method: Basic.Nack.id, origin: .broker)
        case .returned(let code, let text):
            self.init(.returned, text, replyCode: code, method: Basic.Return.id, origin: .broker)
        }
    }
}
