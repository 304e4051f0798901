// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// BodyPlan: what bodies look like and how long each is. Pure but for reading the file of --body.
// Sizes between two bounds come from a table of 1024 that is drawn once, so that a message costs a look into it and the
// mean is known. With a checksum the octets behind the header are random, so that octets that moved are found out.

/// The bodies of one publisher.
struct BodyPlan: Sendable {
    private static let tableSize = 1024

    /// The largest body; shorter ones are its first octets.
    let octets: [UInt8]
    /// Whether bodies begin with a header.
    let isNumbered: Bool
    /// Whether bodies carry a checksum.
    let isVerified: Bool
    /// A power of two of sizes, or one.
    private let sizes: [Int]

    /// The bodies of a run.
    ///
    /// - Parameters:
    ///   - options: What the run was told.
    ///   - seed: The mark of the run.
    init(_ options: RunOptions, seed: UInt32) {
        var generator = SplitMix(seed: UInt64(seed))
        let range = options.sizes
        self.isNumbered = options.isNumbered
        self.isVerified = options.verify
        if range.low == range.high {
            self.sizes = [range.low]
        } else {
            self.sizes = (0..<Self.tableSize).map { _ in Int.random(in: range.low...range.high, using: &generator) }
        }
        if let file = options.bodyFile, let octets = try? BodyFile.read(file) {
            self.octets = octets
        } else if options.verify {
            self.octets = (0..<range.high).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
        } else {
            self.octets = [UInt8](repeating: 0, count: range.high)
        }
    }

    /// Octets of a message.
    @inline(__always)
    func size(of sequence: UInt64) -> Int { self.sizes[Int(truncatingIfNeeded: sequence) & (self.sizes.count - 1)] }

    /// Octets of the mean message.
    var meanSize: Double { Double(self.sizes.reduce(0, +)) / Double(self.sizes.count) }

    /// Writes header and checksum over the first octets of a body.
    ///
    /// - Parameters:
    ///   - header: What the message says of itself.
    ///   - body: A copy of `octets`, used again and again.
    /// - Returns: How many of its octets are the body.
    @inline(__always)
    func write(_ header: MessageHeader, to body: inout [UInt8]) -> Int {
        let size = self.size(of: header.sequence)
        guard self.isNumbered else { return size }
        header.write(to: &body, size: size)
        if self.isVerified { Checksum.write(to: &body, size: size) }
        return size
    }
}

/// The file of `--body`.
enum BodyFile {
    /// Its octets.
    ///
    /// - Throws: `ValidationError` when it cannot be read or is too large.
    static func read(_ path: String) throws -> [UInt8] {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ValidationError("\(path) cannot be read.")
        }
        guard data.count <= 16 << 20 else { throw ValidationError("\(path) is larger than 16m.") }
        return Array(data)
    }
}

/// The checksum of a body, at octets 32 to 39 of it.
enum Checksum {
    /// Where it is.
    static let offset = 32
    private static let word = 8

    /// Writes it into a body that has room for it.
    static func write(to body: inout [UInt8], size: Int) {
        guard size >= MessageHeader.sizeWithChecksum else { return }
        let value = Self.of(body.span.bytes.extracting(first: size))
        body.withUnsafeMutableBytes {
            $0.storeBytes(of: value.bigEndian, toByteOffset: Self.offset, as: UInt64.self)
        }
    }

    /// True when a body is as it was written; false for one that is too short too.
    static func isRight(_ body: RawSpan) -> Bool {
        guard body.byteCount >= MessageHeader.sizeWithChecksum else { return false }
        return UInt64(bigEndian: body.unsafeLoadUnaligned(fromByteOffset: Self.offset, as: UInt64.self))
            == Self.of(body)
    }

    /// Over all octets but its own, and their number.
    private static func of(_ body: RawSpan) -> UInt64 {
        var sum: UInt64 = 0x9E37_79B9_7F4A_7C15 ^ UInt64(body.byteCount)
        @inline(__always) func take(_ word: UInt64) {
            sum = (sum ^ word) &* 0xD6E8_FEB8_6659_FD93
            sum ^= sum >> 32
        }
        var place = 0
        while place + Self.word <= body.byteCount {
            if place != Self.offset {
                take(UInt64(littleEndian: body.unsafeLoadUnaligned(fromByteOffset: place, as: UInt64.self)))
            }
            place += Self.word
        }
        while place < body.byteCount {
            take(UInt64(body.unsafeLoad(fromByteOffset: place, as: UInt8.self)))
            place += 1
        }
        return sum
    }
}
