// SPDX-License-Identifier: Apache-2.0
import Glibc

// InboundChunk: reference-counted octets read from the socket; deliveries point into it and keep it alive.
// Unsafe: owns one raw allocation for its lifetime. The loop thread writes only behind `filled` octets that no delivery
// points to yet; everything before is never written again while a delivery holds the chunk, because a chunk is reused
// only when it is uniquely referenced. Hence reads from any thread are safe.

/// A block of octets read from the broker.
@usableFromInline
final class InboundChunk: @unchecked Sendable {
    @usableFromInline let base: UnsafeMutableRawPointer
    @usableFromInline let capacity: Int

    init(capacity: Int) {
        self.base = .allocate(byteCount: capacity, alignment: 16)
        self.capacity = capacity
    }

    deinit {
        self.base.deallocate()
    }

    /// The octets of `range`, which lies in what was read into this chunk.
    @inlinable
    func octets(from offset: UInt32, count: UInt32) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: self.base + Int(offset), count: Int(count))
    }

    /// The short string at `offset`, which lies in what was read into this chunk, as does the string.
    func shortString(at offset: Int) -> String {
        let count = self.base.load(fromByteOffset: offset, as: UInt8.self)
        return String(decoding: UnsafeRawBufferPointer(start: self.base + offset + 1, count: Int(count)), as: UTF8.self)
    }

    /// Whether this short string, its length first, stands at `offset`, which is as `shortString(at:)` wants it.
    func hasShortString(_ octets: [UInt8], at offset: Int) -> Bool {
        octets.withUnsafeBytes { octets in
            guard let base = octets.baseAddress, octets[0] == self.base.load(fromByteOffset: offset, as: UInt8.self)
            else { return false }
            return memcmp(self.base + offset, base, octets.count) == 0
        }
    }

    /// Whether the same short string stands at both offsets, each as `shortString(at:)` wants it.
    @inline(__always)
    func hasSameShortString(at one: UInt32, as other: UInt32) -> Bool {
        let count = self.base.load(fromByteOffset: Int(one), as: UInt8.self)
        return memcmp(self.base + Int(one), self.base + Int(other), Int(count) + 1) == 0
    }
}
