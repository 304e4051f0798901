// SPDX-License-Identifier: Apache-2.0

// WireBuffer: a growing buffer of octets to send. Move-only: it owns its memory exclusively.
// Not here: the meaning of the octets. PublishEncoder writes through `reserve` and `commit`, others through `append`.
// Unsafe: one allocation of `capacity` octets at `base`, the first `count` of them initialised. Every store is below
// `capacity`, because `reserve` is the only source of addresses and grows first; `commit` moves `count` over octets the
// caller has stored. Sendable is unchecked because of the pointer, which is never shared.

/// A growing buffer of octets to send.
@frozen
@usableFromInline
package struct WireBuffer: ~Copyable, @unchecked Sendable {
    @usableFromInline var base: UnsafeMutableRawPointer
    /// Number of octets in the buffer.
    @usableFromInline package internal(set) var count: Int
    /// Number of octets the buffer can hold before it grows.
    @usableFromInline package internal(set) var capacity: Int

    /// Creates an empty buffer with room for at least `capacity` octets.
    package init(capacity: Int = 0) {
        let capacity = max(capacity, 64)
        self.base = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        self.count = 0
        self.capacity = capacity
    }

    deinit { self.base.deallocate() }

    /// True if the buffer holds no octets.
    @inlinable package var isEmpty: Bool { self.count == 0 }

    /// The octets, borrowed.
    @inlinable package var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            let span = RawSpan(_unsafeStart: UnsafeRawPointer(self.base), byteCount: self.count)
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// Calls `body` with the octets.
    @inlinable
    package func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: self.base, count: self.count))
    }

    // MARK: Room

    /// Returns the address of room for `extra` more octets at the end, valid until the next call that may grow the buffer.
    @inlinable
    package mutating func reserve(_ extra: Int) -> UnsafeMutableRawPointer {
        if self.capacity - self.count < extra { self.grow(extra) }
        return self.base + self.count
    }

    /// Adds `written` octets that were stored at the address from `reserve`.
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

    /// Removes all octets, and frees the memory unless it is to be kept.
    package mutating func removeAll(keepingCapacity: Bool = true) {
        self.count = 0
        guard !keepingCapacity, self.capacity > 64 else { return }
        self.base.deallocate()
        self.base = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 16)
        self.capacity = 64
    }

    /// Truncates the buffer to its first `count` octets.
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

    /// Appends octets unchanged.
    @inlinable
    package mutating func append(octets: RawSpan) {
        let count = octets.byteCount
        let room = self.reserve(count)
        octets.withUnsafeBytes { source in
            if let start = source.baseAddress { room.copyMemory(from: start, byteCount: count) }
        }
        self.commit(count)
    }

    /// Overwrites four octets that were written before.
    @inlinable
    package mutating func patchUInt32(_ value: UInt32, at offset: Int) {
        precondition(offset >= 0 && self.count - offset >= 4, "patchUInt32(_:at:) beyond the end")
        self.base.storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
    }
}
