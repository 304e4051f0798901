// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// DeliveryBatch: deliveries of one consumer that lie in one chunk, handed over together. A delivery is a record beside a
// reference to its batch, so that reading and settling it costs one reference count.
// Unsafe: the records stand in memory of their own. Only the loop thread appends, and only before the batch is handed
// over; from then on nobody writes until `recycle`, which is called only on a batch that is uniquely referenced. Hence
// the fields need no exclusivity checks, and records below `count` are initialised and may be read from any thread.

/// Deliveries handed over together.
@usableFromInline
final class DeliveryBatch: @unchecked Sendable {
    @usableFromInline let channel: ChannelSession
    /// The queue the deliveries come from.
    let queue: String
    @usableFromInline let isAutomatic: Bool
    @usableFromInline @exclusivity(unchecked) private(set) var chunk: InboundChunk
    @usableFromInline @exclusivity(unchecked) private(set) var records: UnsafeMutablePointer<DeliveryRecord>
    @usableFromInline @exclusivity(unchecked) private(set) var count = 0
    /// Records an iterator has given out; written by the task that iterates.
    @usableFromInline @exclusivity(unchecked) var readCount = 0
    /// The body of the only record, when it is read while it arrives; set before the batch is handed over.
    private(set) var pieces: BodyPieces?
    /// Why the only record has no body, if it was larger than the limit.
    let bodyError: AMQPError?
    /// Messages that were left in the queue, as `basic.get-ok` says; nil for what a consumer got.
    let messageCount: UInt32?
    private var capacity: Int
    /// What the records keep in memory, roughly: bodies, properties and the records themselves.
    private(set) var octets = 0

    /// Records of one batch at most: what fits a chunk of the smallest deliveries.
    private static let limit = 8192
    /// Stands for no chunk in a batch that waits to be filled again.
    private static let noChunk = InboundChunk(capacity: 1)

    init(
        channel: ChannelSession,
        queue: String,
        isAutomatic: Bool,
        chunk: InboundChunk,
        capacity: Int = 32,
        messageCount: UInt32? = nil,
        bodyError: AMQPError? = nil
    ) {
        self.messageCount = messageCount
        self.bodyError = bodyError
        self.channel = channel
        self.queue = queue
        self.isAutomatic = isAutomatic
        self.chunk = chunk
        self.capacity = capacity
        self.records = .allocate(capacity: capacity)
    }

    deinit { self.records.deallocate() }

    /// A batch of one: for a delivery that no consumer waits for, or whose body comes in pieces.
    convenience init(
        _ record: DeliveryRecord,
        in chunk: InboundChunk,
        queue: String,
        channel: ChannelSession,
        isAutomatic: Bool,
        messageCount: UInt32? = nil,
        pieces: BodyPieces? = nil,
        bodyError: AMQPError? = nil
    ) {
        self.init(
            channel: channel,
            queue: queue,
            isAutomatic: isAutomatic,
            chunk: chunk,
            capacity: 1,
            messageCount: messageCount,
            bodyError: bodyError
        )
        self.append(record)
        self.pieces = pieces
    }

    /// One with the body, put together, that comes in `pieces` of this batch.
    nonisolated(nonsending) func whole(_ pieces: BodyPieces) async throws(AMQPError) -> DeliveryBatch {
        // From here on it is its reader's to settle.
        self.readCount = 1
        let record = self.records[0]
        let head = Int(record.body)
        // The length was checked against `maximumBodySize`, and no piece is longer than what was left of it.
        let chunk = InboundChunk(capacity: head + pieces.count)
        chunk.base.copyMemory(from: self.chunk.base, byteCount: head)
        var offset = head
        while let piece = try await pieces.next() {
            piece.bytes.withUnsafeBytes { octets in
                guard let base = octets.baseAddress else { return }
                (chunk.base + offset).copyMemory(from: base, byteCount: octets.count)
            }
            offset += piece.count
        }
        let whole = DeliveryRecord(
            tag: record.tag,
            arguments: record.arguments,
            argumentsCount: record.argumentsCount,
            properties: record.properties,
            propertiesCount: record.propertiesCount,
            body: record.body,
            bodyCount: UInt32(pieces.count)
        )
        return DeliveryBatch(whole, in: chunk, queue: self.queue, channel: self.channel, isAutomatic: self.isAutomatic)
    }

    /// Whether another record has room.
    @inline(__always)
    var isFull: Bool { self.count == Self.limit }

    /// Appends a delivery of the batch's chunk, unless it is full.
    @inline(__always)
    func append(_ record: DeliveryRecord) {
        if self.count == self.capacity { self.grow() }
        (self.records + self.count).initialize(to: record)
        self.count += 1
        self.octets += Int(record.bodyCount) + Int(record.propertiesCount) + 64
    }

    @inline(never)
    private func grow() {
        let larger = UnsafeMutablePointer<DeliveryRecord>.allocate(capacity: self.capacity * 16)
        larger.moveInitialize(from: self.records, count: self.count)
        self.records.deallocate()
        self.records = larger
        self.capacity *= 16
    }

    /// The tag of the last delivery; 0 when there is none.
    var lastTag: UInt64 { self.count == 0 ? 0 : self.records[self.count - 1].tag }

    /// Lets go of the chunk; the batch waits for `reuse`.
    ///
    /// Only when uniquely referenced.
    func recycle() {
        self.count = 0
        self.readCount = 0
        self.octets = 0
        self.pieces = nil
        self.chunk = Self.noChunk
    }

    /// Begins anew, with the deliveries of another chunk.
    func reuse(for chunk: InboundChunk) { self.chunk = chunk }
}
