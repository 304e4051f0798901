// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// InboundReader: the octets read from one socket, from the room for the next read to what stands in them: whole deliveries,
// confirms and other frames, found where they lie. An incomplete one at the end of a chunk is moved to the next.
// Not here: the socket, and what is done with what was found (ConnectionSession+Reading). One thread; no lock, no clock.
// Unsafe: hands out room in its chunk, of which the owner writes no more than it commits.
//
//   chunk:  | parsed: deliveries may point here | filled, not parsed | room for the next read |

struct InboundReader {
    /// The largest read, octets: four deliveries of 64 KiB with their frames.
    static let chunkSize = 264 << 10
    /// The least room worth a read.
    static let leastRoom = 16 << 10
    /// Number of retired chunks kept for reuse.
    private static let retiredLimit = 8

    /// The next item of the octets read.
    enum Found {
        case delivery(DeliveryRecord, channel: UInt16)
        /// A single confirm; `frameOfConfirm(in:)` returns it as an ordinary frame.
        case confirm(ConfirmRecord)
        case frame(DecodedFrame)
        /// No complete frame.
        case more
    }

    private(set) var chunk = InboundChunk(capacity: InboundReader.chunkSize)
    /// Octets of `chunk` that were read, and of those, octets that were parsed.
    private(set) var filled = 0
    private(set) var parsed = 0
    /// Octets of the last whole delivery, with its frames.
    private var deliverySize = 0
    private var retired: [InboundChunk] = []
    private var decoder: FrameDecoder
    private let maximumBodySize: Int

    /// - Parameters:
    ///   - maximumFrameSize: Octets of a frame, overhead included.
    ///   - maximumBodySize: Octets of a body; a delivery with more is found as frames.
    init(maximumFrameSize: Int, maximumBodySize: Int) {
        self.decoder = FrameDecoder(maximumFrameSize: maximumFrameSize)
        self.maximumBodySize = maximumBodySize
    }

    /// The largest frame accepted, octets, overhead included: before tune the client's own limit, then frame-max.
    var maximumFrameSize: Int {
        get { self.decoder.maximumFrameSize }
        set { self.decoder.maximumFrameSize = newValue }
    }

    /// Whether what was read ends within a frame.
    var isInFrame: Bool { self.parsed < self.filled }

    // MARK: reading

    /// Where the next read goes: the rest of the chunk, or of a fresh one.
    ///
    /// Large deliveries tend to be of one size: the room ends where the last whole one of that size does, because what is
    /// read of one more would have to be moved.
    mutating func roomToRead() -> UnsafeMutableRawBufferPointer {
        let isLarge = self.deliverySize >= Self.leastRoom
        let (left, unparsed) = (self.chunk.capacity - self.filled, self.chunk.capacity - self.parsed)
        if left < Self.leastRoom || isLarge && unparsed < self.deliverySize { self.changeChunk() }
        var end = self.chunk.capacity
        if isLarge {
            let whole = self.parsed + (end - self.parsed) / self.deliverySize * self.deliverySize
            if whole > self.filled { end = whole }
        }
        return UnsafeMutableRawBufferPointer(start: self.chunk.base + self.filled, count: end - self.filled)
    }

    /// So many octets were read into the room.
    mutating func commit(_ count: Int) {
        assert(count >= 0 && self.filled + count <= self.chunk.capacity)
        self.filled += count
    }

    /// Moves the incomplete frame at the end to the front of a fresh chunk, which takes all of it.
    private mutating func changeChunk() {
        let tail = self.filled - self.parsed
        let old = self.chunk
        let capacity = max(Self.chunkSize, self.incompleteFrameSize + Self.leastRoom)
        let unused = capacity == Self.chunkSize ? self.takeUnusedChunk() : nil
        let chunk = unused ?? InboundChunk(capacity: capacity)
        chunk.base.copyMemory(from: old.base + self.parsed, byteCount: tail)
        if old.capacity == Self.chunkSize {
            if self.retired.count >= Self.retiredLimit { self.retired.removeFirst() }
            self.retired.append(old)
        }
        self.chunk = chunk
        self.filled = tail
        self.parsed = 0
    }

    /// Octets of the frame of which only a part was read, as its header says; 0 while that is not there.
    ///
    /// Not above frame-max: the decoder has seen that header.
    private var incompleteFrameSize: Int {
        guard self.filled - self.parsed >= Frame.headerSize else { return 0 }
        let octets = RawSpan(_unsafeBytes: UnsafeRawBufferPointer(start: self.chunk.base, count: self.filled))
        return min(FrameHeader(in: octets, at: self.parsed).size + Frame.overhead, self.decoder.maximumFrameSize)
    }

    /// Returns a retired chunk that is no longer referenced.
    private mutating func takeUnusedChunk() -> InboundChunk? {
        // As in `ConsumerInbox.reuse`: the thread sanitizer does not see the reads that are over.
        if ThreadSanitizer.isOn { return nil }
        let unused = self.retired.indices.last { isKnownUniquelyReferenced(&self.retired[$0]) }
        return unused.map { self.retired.remove(at: $0) }
    }

    // MARK: finding

    /// Finds what stands next, and is behind it afterwards.
    ///
    /// - Parameter octets: What was read of `chunk`.
    /// - Returns: What was found.
    /// - Throws: What stands there is no frame, or one that is too large; nothing may be looked for any more.
    @inline(__always)
    mutating func next(in octets: RawSpan) throws(WireError) -> Found {
        let offset = self.parsed
        guard offset < self.filled else { return .more }
        let found = DeliverDecoder.find(
            in: octets,
            from: offset,
            maximumFrameSize: self.decoder.maximumFrameSize,
            maximumContiguous: Self.chunkSize - Self.leastRoom,
            maximumBodySize: self.maximumBodySize
        )
        switch found {
        case .delivery(let record, let channel, let end):
            self.deliverySize = end - offset
            self.parsed = end
            return .delivery(record, channel: channel)
        case .incomplete: return .more
        case .other:
            if let confirm = ConfirmDecoder.find(in: octets, from: offset) {
                self.parsed = offset + ConfirmDecoder.size
                return .confirm(confirm)
            }
            return try self.nextFrame(in: octets).map { .frame($0) } ?? .more
        }
    }

    /// The confirm found last, as any other frame.
    mutating func frameOfConfirm(in octets: RawSpan) throws(WireError) -> DecodedFrame? {
        self.parsed -= ConfirmDecoder.size
        return try self.nextFrame(in: octets)
    }

    private mutating func nextFrame(in octets: RawSpan) throws(WireError) -> DecodedFrame? {
        guard let frame = try self.decoder.next(in: octets, from: self.parsed) else { return nil }
        self.parsed = frame.end
        return frame
    }
}
