// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

// ShortStringOctetsTests: short strings that are not UTF-8, as C, C# and PHP clients send them, come back octet for octet.

@Suite("Short strings of any octets")
struct ShortStringOctetsTests {
    static let values: [[UInt8]] = [
        [0xFF], [0xC3], [0xE2, 0x82], [0x61, 0x80, 0x62], Array(repeating: 0xFE, count: 255),
        // A UUID of 16 octets.
        [0x9B, 0x1D, 0xEB, 0x4D, 0x3B, 0x7D, 0x4B, 0xAD, 0x9B, 0xDD, 0x2B, 0x0D, 0x7B, 0x3D, 0xCB, 0x6D],
        Array("text".utf8), Array("Ünï".utf8), [],
    ]

    static func octets(of properties: BasicProperties) throws -> [UInt8] {
        var buffer = WireBuffer()
        try properties.encode(into: &buffer)
        return buffer.withUnsafeBytes { Array($0) }
    }

    @Test("A property is encoded as received", arguments: BasicProperties.TextProperty.allCases, values)
    func property(_ property: BasicProperties.TextProperty, _ value: [UInt8]) throws {
        var properties = BasicProperties(headers: ["a": 1], priority: 3)
        properties.setOctets(value, of: property)
        let octets = try Self.octets(of: properties)
        var reader = WireReader(octets.span.bytes)
        let decoded = try BasicProperties(from: &reader)
        #expect(decoded == properties)
        #expect(decoded.octets(of: property) == value)
        #expect(try Self.octets(of: decoded) == octets)
        var copied = BasicProperties()
        copied.copy(property, from: decoded)
        #expect(copied.octets(of: property) == value)
        copied.copy(property, from: BasicProperties())
        #expect(copied.isEmpty)
    }

    @Test("Setting the text of a property replaces its octets")
    func text() throws {
        var properties = BasicProperties()
        properties.setOctets([0xFF, 0x61], of: .correlationID)
        #expect(properties.correlationID == "\u{FFFD}a")
        let before = properties
        properties.correlationID = "\u{FFFD}a"
        #expect(properties.octets(of: .correlationID) == [0xEF, 0xBF, 0xBD, 0x61])
        #expect(properties != before)
        #expect(before.octets(of: .correlationID) == [0xFF, 0x61])
        properties.setOctets(nil, of: .correlationID)
        #expect(properties.isEmpty)
    }

    @Test("More than 255 octets are refused")
    func tooLong() {
        var properties = BasicProperties()
        properties.setOctets(Array(repeating: 0xFF, count: 256), of: .messageID)
        #expect(throws: WireError.self) { try Self.octets(of: properties) }
    }

    @Test("A header's name is encoded as received", arguments: values)
    func name(_ name: [UInt8]) throws {
        // Size, name, an octet.
        var table: [UInt8] = [0, 0, 0, UInt8(truncatingIfNeeded: name.count + 3), UInt8(name.count)] + name
        table += [UInt8(ascii: "B"), 7]
        table[2] = UInt8((name.count + 3) >> 8)
        var reader = WireReader(table.span.bytes)
        let decoded = try reader.readTable()
        #expect(decoded[String(decoding: name, as: UTF8.self)] == .uint8(7))
        var buffer = WireBuffer()
        try buffer.appendTable(decoded)
        #expect(buffer.withUnsafeBytes { Array($0) } == table)
    }
}
