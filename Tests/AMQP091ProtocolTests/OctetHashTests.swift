// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import Testing

@Suite("Hash of octets")
struct OctetHashTests {
    @Test("Octets have one hash, in one piece and in any pieces", arguments: [0, 1, 7, 8, 63, 64, 65, 127, 128, 1000])
    func pieces(count: Int) {
        var random = SeededGenerator(seed: UInt64(count))
        let octets = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
        let whole = octets.withUnsafeBytes { OctetHash.of($0) }
        for size in [1, 2, 13, 63, 64, 65, 200] {
            var hash = OctetHash()
            var rest = octets[...]
            while !rest.isEmpty {
                rest.prefix(size).withUnsafeBytes { hash.append($0) }
                rest = rest.dropFirst(size)
            }
            #expect(hash.value == whole)
        }
    }

    @Test("A changed, added or moved octet changes the hash", arguments: [1, 8, 15, 64, 100, 130])
    func changes(count: Int) {
        var random = SeededGenerator(seed: UInt64(count))
        let octets = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
        var seen: Set<UInt64> = [octets.withUnsafeBytes { OctetHash.of($0) }]
        for index in 0..<count {
            for bit in 0..<8 {
                var changed = octets
                changed[index] ^= 1 << UInt8(bit)
                #expect(seen.insert(changed.withUnsafeBytes { OctetHash.of($0) }).inserted)
            }
        }
        #expect(seen.insert((octets + [0]).withUnsafeBytes { OctetHash.of($0) }).inserted)
        #expect(seen.insert(([0] + octets).withUnsafeBytes { OctetHash.of($0) }).inserted)
        #expect(OctetHash.combine(1, 2) != OctetHash.combine(2, 1))
        #expect(Set((0..<2000).map { OctetHash.of(String(repeating: "\u{0}", count: $0)) }).count == 2000)
    }
}
