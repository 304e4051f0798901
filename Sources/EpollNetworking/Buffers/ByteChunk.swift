// SPDX-License-Identifier: Apache-2.0
// ByteChunk: immutable octets, shared by reference: what a connection reads, and what it can write without a copy.
// Unsafe: `storage` outlives the value that holds it, and offset and count were inside it when the chunk was made;
// nobody writes to storage that a chunk refers to (see ChunkStorage). Every index is checked.

/// Octets that were read from a connection, or that will be written to one.
///
/// A chunk that was read refers to a buffer of 64 KiB, which lives as long as the chunk does. Keep `Array(chunk)`
/// instead of many small chunks for long.
@frozen
public struct ByteChunk: RandomAccessCollection, Sendable {
    @usableFromInline let storage: ChunkStorage
    @usableFromInline let offset: Int
    /// The size in octets.
    public let count: Int

    init(_ storage: ChunkStorage, offset: Int = 0, count: Int) {
        precondition(offset >= 0 && count >= 0 && offset <= storage.capacity - count, "octets outside their storage")
        self.storage = storage
        self.offset = offset
        self.count = count
    }

    /// Copies octets.
    public init(_ octets: some Sequence<UInt8>) {
        let octets = Array(octets)
        self.init(octets.span.bytes)
    }

    /// Copies the UTF-8 octets of a text.
    public init(_ text: String) { self.init(text.utf8Span.span.bytes) }

    /// Copies octets.
    public init(_ octets: RawSpan) {
        let storage = ChunkStorage(capacity: octets.byteCount)
        octets.withUnsafeBytes { storage.room.copyMemory(from: $0) }
        self.init(storage, count: octets.byteCount)
    }

    /// The octets, borrowed.
    @inlinable public var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            let octets = UnsafeRawBufferPointer(start: self.storage.base + self.offset, count: self.count)
            return _overrideLifetime(RawSpan(_unsafeBytes: octets), borrowing: self)
        }
    }

    /// Zero.
    @inlinable public var startIndex: Int { 0 }
    /// The same as ``count``.
    @inlinable public var endIndex: Int { self.count }

    /// One octet; traps outside the chunk.
    @inlinable public subscript(position: Int) -> UInt8 {
        precondition(position >= 0 && position < self.count, "index outside the chunk")
        return self.storage.base.load(fromByteOffset: self.offset + position, as: UInt8.self)
    }

    /// A part of the chunk, without a copy; traps outside the chunk.
    ///
    /// It begins at index 0 again.
    public func slice(_ range: Range<Int>) -> ByteChunk {
        precondition(range.lowerBound >= 0 && range.upperBound <= self.count, "range outside the chunk")
        return ByteChunk(self.storage, offset: self.offset + range.lowerBound, count: range.count)
    }

    /// Runs `body` with the octets in one piece.
    public func withContiguousStorageIfAvailable<Result>(
        _ body: (UnsafeBufferPointer<UInt8>) throws -> Result
    ) rethrows -> Result? {
        try UnsafeRawBufferPointer(start: self.storage.base + self.offset, count: self.count)
            .withMemoryRebound(to: UInt8.self) { try body($0) }
    }
}
