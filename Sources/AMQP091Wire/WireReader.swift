// SPDX-License-Identifier: Apache-2.0

// WireReader: decodes the data types of AMQP 0-9-1 §4.2.5 from borrowed octets, in order.
// Every length is checked against the remaining octets before anything is read or allocated; nothing here traps.
// Not here: frames (FrameDecoder) and which values a method has (Generated/).

/// A cursor over borrowed octets.
package struct WireReader: ~Escapable {
    private let octets: RawSpan
    private var offset: Int
    /// Number of enclosing tables and arrays.
    private var depth: Int

    @_lifetime(copy octets)
    package init(_ octets: RawSpan) {
        self.init(octets, depth: 0)
    }

    @_lifetime(copy octets)
    private init(_ octets: RawSpan, depth: Int) {
        self.octets = octets
        self.offset = 0
        self.depth = depth
    }

    /// Number of octets not read yet.
    package var remaining: Int { self.octets.byteCount - self.offset }

    /// True if all octets are read.
    package var isAtEnd: Bool { self.remaining == 0 }

    /// Throws if octets remain.
    package func expectEnd() throws(WireError) {
        guard self.isAtEnd else { throw WireError(.trailingOctets(count: self.remaining)) }
    }

    // MARK: Numbers

    package mutating func readUInt8() throws(WireError) -> UInt8 {
        let start = try self.advance(1)
        return self.octets.unsafeLoad(fromByteOffset: start, as: UInt8.self)
    }

    package mutating func readUInt16() throws(WireError) -> UInt16 {
        let start = try self.advance(2)
        return UInt16(bigEndian: self.octets.unsafeLoadUnaligned(fromByteOffset: start, as: UInt16.self))
    }

    package mutating func readUInt32() throws(WireError) -> UInt32 {
        let start = try self.advance(4)
        return UInt32(bigEndian: self.octets.unsafeLoadUnaligned(fromByteOffset: start, as: UInt32.self))
    }

    package mutating func readUInt64() throws(WireError) -> UInt64 {
        let start = try self.advance(8)
        return UInt64(bigEndian: self.octets.unsafeLoadUnaligned(fromByteOffset: start, as: UInt64.self))
    }

    // MARK: Octets and strings

    /// Returns the next `count` octets, borrowed from the same owner.
    @_lifetime(copy self)
    package mutating func readBytes(_ count: Int) throws(WireError) -> RawSpan {
        let start = try self.advance(count)
        return self.octets.extracting(start..<(start + count))
    }

    /// Returns a copy of the next `count` octets.
    package mutating func readOctets(_ count: Int) throws(WireError) -> [UInt8] {
        let bytes = try self.readBytes(count)
        return bytes.withUnsafeBytes { Array($0) }
    }

    /// Reads a short string as text, with its octets if they are not UTF-8.
    package mutating func readText() throws(WireError) -> (string: String, octets: [UInt8]?) {
        let count = try self.readUInt8()
        let bytes = try self.readBytes(Int(count))
        return bytes.withUnsafeBytes { octets in
            if let string = String(validating: octets, as: UTF8.self) { return (string, nil) }
            return (String(decoding: octets, as: UTF8.self), Array(octets))
        }
    }

    /// Reads a short string as text, with invalid UTF-8 replaced by U+FFFD.
    package mutating func readShortString() throws(WireError) -> String {
        let count = try self.readUInt8()
        let bytes = try self.readBytes(Int(count))
        return bytes.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    }

    /// Reads a long string: four octets of length, then the octets.
    package mutating func readLongString() throws(WireError) -> [UInt8] {
        let count = try self.readLength()
        return try self.readOctets(count)
    }

    // MARK: Tables

    /// Reads a table: its length in four octets, then fields of name, type letter and value.
    package mutating func readTable() throws(WireError) -> FieldTable {
        var inner = try self.readNested()
        var table = FieldTable()
        while !inner.isAtEnd {
            let name = try inner.readText()
            let value = try inner.readFieldValue()
            table.fields.append(FieldTable.Field(name: name.string, value: value, octets: name.octets))
        }
        return table
    }

    private mutating func readArray() throws(WireError) -> [FieldValue] {
        var inner = try self.readNested()
        var values: [FieldValue] = []
        while !inner.isAtEnd { values.append(try inner.readFieldValue()) }
        return values
    }

    /// Reads a type letter and a value of that type.
    package mutating func readFieldValue() throws(WireError) -> FieldValue {
        let letter = try self.readUInt8()
        switch letter {
        case UInt8(ascii: "t"): return .bool(try self.readUInt8() != 0)
        case UInt8(ascii: "b"): return .int8(Int8(bitPattern: try self.readUInt8()))
        case UInt8(ascii: "B"): return .uint8(try self.readUInt8())
        case UInt8(ascii: "s"): return .int16(Int16(bitPattern: try self.readUInt16()))
        case UInt8(ascii: "u"): return .uint16(try self.readUInt16())
        case UInt8(ascii: "I"): return .int32(Int32(bitPattern: try self.readUInt32()))
        case UInt8(ascii: "i"): return .uint32(try self.readUInt32())
        case UInt8(ascii: "l"), UInt8(ascii: "L"): return .int64(Int64(bitPattern: try self.readUInt64()))
        case UInt8(ascii: "f"): return .float(Float(bitPattern: try self.readUInt32()))
        case UInt8(ascii: "d"): return .double(Double(bitPattern: try self.readUInt64()))
        case UInt8(ascii: "D"):
            let scale = try self.readUInt8()
            return .decimal(FieldDecimal(scale: scale, digits: try self.readUInt32()))
        case UInt8(ascii: "S"): return .longString(try self.readLongString())
        case UInt8(ascii: "x"): return .bytes(try self.readLongString())
        case UInt8(ascii: "T"): return .timestamp(try self.readUInt64())
        case UInt8(ascii: "A"): return .array(try self.readArray())
        case UInt8(ascii: "F"): return .table(try self.readTable())
        case UInt8(ascii: "V"): return .void
        default: throw WireError(.unknownFieldType(letter))
        }
    }

    // MARK: Checks

    /// Reads a length of four octets and returns a reader over that many octets, one level deeper.
    @_lifetime(copy self)
    private mutating func readNested() throws(WireError) -> WireReader {
        guard self.depth < FieldTable.maximumDepth else { throw WireError(.nestingTooDeep) }
        let count = try self.readLength()
        let depth = self.depth + 1
        return WireReader(try self.readBytes(count), depth: depth)
    }

    private mutating func readLength() throws(WireError) -> Int {
        guard let count = Int(exactly: try self.readUInt32()), count <= self.remaining else {
            throw WireError(.truncated)
        }
        return count
    }

    /// Advances over `count` octets if they exist and returns their offset.
    private mutating func advance(_ count: Int) throws(WireError) -> Int {
        guard count >= 0, count <= self.remaining else { throw WireError(.truncated) }
        let start = self.offset
        self.offset += count
        return start
    }
}
