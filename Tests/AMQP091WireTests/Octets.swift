// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Octets: shorthand of the tests of this module: a buffer's contents as an array, a decode from an array,
// and numbers that are random but the same in every run.

/// The octets that `write` appends to an empty buffer.
func octets(_ write: (inout WireBuffer) throws(WireError) -> Void) throws(WireError) -> [UInt8] {
    var buffer = WireBuffer(capacity: 0)
    try write(&buffer)
    return buffer.withUnsafeBytes { Array($0) }
}

/// The value that `read` decodes from all of `octets`; trailing octets are an error.
func decode<Value>(
    _ octets: [UInt8],
    _ read: (inout WireReader) throws(WireError) -> Value
) throws(WireError) -> Value {
    var reader = WireReader(octets.span.bytes)
    let value = try read(&reader)
    try reader.expectEnd()
    return value
}

/// A small generator with a seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var value = self.state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
