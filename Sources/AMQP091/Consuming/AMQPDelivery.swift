// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPDelivery: one message from the broker: a few integers and a reference to its batch, and so to the octets of the
// read chunk.
// Properties, routing key and headers are decoded on access. A stored delivery keeps its whole chunk of up
// to 264 KiB alive; store `body.copy()` instead.
// Unsafe: the offsets were checked against the chunk by the decoder that made the record.

/// A message delivered by the broker.
@frozen
public struct AMQPDelivery: Sendable {
    @usableFromInline let batch: DeliveryBatch
    @usableFromInline let record: DeliveryRecord

    @inlinable
    init(batch: DeliveryBatch, record: DeliveryRecord) {
        self.batch = batch
        self.record = record
    }

    /// The number of this delivery on its channel, from 1.
    @inlinable public var deliveryTag: DeliveryTag { DeliveryTag(rawValue: self.record.tag) }

    /// The error of a body larger than ``AMQPClientConfiguration/maximumBodySize``; nil for every other delivery.
    ///
    /// Only with ``AMQPClientConfiguration/oversizedDeliveries`` set to `.deliver`; ``body`` is empty then.
    public var bodyError: AMQPError? { self.batch.bodyError }

    /// The body, valid while the delivery is held.
    @inlinable public var body: AMQPDeliveryBody {
        AMQPDeliveryBody(chunk: self.batch.chunk, offset: self.record.body, count: self.record.bodyCount)
    }

    /// True when the message was delivered before, to this consumer or another.
    @inlinable public var redelivered: Bool {
        // Consumer tag as a short string, delivery tag, then the bit; the decoder has checked all of them.
        let octets = self.batch.chunk.octets(from: self.record.arguments, count: self.record.argumentsCount)
        return octets[1 + Int(octets[0]) + 8] & 1 == 1
    }

    /// Number of messages left in the queue after `basic.get` (60, 70); nil for a consumer's delivery.
    public var messageCount: Int? { self.batch.messageCount.map { Int($0) } }

    /// The exchange of the publish; empty for the default exchange.
    public var exchange: String { self.envelope.exchange }

    /// The routing key of the publish.
    public var routingKey: String { self.envelope.routingKey }

    /// The exchange and routing key of the publish, octet for octet, to publish it again.
    public var destination: AMQPDestination {
        AMQPDestination(exchange: self.exchange, routingKeyOctets: self.routingKeyOctets)
    }

    /// The octets of the routing key; ``routingKey`` shows invalid UTF-8 as U+FFFD.
    public var routingKeyOctets: [UInt8] {
        // The last argument of both methods with a message, except for the message count of `basic.get-ok`.
        let octets = self.batch.chunk.octets(from: self.record.arguments, count: self.record.argumentsCount)
        var reader = WireReader(RawSpan(_unsafeBytes: octets))
        guard (try? reader.readShortString()) != nil, (try? reader.readUInt64()) != nil,
            (try? reader.readUInt8()) != nil, (try? reader.readShortString()) != nil,
            let key = try? reader.readText()
        else { return [] }
        return key.octets ?? Array(key.string.utf8)
    }

    /// The consumer tag; empty for `basic.get`.
    public var consumerTag: String { self.envelope.consumerTag }

    /// Decodes the properties, at each call.
    ///
    /// - Throws: ``AMQPError`` with code `.protocolViolation` if they cannot be decoded; the delivery can still be settled.
    public func properties() throws(AMQPError) -> BasicProperties {
        let octets = self.batch.chunk.octets(from: self.record.properties, count: self.record.propertiesCount)
        do {
            var reader = WireReader(RawSpan(_unsafeBytes: octets))
            return try BasicProperties(from: &reader)
        } catch {
            throw AMQPError(.protocolViolation, "the properties of a delivery: \(error)", origin: .broker)
        }
    }

    private var envelope: (consumerTag: String, exchange: String, routingKey: String) {
        let octets = self.batch.chunk.octets(from: self.record.arguments, count: self.record.argumentsCount)
        var reader = WireReader(RawSpan(_unsafeBytes: octets))
        // The decoder has checked all of these; the alternative is unreachable.
        guard let consumerTag = try? reader.readShortString(), (try? reader.readUInt64()) != nil,
            (try? reader.readUInt8()) != nil, let exchange = try? reader.readShortString(),
            let routingKey = try? reader.readShortString()
        else { return ("", "", "") }
        return (consumerTag, exchange, routingKey)
    }
}

/// The octets of a delivery, in the read buffer.
@frozen
public struct AMQPDeliveryBody: Sendable {
    @usableFromInline let chunk: InboundChunk
    @usableFromInline let offset: UInt32
    @usableFromInline let length: UInt32

    @inlinable
    init(chunk: InboundChunk, offset: UInt32, count: UInt32) {
        self.chunk = chunk
        self.offset = offset
        self.length = count
    }

    /// The size in octets.
    @inlinable public var count: Int { Int(self.length) }

    /// The octets, borrowed.
    @inlinable public var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            let octets = self.chunk.octets(from: self.offset, count: self.length)
            return _overrideLifetime(RawSpan(_unsafeBytes: octets), borrowing: self)
        }
    }

    /// The octets as text, with invalid UTF-8 replaced.
    public var string: String {
        String(decoding: self.chunk.octets(from: self.offset, count: self.length), as: UTF8.self)
    }

    /// Returns a copy of the octets, which keeps nothing else alive.
    public func copy() -> AMQPBody { AMQPBody(Array(self.chunk.octets(from: self.offset, count: self.length))) }
}

extension AMQPDelivery {
    /// Acknowledges the delivery (`basic.ack`).
    ///
    /// Contiguous acknowledgements are merged: one `basic.ack` (60, 80) is sent per turn of the loop.
    ///
    /// - Parameters:
    ///   - multiple: True to acknowledge every earlier unsettled delivery of the channel, too.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: `.stale` when the delivery came to a consumer of an ``AMQPClient`` on a connection that is gone, or
    ///   when the broker has cancelled the consumer for its timeout: the message is delivered again. Otherwise `.settled`.
    /// - Throws: ``AMQPError``: `.alreadySettled` when it was settled before or needs none, with `multiple` when no earlier
    ///   delivery is unsettled either; other than with a client,
    ///   `.channelClosed` or `.connectionClosed` when the channel it came on is gone, and nothing is sent;
    ///   `.acknowledgementTimedOut`, and `.consumerCancelled` for half a second, when RabbitMQ 4.3 has cancelled the
    ///   consumer and taken the delivery back: the settlement has no effect, and the channel is still usable.
    @discardableResult
    public func ack(
        multiple: Bool = false,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPSettlement {
        try self.settle(.ack) { () throws(AMQPError) in
            try self.batch.channel.acknowledge(self, multiple: multiple, site: CallSite(fileID, line))
        }
    }

    /// Returns an unprocessed message: `basic.nack` (60, 120).
    ///
    /// For a message whose processing failed use ``reject(requeue:fileID:line:)``: since RabbitMQ 4.3 a nack that
    /// requeues does not count towards the delivery limit of a quorum queue; before, both count.
    ///
    /// - Parameters:
    ///   - requeue: True to requeue the message; false to dead-letter or drop it.
    ///   - multiple: True to refuse every earlier unsettled delivery of the channel, too.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: As ``ack(multiple:fileID:line:)``.
    /// - Throws: ``AMQPError`` as ``ack(multiple:fileID:line:)``.
    @discardableResult
    public func nack(
        requeue: Bool = true,
        multiple: Bool = false,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPSettlement {
        try self.settle(.nack) { () throws(AMQPError) in
            let site = CallSite(fileID, line)
            try self.batch.channel.refuse(self, multiple: multiple, requeue: requeue, site: site)
        }
    }

    /// Rejects a message whose processing failed: `basic.reject` (60, 90).
    ///
    /// With `requeue` it counts towards the delivery limit of a quorum queue on every version of RabbitMQ.
    ///
    /// - Parameters:
    ///   - requeue: True to requeue the message; false to dead-letter or drop it.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: As ``ack(multiple:fileID:line:)``.
    /// - Throws: ``AMQPError`` as ``ack(multiple:fileID:line:)``.
    @discardableResult
    public func reject(
        requeue: Bool = true,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) throws(AMQPError) -> AMQPSettlement {
        try self.settle(.reject) { () throws(AMQPError) in
            let site = CallSite(fileID, line)
            try self.batch.channel.refuse(self, requeue: requeue, isRejection: true, site: site)
        }
    }

    @inline(__always)
    private func settle(
        _ operation: MessagingOperation,
        _ body: () throws(AMQPError) -> Void
    ) throws(AMQPError) -> AMQPSettlement {
        guard !self.batch.isAutomatic else {
            throw AMQPError(.alreadySettled, "the consumer acknowledges automatically", isSafeToRetry: true)
        }
        do throws(AMQPError) {
            try self.tracedSettle(operation, body)
            return .settled
        } catch {
            guard self.batch.channel.isOfClient, error.code != .alreadySettled else { throw error }
            return .stale
        }
    }
}

/// The result of settling a delivery.
public enum AMQPSettlement: Hashable, Sendable {
    /// The settlement is sent with the next write.
    case settled
    /// The connection it came on is gone, or the broker has taken it back; the message is delivered again.
    case stale
}
