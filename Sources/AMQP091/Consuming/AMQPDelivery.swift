// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPDelivery: one message from the broker: a few integers beside a reference to its batch, and so to the octets it
// was read into.
// Properties, routing key and headers are decoded when asked for. A delivery that is kept keeps its whole chunk of up
// to 264 KiB alive; keep `body.copy()` instead where that matters.
// Unsafe: the offsets were checked against the chunk by the decoder that made the record.

/// A message from the broker.
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

    /// Why there is no body: it is larger than ``AMQPClientConfiguration/maximumBodySize``; nil for every other delivery.
    ///
    /// Only with ``AMQPClientConfiguration/oversizedDeliveries`` set to `.deliver`; ``body`` is empty then.
    public var bodyError: AMQPError? { self.batch.bodyError }

    /// The body, valid as long as the delivery is held.
    @inlinable public var body: AMQPDeliveryBody {
        AMQPDeliveryBody(chunk: self.batch.chunk, offset: self.record.body, count: self.record.bodyCount)
    }

    /// True when the message was delivered before, to this consumer or another.
    @inlinable public var redelivered: Bool {
        // Consumer tag as a short string, delivery tag, then the bit; the decoder has seen all of them there.
        let octets = self.batch.chunk.octets(from: self.record.arguments, count: self.record.argumentsCount)
        return octets[1 + Int(octets[0]) + 8] & 1 == 1
    }

    /// How many messages were left in the queue when `basic.get` (60, 70) took this one; nil for what a consumer got.
    public var messageCount: Int? { self.batch.messageCount.map { Int($0) } }

    /// The exchange it was published to; empty for the default exchange.
    public var exchange: String { self.envelope.exchange }

    /// The routing key it was published with.
    public var routingKey: String { self.envelope.routingKey }

    /// The exchange and routing key it was published with, octet for octet, to publish it there again.
    public var destination: AMQPDestination {
        AMQPDestination(exchange: self.exchange, routingKeyOctets: self.routingKeyOctets)
    }

    /// The routing key it was published with, as it came; ``routingKey`` has U+FFFD for what is not UTF-8.
    public var routingKeyOctets: [UInt8] {
        // The last argument of both methods that bring a message, but for the message count of `basic.get-ok`.
        let octets = self.batch.chunk.octets(from: self.record.arguments, count: self.record.argumentsCount)
        var reader = WireReader(RawSpan(_unsafeBytes: octets))
        guard (try? reader.readShortString()) != nil, (try? reader.readUInt64()) != nil,
            (try? reader.readUInt8()) != nil, (try? reader.readShortString()) != nil,
            let key = try? reader.readText()
        else { return [] }
        return key.octets ?? Array(key.string.utf8)
    }

    /// The consumer tag it was delivered to; empty for `basic.get`.
    public var consumerTag: String { self.envelope.consumerTag }

    /// The properties, decoded at each call.
    ///
    /// - Throws: ``AMQPError`` with code `.protocolViolation` if they cannot be decoded; the delivery can be settled.
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
        // The record was made from octets that had all of these; the alternative cannot be reached.
        guard let consumerTag = try? reader.readShortString(), (try? reader.readUInt64()) != nil,
            (try? reader.readUInt8()) != nil, let exchange = try? reader.readShortString(),
            let routingKey = try? reader.readShortString()
        else { return ("", "", "") }
        return (consumerTag, exchange, routingKey)
    }
}

/// The octets of a delivery, where they were read.
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

    /// How many octets.
    @inlinable public var count: Int { Int(self.length) }

    /// The octets, borrowed.
    @inlinable public var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            let octets = self.chunk.octets(from: self.offset, count: self.length)
            return _overrideLifetime(RawSpan(_unsafeBytes: octets), borrowing: self)
        }
    }

    /// The octets as text; what is not UTF-8 is replaced.
    public var string: String {
        String(decoding: self.chunk.octets(from: self.offset, count: self.length), as: UTF8.self)
    }

    /// The octets, copied: they keep nothing else alive.
    public func copy() -> AMQPBody { AMQPBody(Array(self.chunk.octets(from: self.offset, count: self.length))) }
}

extension AMQPDelivery {
    /// Says that the message was processed.
    ///
    /// Settled deliveries that follow each other are merged: one `basic.ack` (60, 80) goes out per turn of the loop.
    ///
    /// - Parameters:
    ///   - multiple: Also settles every earlier delivery of the channel.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Returns: `.stale` when the delivery came to a consumer of an ``AMQPClient`` on a connection that is gone, or
    ///   when the broker has cancelled the consumer for its timeout: the message is delivered again. Otherwise `.settled`.
    /// - Throws: ``AMQPError``: `.alreadySettled` when it was settled before or needs none; other than with a client,
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

    /// Returns a message that was not processed: `basic.nack` (60, 120).
    ///
    /// For a message whose processing failed use ``reject(requeue:fileID:line:)``: since RabbitMQ 4.3 a nack that
    /// requeues does not count towards the delivery limit of a quorum queue; before, both count.
    ///
    /// - Parameters:
    ///   - requeue: True puts it back into its queue; false drops or dead-letters it.
    ///   - multiple: Also refuses every earlier unsettled delivery of the channel.
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

    /// Refuses a message whose processing failed: `basic.reject` (60, 90).
    ///
    /// With `requeue` it counts towards the delivery limit of a quorum queue on every version of RabbitMQ.
    ///
    /// - Parameters:
    ///   - requeue: True puts it back into its queue; false drops or dead-letters it.
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

    private func settle(
        _ operation: MessagingOperation,
        _ body: () throws(AMQPError) -> Void
    ) throws(AMQPError) -> AMQPSettlement {
        guard !self.batch.isAutomatic else {
            throw AMQPError(.alreadySettled, "the consumer acknowledges automatically", isSafeToRetry: true)
        }
        do throws(AMQPError) {
            try self.watchedSettle(operation, body)
            return .settled
        } catch {
            guard self.batch.channel.isRecovered, error.code != .alreadySettled else { throw error }
            return .stale
        }
    }
}

/// What became of settling a delivery.
public enum AMQPSettlement: Hashable, Sendable {
    /// It goes to the broker with the next write.
    case settled
    /// The connection it came on is gone, or the broker has taken it back; the message is delivered again.
    case stale
}
