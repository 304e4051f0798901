// SPDX-License-Identifier: Apache-2.0

// OctetHash: a fast 64-bit hash of octets that arrive in pieces of any size; several octets per cycle.
// Keyed per process, so that bodies cannot be chosen to collide; not cryptographic, and not to be stored.
//
//   blocks of 64 octets go through four independent lanes; the rest and the length are added at the end

/// A hash of octets that arrive in pieces.
package struct OctetHash: Sendable {
    private var lanes: (UInt64, UInt64, UInt64, UInt64)
    private var count: UInt64 = 0
    /// The octets after the last whole block, fewer than 64.
    private var rest: [UInt8] = []

    private static let key = (UInt64.random(in: .min ... .max) | 1, UInt64.random(in: .min ... .max) | 1)
    private static let factors: (UInt64, UInt64, UInt64, UInt64) = (
        0x9E37_79B9_7F4A_7C15, 0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB, 0xD6E8_FEB8_6659_FD93
    )

    package init() { self.lanes = Self.start }

    /// Returns the hash of contiguous octets.
    package static func of(_ octets: UnsafeRawBufferPointer) -> UInt64 {
        var lanes = Self.start
        let used = Self.mixBlocks(octets, into: &lanes)
        return Self.finish(lanes, UnsafeRawBufferPointer(rebasing: octets[used...]), count: UInt64(octets.count))
    }

    /// Returns the hash of a text's UTF-8 octets.
    package static func of(_ text: String) -> UInt64 {
        var text = text
        return text.withUTF8 { Self.of(UnsafeRawBufferPointer($0)) }
    }

    /// Combines two hashes, in this order.
    package static func combine(_ left: UInt64, _ right: UInt64) -> UInt64 {
        Self.mix(left ^ Self.key.0, right ^ Self.factors.1)
    }

    /// Adds the next piece.
    package mutating func append(_ octets: UnsafeRawBufferPointer) {
        self.count += UInt64(octets.count)
        var octets = octets
        if !self.rest.isEmpty {
            let missing = min(64 - self.rest.count, octets.count)
            self.rest.append(contentsOf: octets.prefix(missing))
            octets = UnsafeRawBufferPointer(rebasing: octets[missing...])
            guard self.rest.count == 64 else { return }
            self.rest.withUnsafeBytes { _ = Self.mixBlocks($0, into: &self.lanes) }
            self.rest.removeAll(keepingCapacity: true)
        }
        let used = Self.mixBlocks(octets, into: &self.lanes)
        self.rest.append(contentsOf: octets[used...])
    }

    /// The hash of all pieces so far.
    package var value: UInt64 {
        self.rest.withUnsafeBytes { Self.finish(self.lanes, $0, count: self.count) }
    }

    private static var start: (UInt64, UInt64, UInt64, UInt64) {
        let key = Self.key
        return (key.0, key.1, ~key.0, ~key.1)
    }

    /// Mixes the whole blocks, and returns their size in octets.
    private static func mixBlocks(
        _ octets: UnsafeRawBufferPointer,
        into lanes: inout (UInt64, UInt64, UInt64, UInt64)
    ) -> Int {
        let factors = Self.factors
        var (first, second, third, fourth) = lanes
        var offset = 0
        while offset &+ 64 <= octets.count {
            first = Self.mix(first ^ Self.word(octets, offset), Self.word(octets, offset &+ 8) ^ factors.0)
            second = Self.mix(second ^ Self.word(octets, offset &+ 16), Self.word(octets, offset &+ 24) ^ factors.1)
            third = Self.mix(third ^ Self.word(octets, offset &+ 32), Self.word(octets, offset &+ 40) ^ factors.2)
            fourth = Self.mix(fourth ^ Self.word(octets, offset &+ 48), Self.word(octets, offset &+ 56) ^ factors.3)
            offset &+= 64
        }
        lanes = (first, second, third, fourth)
        return offset
    }

    private static func finish(
        _ lanes: (UInt64, UInt64, UInt64, UInt64),
        _ rest: UnsafeRawBufferPointer,
        count: UInt64
    ) -> UInt64 {
        var result = Self.mix(lanes.0 ^ lanes.1, lanes.2 ^ Self.factors.2) ^ lanes.3
        var offset = 0
        while offset + 8 <= rest.count {
            result = Self.mix(result ^ Self.word(rest, offset), Self.factors.0)
            offset += 8
        }
        var last: UInt64 = 0
        while offset < rest.count {
            last = last << 8 | UInt64(rest[offset])
            offset += 1
        }
        return Self.mix(result ^ last, Self.factors.1 ^ count)
    }

    private static func word(_ octets: UnsafeRawBufferPointer, _ offset: Int) -> UInt64 {
        octets.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }

    /// Folds both halves of the product.
    private static func mix(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let (high, low) = left.multipliedFullWidth(by: right)
        // The factors are mixed in, too: a factor of 0 must not erase the other.
        return high ^ low ^ (left &+ right).byteSwapped
    }
}
