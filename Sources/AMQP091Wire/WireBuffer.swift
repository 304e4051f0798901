// SPDX-License-Identifier: Apache-2.0

// WireBuffer: a growing run of octets to be sent. Owns its memory; whoever holds the value may use it, nobody else can.
// Not here: what the octets mean. PublishEncoder writes through `reserve` and `commit`, all else through `append`.
// Unsafe: one allocation of `capacity` octets at `base`, the first `count` of them initialised. Every store lies below
// `capacity`, because `reserve` is the only way to get an address and grows first; `commit` moves `count` over octets the
// caller has stored. Sendable is unchecked because of the pointer: it is never shared, as the struct cannot be copied.

/// Octets to be sent, growing at the end.
@frozen
@usableFromInline
package struct WireBuffer: ~Copyable, @unchecked Sendable {
    @usableFromInline var base: UnsafeMutableRawPointer
    /// Octets in the buffer.
    @usableFromInline package internal(set) var count: Int
    /// Octets the buffer can hold before it grows.
    @usableFromInline package internal(set) var capacity: Int

    /// An empty buffer with room for at least `capacity` octets.
    package init(capacity: Int = 0) {
        let capacity = max(capacity, 64)
        self.base = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        self.count = 0
        self.capacity = capacity
    }

    deinit { self.base.deallocate() }

    /// Whether there is nothing in the buffer.
    @inlinable package var isEmpty: Bool { self.count == 0 }

    /// The octets, borrowed.
    @inlinable package var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            let span = RawSpan(_unsafeStart: UnsafeRawPointer(self.base), byteCount: self.count)
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// Lends the octets.
    @inlinable
    package func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: self.base, count: self.count))
    }

    // MARK: Room

    /// The address of room for `extra` more octets at the end, valid until the next call that may grow.
    @inlinable
    package mutating func reserve(_ extra: Int) -> UnsafeMutableRawPointer {
        if self.capacity - self.count < extra { self.grow(extra) }
        return self.base + self.count
    }

    /// Counts in `written` octets stored at the address `reserve` gave.
    @inlinable
    package mutating func commit(_ written: Int) {
        assert(written >= 0 && written <= self.capacity - self.count)
        self.count += written
    }

    @usableFromInline
    @inline(never)
    mutating func grow(_ extra: Int) {
        let capacity = max(self.capacity * 2, self.count + extra)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        larger.copyMemory(from: self.base, byteCount: self.count)
        self.base.deallocate()
        self.base = larger
        self.capacity = capacity
    }

    /// Forgets all octets; gives the memory back unless it is to be kept.
    package mutating func removeAll(keepingCapacity: Bool = true) {
        self.count = 0
        guard !keepingCapacity, self.capacity > 64 else { return }
        self.base.deallocate()
        self.base = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 16)
        self.capacity = 64
    }

    /// Forgets what stands behind the first `count` octets.
    @inlinable
    package mutating func truncate(to count: Int) {
        precondition(count >= 0 && count <= self.count, "truncate(to:) beyond the end")
        self.count = count
    }

    // MARK: Octets

    /// Appends one octet.
    @inlinable
    package mutating func append(_ octet: UInt8) {
        self.reserve(1).storeBytes(of: octet, as: UInt8.self)
        self.commit(1)
    }

    /// Appends two octets, big endian.
    @inlinable
    package mutating func appendUInt16(_ value: UInt16) {
        self.reserve(2).storeBytes(of: value.bigEndian, as: UInt16.self)
        self.commit(2)
    }

    /// Appends four octets, big endian.
    @inlinable
    package mutating func appendUInt32(_ value: UInt32) {
        self.reserve(4).storeBytes(of: value.bigEndian, as: UInt32.self)
        self.commit(4)
    }

    /// Appends eight octets, big endian.
    @inlinable
    package mutating func appendUInt64(_ value: UInt64) {
        self.reserve(8).storeBytes(of: value.bigEndian, as: UInt64.self)
        self.commit(8)
    }

    /// Appends octets as they are.
    @inlinable
    package mutating func append(octets: RawSpan) {
        let count = octets.byteCount
        let room = self.reserve(count)
        octets.withUnsafeBytes { source in
            if let start = source.baseAddress { room.copyMemory(from: start, byteCount: count) }
        }
        self.commit(count)
    }

    /// Overwrites four octets written before.
    @inlinable
    package mutating func patchUInt32(_ value: UInt32, at offset: Int) {
        precondition(offset >= 0 && self.count - offset >= 4, "patchUInt32(_:at:) beyond the end")
        self.base.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
    }
}
