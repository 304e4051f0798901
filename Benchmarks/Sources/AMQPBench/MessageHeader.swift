// SPDX-License-Identifier: Apache-2.0

// MessageHeader: the first 40 octets of every body the tool publishes. They tell the messages of this run from others
// in the same queue, and number them, so that the consumers can say what was lost, doubled or out of order.
// A body of 16 to 31 octets has no times, a shorter one no header.
//
//   octet 0   sequence number of the stream, from 0
//         8   stream
//        12   run
//        16   when it was due, nanoseconds of the monotonic clock; 0 where it was not taken
//        24   when it was published, likewise
//        32   with --verify a checksum of all the other octets
//        40   the rest of the body: zeros, random octets with --verify

/// What the tool writes at the start of a body, in network order.
struct MessageHeader: Hashable {
    /// Octets of a header without the times; a shorter body carries none.
    static let size = 16
    /// Octets of a header with the times.
    static let sizeWithTimes = 32
    /// Octets of a header with times and checksum.
    static let sizeWithChecksum = 40

    var sequence: UInt64
    /// Who published it: streams are numbered from 0 through all producers and their probes.
    var stream: UInt32
    /// Which run it belongs to.
    var run: UInt32
    /// When the schedule wanted it published, or when it was; 0 where that was not taken.
    var due: UInt64 = 0
    /// When it was published; 0 where that was not taken.
    var sent: UInt64 = 0

    init(sequence: UInt64, stream: UInt32, run: UInt32) {
        self.sequence = sequence
        self.stream = stream
        self.run = run
    }

    /// Reads a header; nil when the body is too short for one.
    init?(_ body: RawSpan) {
        guard body.byteCount >= Self.size else { return nil }
        self.sequence = UInt64(bigEndian: body.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt64.self))
        self.stream = UInt32(bigEndian: body.unsafeLoadUnaligned(fromByteOffset: 8, as: UInt32.self))
        self.run = UInt32(bigEndian: body.unsafeLoadUnaligned(fromByteOffset: 12, as: UInt32.self))
        guard body.byteCount >= Self.sizeWithTimes else { return }
        self.due = UInt64(bigEndian: body.unsafeLoadUnaligned(fromByteOffset: 16, as: UInt64.self))
        self.sent = UInt64(bigEndian: body.unsafeLoadUnaligned(fromByteOffset: 24, as: UInt64.self))
    }

    /// Writes the header over the first octets of a body; a body too short for it stays as it is.
    ///
    /// - Parameters:
    ///   - body: The octets.
    ///   - size: How many of them are the body; all by default.
    func write(to body: inout [UInt8], size: Int? = nil) {
        let count = size ?? body.count
        guard count >= Self.size else { return }
        body.withUnsafeMutableBytes { octets in
            octets.storeBytes(of: self.sequence.bigEndian, toByteOffset: 0, as: UInt64.self)
            octets.storeBytes(of: self.stream.bigEndian, toByteOffset: 8, as: UInt32.self)
            octets.storeBytes(of: self.run.bigEndian, toByteOffset: 12, as: UInt32.self)
            guard count >= Self.sizeWithTimes else { return }
            octets.storeBytes(of: self.due.bigEndian, toByteOffset: 16, as: UInt64.self)
            octets.storeBytes(of: self.sent.bigEndian, toByteOffset: 24, as: UInt64.self)
        }
    }
}
