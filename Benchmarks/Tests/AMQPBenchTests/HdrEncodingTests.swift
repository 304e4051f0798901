// SPDX-License-Identifier: Apache-2.0
import Foundation
import Histogram
import Testing

@testable import AMQPBench

@Suite("HdrHistogram's V2 encoding")
struct HdrEncodingTests {
    /// Takes an encoding apart as its specification says, and gives the counts by place in the array.
    static func decode(_ text: String) throws -> (digits: Int32, lowest: Int64, highest: Int64, counts: [Int: Int64]) {
        let octets = [UInt8](try #require(Data(base64Encoded: text)))
        func number<Value: FixedWidthInteger>(_ bytes: ArraySlice<UInt8>, _: Value.Type) -> Value {
            bytes.reduce(0) { $0 << 8 | Value(truncatingIfNeeded: $1) }
        }
        #expect(number(octets[0..<4], Int32.self) == 0x1C84_9314)
        #expect(Int(number(octets[4..<8], Int32.self)) == octets.count - 8)
        // A stream of zlib with stored blocks.
        #expect(octets[8] == 0x78 && (UInt16(octets[8]) << 8 | UInt16(octets[9])) % 31 == 0)
        var plain: [UInt8] = []
        var place = 10
        var isLast = false
        while !isLast {
            isLast = octets[place] == 1
            let count = Int(octets[place + 1]) | Int(octets[place + 2]) << 8
            #expect(count == ~(Int(octets[place + 3]) | Int(octets[place + 4]) << 8) & 0xFFFF)
            plain += octets[place + 5..<place + 5 + count]
            place += 5 + count
        }
        #expect(place + 4 == octets.count)
        #expect(number(plain[0..<4], Int32.self) == 0x1C84_9313)
        #expect(Int(number(plain[4..<8], Int32.self)) == plain.count - 40)
        var counts: [Int: Int64] = [:]
        var (index, offset) = (0, 40)
        while offset < plain.count {
            var (value, shift): (UInt64, UInt64) = (0, 0)
            for number in 0..<9 {
                let octet = UInt64(plain[offset])
                offset += 1
                value |= (number == 8 ? octet : octet & 0x7F) << shift
                shift += 7
                if number < 8, octet < 0x80 { break }
            }
            let signed = Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
            if signed < 0 { index -= Int(signed) } else { (counts[index], index) = (signed, index + 1) }
        }
        let ratio = number(plain[32..<40], UInt64.self)
        #expect(Double(bitPattern: ratio) == 1)
        return (
            number(plain[12..<16], Int32.self), number(plain[16..<24], Int64.self), number(plain[24..<32], Int64.self),
            counts
        )
    }

    @Test(
        "Every value stands where HdrHistogram has it",
        arguments: [
            (0, 0), (1, 1), (2047, 2047), (2048, 2048), (2049, 2048), (4095, 3071), (4096, 3072),
            (60_000_000_000, 27_388),
        ] as [(UInt64, Int)]
    )
    func index(_ value: UInt64, _ index: Int) {
        #expect(HdrEncoding.index(of: value) == index)
    }

    @Test("All counts are in it, large ones and those of neighbours too")
    func roundTrip() throws {
        var histogram = LatencyMeter.emptyHistogram
        histogram.record(0)
        histogram.record(1, count: 63)
        histogram.record(2, count: 64)
        histogram.record(1_000_000, count: 1 << 40)
        histogram.record(1_000_001, count: 7)
        histogram.record(60_000_000_000)
        let summary = try #require(LatencySummary(histogram))
        let found = try Self.decode(try #require(summary.hdr))
        #expect(found.digits == 3 && found.lowest == 1 && found.highest == 60_000_000_000)
        #expect(
            found.counts == [
                0: 1, 1: 63, 2: 64, HdrEncoding.index(of: 1_000_000): 1 << 40 + 7,
                HdrEncoding.index(of: 60_000_000_000): 1,
            ]
        )
    }

    @Test("A histogram of many different values needs several blocks")
    func manyValues() throws {
        let pairs = (0..<25_000).map { number in [UInt64(number) * 1_000_003, UInt64(number) << 20 + 1] }
        let found = try Self.decode(HdrEncoding.text(pairs))
        #expect(found.counts.values.reduce(0, +) == Int64(pairs.reduce(0) { $0 + $1[1] }))
    }

    @Test("The text is what HdrHistogram's library for Python decodes")
    func golden() {
        #expect(HdrEncoding.text([[1, 2], [1_000_000, 3], [60_000_000_000, 1]]) == Self.golden)
    }

    /// Decoded with hdrhistogram 0.10.8: 2 of 1 ns, 3 of 1 ms, 1 of 60 s.
    private static let golden =
        "HISTFAAAAD14AQEyAM3/HISTEwAAAAoAAAAAAAAAAwAAAAAAAAAB"
        + "AAAADfhHWAA/8AAAAAAAAAEEva4BBrP9AQKIfAdS"
}
