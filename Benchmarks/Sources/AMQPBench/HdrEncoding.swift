// SPDX-License-Identifier: Apache-2.0
import Foundation

// HdrEncoding: histograms in HdrHistogram's V2 encoding, compressed and in Base64, as its libraries and its log files have
// them. The counts stand in the array of a histogram of 1 ns to 60 s with three digits. What is compressed is a stream of
// zlib whose blocks are stored as they are: every decoder reads it, and no library is needed. Pure.

/// Histograms as text that HdrHistogram's libraries decode.
enum HdrEncoding {
    private static let digits: Int32 = 3
    /// Counts of one power of two: the next power of two above 2 * 10^digits.
    static let subBuckets = 2048
    static let subBucketBits = 11
    /// Powers of two up to 60 s.
    static let buckets = 26
    private static let halfMagnitude = 10
    private static let cookie: Int32 = 0x1C84_9303 | 0x10
    private static let compressedCookie: Int32 = 0x1C84_9304 | 0x10

    /// Encodes a histogram.
    ///
    /// - Parameter pairs: Values in nanoseconds, ascending, each with its count.
    /// - Returns: Base64 of the compressed V2 encoding.
    static func text(_ pairs: [[UInt64]]) -> String {
        let payload = Self.payload(pairs)
        var plain: [UInt8] = []
        Self.put(Self.cookie, to: &plain)
        Self.put(Int32(payload.count), to: &plain)
        // The offset by which the array is rotated.
        Self.put(Int32(0), to: &plain)
        Self.put(Self.digits, to: &plain)
        Self.put(Int64(1), to: &plain)
        Self.put(Int64(LatencyMeter.highest), to: &plain)
        Self.put(Int64(bitPattern: 1.0.bitPattern), to: &plain)
        plain += payload
        let stored = Self.stored(plain)
        var result: [UInt8] = []
        Self.put(Self.compressedCookie, to: &result)
        Self.put(Int32(stored.count), to: &result)
        return Data(result + stored).base64EncodedString()
    }

    /// Where the count of a value stands in the array.
    static func index(of value: UInt64) -> Int {
        let bucket = max(0, UInt64.bitWidth - value.leadingZeroBitCount - (Self.halfMagnitude + 1))
        let subBucket = Int(truncatingIfNeeded: value >> UInt64(bucket))
        return (bucket + 1) << Self.halfMagnitude + subBucket - Self.subBuckets / 2
    }

    /// The counts, and of empty ones how many follow each other, as negative number.
    private static func payload(_ pairs: [[UInt64]]) -> [UInt8] {
        var payload: [UInt8] = []
        var next = 0
        var waiting: (index: Int, count: UInt64)?
        func write(_ entry: (index: Int, count: UInt64)) {
            if entry.index > next { Self.putZigZag(Int64(next - entry.index), to: &payload) }
            Self.putZigZag(Int64(clamping: entry.count), to: &payload)
            next = entry.index + 1
        }
        for pair in pairs where pair.count == 2 && pair[1] > 0 {
            let index = Self.index(of: min(pair[0], LatencyMeter.highest))
            if let last = waiting, last.index >= index {
                waiting = (last.index, last.count &+ pair[1])
            } else {
                if let waiting { write(waiting) }
                waiting = (index, pair[1])
            }
        }
        if let waiting { write(waiting) }
        return payload
    }

    private static func put<Value: FixedWidthInteger>(_ value: Value, to octets: inout [UInt8]) {
        withUnsafeBytes(of: value.bigEndian) { octets += $0 }
    }

    /// A number with its sign in the lowest bit, seven bits an octet; the ninth octet has eight.
    private static func putZigZag(_ value: Int64, to octets: inout [UInt8]) {
        var rest = UInt64(bitPattern: value << 1 ^ value >> 63)
        for _ in 0..<8 {
            guard rest > 0x7F else {
                octets.append(UInt8(rest))
                return
            }
            octets.append(UInt8(rest & 0x7F | 0x80))
            rest >>= 7
        }
        octets.append(UInt8(rest))
    }

    /// A stream of zlib (RFC 1950) with stored blocks (RFC 1951).
    private static func stored(_ octets: [UInt8]) -> [UInt8] {
        var result: [UInt8] = [0x78, 0x01]
        var place = 0
        repeat {
            let end = min(place + 0xFFFF, octets.count)
            let count = UInt16(end - place)
            result.append(end == octets.count ? 1 : 0)
            result += [UInt8(count & 0xFF), UInt8(count >> 8), UInt8(~count & 0xFF), UInt8(~count >> 8)]
            result += octets[place..<end]
            place = end
        } while place < octets.count
        var (a, b): (UInt32, UInt32) = (1, 0)
        for octet in octets {
            a = (a + UInt32(octet)) % 65521
            b = (b + a) % 65521
        }
        Self.put(b << 16 | a, to: &result)
        return result
    }
}
