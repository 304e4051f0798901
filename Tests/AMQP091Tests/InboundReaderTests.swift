// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Wire
import Testing

// InboundReaderTests: what stands in the octets of a socket is found the same wherever the reads split them, without a
// socket; and what was found is not written over while somebody holds it.

@Suite("Inbound reader", .timeLimit(.minutes(1)))
struct InboundReaderTests {
    // MARK: octets

    static func number(_ value: UInt64, octets count: Int) -> [UInt8] {
        (0..<count).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    static func frame(_ type: UInt8, _ channel: UInt16, _ payload: [UInt8]) -> [UInt8] {
        [type] + Self.number(UInt64(channel), octets: 2) + Self.number(UInt64(payload.count), octets: 4) + payload + [
            0xCE
        ]
    }

    static func short(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }

    static func body(_ tag: UInt64, _ size: Int) -> [UInt8] {
        (0..<size).map { UInt8(truncatingIfNeeded: UInt64($0) &* 31 &+ tag) }
    }

    /// basic.deliver (60, 60), a content header without properties, the body in frames of at most `largest` octets.
    static func delivery(_ tag: UInt64, _ size: Int, largest: Int = 131_064) -> [UInt8] {
        let method =
            [0, 60, 0, 60] + Self.short("consumer") + Self.number(tag, octets: 8) + [0] + Self.short("e")
            + Self.short("key")
        let header = [0, 60, 0, 0] + Self.number(UInt64(size), octets: 8) + [0, 0]
        let body = Self.body(tag, size)
        var octets = Self.frame(1, 3, method) + Self.frame(2, 3, header)
        for start in stride(from: 0, to: size, by: largest) {
            octets += Self.frame(3, 3, Array(body[start..<min(start + largest, size)]))
        }
        return octets
    }

    /// basic.ack (60, 80).
    static func confirm(_ tag: UInt64) -> [UInt8] {
        Self.frame(1, 2, [0, 60, 0, 80] + Self.number(tag, octets: 8) + [0])
    }

    static let heartbeat = Self.frame(8, 0, [])
    /// queue.purge-ok (50, 31).
    static let method = Self.frame(1, 1, [0, 50, 0, 31, 0, 0, 0, 7])

    // MARK: a reader that is fed

    enum Seen: Hashable {
        case delivery(UInt64, [UInt8])
        case confirm(UInt64)
        case frame(FrameType, [UInt8])
    }

    struct Feed {
        var reader: InboundReader
        var seen: [Seen] = []
        /// Every delivery with the chunk it points into.
        var held: [(chunk: InboundChunk, record: DeliveryRecord)] = []

        init(maximumFrameSize: Int = 131_072, maximumBodySize: Int = 1 << 24) {
            self.reader = InboundReader(maximumFrameSize: maximumFrameSize, maximumBodySize: maximumBodySize)
        }

        /// - Parameters:
        ///   - octets: What the socket has.
        ///   - pieces: The size of each read; the reader's room is the limit.
        /// - Throws: What stands there is no frame.
        mutating func take(_ octets: [UInt8], pieces: () -> Int) throws(WireError) {
            var offset = 0
            while offset < octets.count {
                let room = self.reader.roomToRead()
                #expect(room.count > 0)
                let count = min(max(1, pieces()), room.count, octets.count - offset)
                octets.withUnsafeBytes { all in
                    room.copyMemory(from: UnsafeRawBufferPointer(rebasing: all[offset..<(offset + count)]))
                }
                self.reader.commit(count)
                offset += count
                try self.find()
            }
        }

        private mutating func find() throws(WireError) {
            let chunk = self.reader.chunk
            let octets = RawSpan(_unsafeBytes: UnsafeRawBufferPointer(start: chunk.base, count: self.reader.filled))
            while true {
                switch try self.reader.next(in: octets) {
                case .more: return
                case .confirm(let confirm): self.seen.append(.confirm(confirm.tag))
                case .frame(let frame):
                    let payload = octets.extracting(frame.payload).withUnsafeBytes { Array($0) }
                    self.seen.append(.frame(frame.type, payload))
                case .delivery(let record, let channel):
                    #expect(channel == 3)
                    self.held.append((chunk, record))
                    self.seen.append(.delivery(record.tag, Self.body(record, chunk)))
                }
            }
        }

        static func body(_ record: DeliveryRecord, _ chunk: InboundChunk) -> [UInt8] {
            Array(chunk.octets(from: record.body, count: record.bodyCount))
        }
    }

    // MARK: tests

    /// A little of everything, more than one chunk of it.
    static func mixture() -> (octets: [UInt8], seen: [Seen]) {
        var octets: [UInt8] = []
        var seen: [Seen] = []
        for tag in 1...36 as ClosedRange<UInt64> {
            let size = [0, 1, 100, 5000, 20_000, 60_000][Int(tag) % 6]
            octets += Self.delivery(tag, size)
            seen.append(.delivery(tag, Self.body(tag, size)))
            if tag % 2 == 0 {
                octets += Self.confirm(tag)
                seen.append(.confirm(tag))
            }
            if tag % 7 == 0 {
                octets += Self.heartbeat + Self.method
                seen += [.frame(.heartbeat, []), .frame(.method, [0, 50, 0, 31, 0, 0, 0, 7])]
            }
        }
        return (octets, seen)
    }

    @Test("The same is found wherever the reads end", arguments: [37, 1000, 16_384, 65_536, 1 << 20])
    func splits(_ size: Int) throws {
        var feed = Feed()
        let (octets, seen) = Self.mixture()
        try feed.take(octets) { size }
        #expect(feed.seen == seen)
        #expect(!feed.reader.isInFrame)
    }

    @Test("The same is found octet by octet")
    func octetByOctet() throws {
        let octets =
            Self.delivery(1, 0) + Self.delivery(2, 300) + Self.confirm(3) + Self.heartbeat + Self.delivery(4, 1)
        var feed = Feed()
        try feed.take(octets + Self.method) { 1 }
        #expect(
            feed.seen == [
                .delivery(1, []), .delivery(2, Self.body(2, 300)), .confirm(3), .frame(.heartbeat, []),
                .delivery(4, Self.body(4, 1)), .frame(.method, [0, 50, 0, 31, 0, 0, 0, 7]),
            ]
        )
    }

    @Test("The same is found in reads of any size", arguments: 1...6 as ClosedRange<UInt64>)
    func random(_ seed: UInt64) throws {
        var random = SeededRandom(state: seed)
        var feed = Feed()
        try feed.take(Self.mixture().octets) { random.next(random.next(2) == 0 ? 40 : 60_000) }
        #expect(feed.seen == Self.mixture().seen)
    }

    @Test("What was found is not written over while it is held, and chunks nobody holds are used again")
    func held() throws {
        var random = SeededRandom(state: 5)
        var feed = Feed()
        for _ in 0..<4 { try feed.take(Self.mixture().octets) { random.next(100_000) } }
        for (chunk, record) in feed.held {
            let size = Int(record.bodyCount)
            #expect(Feed.body(record, chunk) == Self.body(record.tag, size))
        }
        let chunks = Set(feed.held.map { ObjectIdentifier($0.chunk) })
        #expect(chunks.count > 5)
    }

    @Test(
        "A body in several frames, and one over the limit, are found as frames",
        arguments: [(300_000, 1 << 24), (3000, 1000)]
    )
    func inPieces(_ size: Int, _ limit: Int) throws {
        var feed = Feed(maximumBodySize: limit)
        try feed.take(Self.delivery(9, size) + Self.confirm(1)) { 30_000 }
        let frames = feed.seen.dropLast().map { seen -> [UInt8]? in
            if case .frame(.body, let payload) = seen { payload } else { nil }
        }
        #expect(frames.compactMap { $0 }.flatMap { $0 } == Self.body(9, size))
        #expect(feed.held.isEmpty)
        #expect(feed.seen.last == .confirm(1))
    }

    @Test("A frame larger than a chunk is found whole, octets in any order of reads")
    func largeFrame() throws {
        let payload = Self.body(1, 700_000)
        var feed = Feed(maximumFrameSize: 1 << 20)
        try feed.take(Self.heartbeat + Self.frame(3, 1, payload) + Self.heartbeat) { 50_000 }
        #expect(feed.seen == [.frame(.heartbeat, []), .frame(.body, payload), .frame(.heartbeat, [])])
    }

    @Test("Octets that are no frame are told at the frame they stand in, and what was before is found")
    func violations() {
        let ends = [UInt8](Self.delivery(2, 10).dropLast()) + [0xCF]
        for bad in [[9, 0, 0, 0, 0, 0, 0, 0xCE], Self.frame(3, 1, Self.body(1, 5000)), ends] as [[UInt8]] {
            for piece in [1, 4096] {
                var feed = Feed(maximumFrameSize: 4096)
                #expect(throws: WireError.self) { try feed.take(Self.delivery(1, 10) + bad) { piece } }
                #expect(feed.seen.first == .delivery(1, Self.body(1, 10)))
                #expect(feed.held.count == 1)
            }
        }
    }

    @Test("A confirm that nobody can take is found as a frame")
    func refusedConfirm() throws {
        let octets = Self.confirm(5) + Self.heartbeat
        var reader = InboundReader(maximumFrameSize: 4096, maximumBodySize: 1000)
        let room = reader.roomToRead()
        octets.withUnsafeBytes { room.copyMemory(from: $0) }
        reader.commit(octets.count)
        let chunk = reader.chunk
        let span = RawSpan(_unsafeBytes: UnsafeRawBufferPointer(start: chunk.base, count: reader.filled))
        guard case .confirm(let confirm) = try reader.next(in: span) else {
            Issue.record("no confirm")
            return
        }
        #expect(confirm.tag == 5)
        let frame = try #require(try reader.frameOfConfirm(in: span))
        #expect(frame.type == .method)
        guard case .frame(let next) = try reader.next(in: span) else {
            Issue.record("no frame")
            return
        }
        #expect(next.type == .heartbeat)
    }
}
