// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@Suite("Field tables")
struct FieldTableTests {
    struct Row: CustomTestStringConvertible {
        var value: FieldValue
        /// The letter and the value.
        var octets: [UInt8]
        var testDescription: String { value.description }

        init(_ value: FieldValue, _ letter: Unicode.Scalar, _ octets: [UInt8]) {
            self.value = value
            self.octets = [UInt8(ascii: letter)] + octets
        }
    }

    static let rows = [
        Row(.bool(true), "t", [1]),
        Row(.bool(false), "t", [0]),
        Row(.int8(-2), "b", [0xFE]),
        Row(.uint8(254), "B", [0xFE]),
        Row(.int16(-2), "s", [0xFF, 0xFE]),
        Row(.uint16(0xABCD), "u", [0xAB, 0xCD]),
        Row(.int32(-2), "I", [0xFF, 0xFF, 0xFF, 0xFE]),
        Row(.uint32(0x0102_0304), "i", [1, 2, 3, 4]),
        Row(.int64(.min), "l", [0x80, 0, 0, 0, 0, 0, 0, 0]),
        Row(.float(1.5), "f", [0x3F, 0xC0, 0, 0]),
        Row(.double(-1.5), "d", [0xBF, 0xF8, 0, 0, 0, 0, 0, 0]),
        Row(.decimal(FieldDecimal(scale: 255, digits: .max)), "D", [255, 255, 255, 255, 255]),
        Row(.string("hé"), "S", [0, 0, 0, 3, 0x68, 0xC3, 0xA9]),
        Row(.longString([0xFF, 0]), "S", [0, 0, 0, 2, 0xFF, 0]),
        Row(.bytes([1, 2]), "x", [0, 0, 0, 2, 1, 2]),
        Row(.timestamp(.max), "T", [255, 255, 255, 255, 255, 255, 255, 255]),
        Row(.void, "V", []),
        Row([true, .void], "A", [0, 0, 0, 3, 0x74, 1, 0x56]),
        Row([:], "F", [0, 0, 0, 0]),
        Row(["a": .int8(1), "b": .void], "F", [0, 0, 0, 7, 1, 0x61, 0x62, 1, 1, 0x62, 0x56]),
    ]

    /// A table with one field of no name.
    static func table(_ value: [UInt8]) -> [UInt8] {
        let count = UInt32(value.count + 1)
        return [UInt8(count >> 24), UInt8(count >> 16 & 255), UInt8(count >> 8 & 255), UInt8(count & 255), 0] + value
    }

    @Test("A field value has these octets, and survives a round trip", arguments: rows)
    func roundTrip(_ row: Row) throws {
        let table: FieldTable = ["": row.value]
        let written = try octets { (buffer) throws(WireError) in try buffer.appendTable(table) }
        #expect(written == Self.table(row.octets))
        let read = try decode(written) { (reader) throws(WireError) in try reader.readTable() }
        #expect(read == table)
    }

    @Test("A truncated table is an error, with the right and with the original length", arguments: rows)
    func cut(_ row: Row) throws {
        for count in 0..<row.octets.count {
            let honest = Self.table(Array(row.octets[..<count]))
            let lying = Array(Self.table(row.octets)[..<(5 + count)])
            for octets in [honest, lying] {
                #expect(throws: WireError(.truncated)) {
                    try decode(octets) { (reader) throws(WireError) in try reader.readTable() }
                }
            }
        }
    }

    @Test("The letter L is read as a signed number")
    func letterL() throws {
        let octets = Self.table([0x4C, 255, 255, 255, 255, 255, 255, 255, 255])
        let read = try decode(octets) { (reader) throws(WireError) in try reader.readTable() }
        #expect(read[""] == .int64(-1))
    }

    @Test("C18: a type letter unknown to RabbitMQ is refused", arguments: ["U", "Q", "\0"] as [Unicode.Scalar])
    func unknown(_ letter: Unicode.Scalar) {
        let octets = Self.table([UInt8(ascii: letter), 0, 0, 0, 0])
        #expect(throws: WireError(.unknownFieldType(UInt8(ascii: letter)))) {
            try decode(octets) { (reader) throws(WireError) in try reader.readTable() }
        }
    }

    @Test(
        "C16: a length of 4 GiB is refused before memory is taken",
        arguments: ["S", "x", "A", "F"] as [Unicode.Scalar]
    )
    func hugeLength(_ letter: Unicode.Scalar) {
        let octets = Self.table([UInt8(ascii: letter), 255, 255, 255, 255])
        #expect(throws: WireError(.truncated)) {
            try decode(octets) { (reader) throws(WireError) in try reader.readTable() }
        }
    }

    @Test("C17: an inner table cannot extend beyond the outer one")
    func innerOverrun() {
        let octets: [UInt8] =
            [0, 0, 0, 8, 0, 0x46, 0, 0, 0, 3, 0, 0x74]  // outer of 8: "", table of 3: "", bool whose octet is outside
            + [1]
        #expect(throws: WireError(.truncated)) {
            try decode(octets) { (reader) throws(WireError) in try reader.readTable() }
        }
    }

    static func nested(_ depth: Int, array: Bool) -> FieldTable {
        var value = FieldValue.table([:])
        for _ in 2..<depth { value = array ? [value] : ["": value] }
        return ["": value]
    }

    @Test("C15: nesting of 32 is encoded and decoded, one more is refused", arguments: [false, true])
    func depth(array: Bool) throws {
        let deepest = Self.nested(32, array: array)
        let written = try octets { (buffer) throws(WireError) in try buffer.appendTable(deepest) }
        let read = try decode(written) { (reader) throws(WireError) in try reader.readTable() }
        #expect(read == deepest)
        #expect(throws: WireError(.nestingTooDeep)) {
            try octets { (buffer) throws(WireError) in try buffer.appendTable(Self.nested(33, array: array)) }
        }
        let deeper = Self.table([UInt8(ascii: "F")] + written)
        #expect(throws: WireError(.nestingTooDeep)) {
            try decode(deeper) { (reader) throws(WireError) in try reader.readTable() }
        }
    }

    @Test("C15: ten thousand levels are refused without a stack overflow")
    func veryDeep() {
        var octets: [UInt8] = []
        for level in stride(from: 10_000, through: 1, by: -1) {
            let count = UInt32(level * 6)
            octets += [UInt8(count >> 24), UInt8(count >> 16 & 255), UInt8(count >> 8 & 255), UInt8(count & 255)]
            octets += [0, 0x46]
        }
        octets += [0, 0, 0, 0, 0, 0]
        #expect(throws: WireError(.nestingTooDeep)) {
            try decode(octets) { (reader) throws(WireError) in try reader.readTable() }
        }
    }

    @Test(
        "A number RabbitMQ cannot parse is not sent",
        arguments: [.double(.nan), .double(.infinity), .float(-.infinity), [.float(.nan)]] as [FieldValue]
    )
    func notFinite(_ value: FieldValue) {
        #expect(throws: WireError.self) {
            try octets { (buffer) throws(WireError) in try buffer.appendTable(["x": value]) }
        }
    }

    @Test("A name of 255 octets is written, one more is refused")
    func nameLength() throws {
        let longest = String(repeating: "é", count: 127) + "x"
        let written = try octets { (buffer) throws(WireError) in try buffer.appendTable([longest: 1]) }
        let read = try decode(written) { (reader) throws(WireError) in try reader.readTable() }
        #expect(read[longest] == 1)
        #expect(throws: WireError(.shortStringTooLong(count: 256))) {
            try octets { (buffer) throws(WireError) in try buffer.appendTable([longest + "x": 1]) }
        }
    }

    @Test("C20: a name that is not UTF-8 is shown with U+FFFD")
    func badName() throws {
        let octets: [UInt8] = [0, 0, 0, 4, 2, 0x61, 0xFF, 0x56]
        let read = try decode(octets) { (reader) throws(WireError) in try reader.readTable() }
        #expect(read.names == ["a\u{FFFD}"])
    }

    @Test("C21: of duplicate names all are kept, the first is read, and setting leaves one")
    func duplicates() throws {
        let octets: [UInt8] = [0, 0, 0, 9, 1, 0x61, 0x62, 1, 0, 0x56, 1, 0x61, 0x56]
        var read = try decode(octets) { (reader) throws(WireError) in try reader.readTable() }
        #expect(read.names == ["a", "", "a"])
        #expect(read["a"] == .int8(1))
        read["a"] = "new"
        #expect(read == ["a": "new", "": .void])
        read["a"] = nil
        #expect(read == ["": .void])
        read["c"] = 1
        #expect(read.map(\.name) == ["", "c"])
    }

    @Test("Literals choose the widest type, accessors any")
    func literals() {
        let table: FieldTable = ["i": 5, "s": "text", "b": true, "d": 1.5, "a": [1, "x"], "t": ["k": 1]]
        #expect(table["i"] == .int64(5))
        #expect(table["i"]?.integerValue == 5)
        #expect(FieldValue.uint8(5).integerValue == 5)
        #expect(table["s"]?.stringValue == "text")
        #expect(FieldValue.longString([0xFF]).stringValue == nil)
        #expect(FieldValue.longString([0xFF]).octets == [0xFF])
        #expect(table["b"]?.boolValue == true)
        #expect(table["d"]?.doubleValue == 1.5)
        #expect(table["a"]?.arrayValue == [.int64(1), .string("x")])
        #expect(table["t"]?.tableValue?["k"] == 1)
    }

    @Test("Tables are equal as dictionaries: the order does not count, and the first value of a name does")
    func equality() {
        let pairs: [(FieldTable, FieldTable, Bool)] = [
            (["a": 1, "b": 2], ["b": 2, "a": 1], true),
            (["a": 1, "a": 2], ["a": 1], true),
            (["a": 1, "a": 2], ["a": 1, "a": 3], true),
            (["a": 1, "b": 2, "a": 3, "b": 4], ["a": 1, "b": 2, "a": 5, "b": 6], true),
            (["b": 1, "a": 1, "a": 2], ["a": 1, "b": 1], true),
            (["a": 1, "a": 2], ["a": 2, "a": 1], false),
            (["a": 1, "b": 2, "b": 3], ["a": 1, "b": 3, "b": 3], false),
            (["a": 1], ["a": 1, "b": 2], false),
            (["a": .int64(1)], ["a": .int32(1)], false),
            (["t": ["x": 1, "y": 2]], ["t": ["y": 2, "x": 1]], true),
            (["t": [["x": 1, "y": 2]]], ["t": [["y": 2, "x": 1]]], true),
            ([:], [:], true),
        ]
        for (left, right, isEqual) in pairs {
            #expect((left == right) == isEqual, "\(left) \(right)")
            #expect((right == left) == isEqual, "\(right) \(left)")
            if isEqual { #expect(left.hashValue == right.hashValue, "\(left) \(right)") }
        }
    }

    @Test("Tables can be compared in their order, nested ones too")
    func orderedEquality() {
        let table: FieldTable = ["a": 1, "t": ["x": 1, "y": [["z": 1, "w": 2]]], "a": 2]
        #expect(table.isEqualInOrder(to: table))
        let others: [FieldTable] = [
            ["t": ["x": 1, "y": [["z": 1, "w": 2]]], "a": 1, "a": 2],
            ["a": 1, "t": ["y": [["z": 1, "w": 2]], "x": 1], "a": 2],
            ["a": 1, "t": ["x": 1, "y": [["w": 2, "z": 1]]], "a": 2],
            ["a": 1, "t": ["x": 1, "y": [["z": 1, "w": 2]]]],
        ]
        for other in others {
            #expect(table == other, "\(other)")
            #expect(!table.isEqualInOrder(to: other), "\(other)")
        }
    }

    @Test("Comparing deeply nested tables compares each value once", .timeLimit(.minutes(1)))
    func nestedEquality() {
        func nested(_ innermost: FieldValue, reversed: Bool) -> FieldTable {
            (0..<31).reduce(["v": innermost]) { inner, level in
                reversed ? ["b": .table(inner), "a": 1] : ["a": 1, "b": .table(inner)]
            }
        }
        #expect(nested(1, reversed: false) == nested(1, reversed: true))
        #expect(nested(1, reversed: false) != nested(2, reversed: true))
        #expect(nested(1, reversed: false) != nested(2, reversed: false))
        #expect(nested(1, reversed: false).hashValue == nested(1, reversed: true).hashValue)
    }
}
