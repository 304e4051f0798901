// SPDX-License-Identifier: Apache-2.0

// FieldTable: names and values in wire order: headers, arguments, peer properties (AMQP 0-9-1 §4.2.5.5).
// Duplicate names are kept as received; reading returns the first, setting leaves one. Equality and hash are those
// of a dictionary: RabbitMQ 4.0 and later sorts the fields and keeps the first of a name.
// Names are short strings of at most 255 octets; a longer one is refused when the table is encoded. A name that is not
// UTF-8 is shown with U+FFFD and encoded as received.

/// Names and values, in order.
///
/// Two tables are equal when they have the same names with equal values, in any order; of several fields of one name the
/// first counts. ``isEqualInOrder(to:)`` compares field by field.
public struct FieldTable: Sendable {
    struct Field: Hashable, Sendable {
        var name: String
        var value: FieldValue
        /// The octets of the name if they are not UTF-8.
        var octets: [UInt8]?
    }

    var fields: [Field]

    /// Maximum nesting of tables and arrays, including the outermost.
    package static var maximumDepth: Int { 32 }

    /// Creates an empty table.
    public init() { self.fields = [] }

    /// Creates a table of these fields, in this order.
    public init(_ fields: some Sequence<(String, FieldValue)>) {
        self.fields = fields.map { Field(name: $0, value: $1) }
    }

    /// Number of fields.
    public var count: Int { self.fields.count }

    /// True if there are no fields.
    public var isEmpty: Bool { self.fields.isEmpty }

    /// The names, in order.
    public var names: [String] { self.fields.map(\.name) }

    /// The value of the first field of this name; setting replaces all fields of the name, nil removes them.
    public subscript(name: String) -> FieldValue? {
        get { self.fields.first { $0.name == name }?.value }
        set {
            guard let index = self.fields.firstIndex(where: { $0.name == name }) else {
                if let newValue { self.append(newValue, named: name) }
                return
            }
            let next = index + 1
            if let newValue {
                self.fields[index].value = newValue
                self.fields[next...].removeAll { $0.name == name }
            } else {
                self.fields[index...].removeAll { $0.name == name }
            }
        }
    }

    /// Appends a field, even if the name exists already.
    public mutating func append(_ value: FieldValue, named name: String) {
        self.fields.append(Field(name: name, value: value))
    }
}

extension FieldTable: Hashable {
    /// The first value of each name.
    private var firstValues: [String: FieldValue] {
        Dictionary(self.fields.lazy.map { ($0.name, $0.value) }) { first, _ in first }
    }

    /// Compares names and values in any order; the first of several fields of one name counts.
    public static func == (left: FieldTable, right: FieldTable) -> Bool {
        guard left.fields.elementsEqual(right.fields, by: { $0.name == $1.name }) else {
            return left.firstValues == right.firstValues
        }
        // Compare no value twice: the work would double with each level of nesting.
        var seen: Set<String>?
        for index in left.fields.indices {
            let name = left.fields[index].name
            guard left.fields[index].value != right.fields[index].value else {
                seen?.insert(name)
                continue
            }
            let earlier = seen ?? Set(left.fields[..<index].lazy.map(\.name))
            guard earlier.contains(name) else { return false }
            seen = earlier
        }
        return true
    }

    /// Hashes names and first values, independent of order.
    public func hash(into hasher: inout Hasher) { hasher.combine(self.firstValues) }

    /// Compares fields in order, including duplicate names and nested tables.
    ///
    /// - Parameter other: The table to compare with.
    /// - Returns: False if only the order differs, although `==` is true then.
    public func isEqualInOrder(to other: FieldTable) -> Bool {
        self.fields.elementsEqual(other.fields) { $0.name == $1.name && $0.value.isEqualInOrder(to: $1.value) }
    }
}

extension FieldTable: Sequence {
    /// An iterator over the fields in order.
    public struct Iterator: IteratorProtocol {
        var base: IndexingIterator<[Field]>

        /// Returns the next field; nil at the end.
        public mutating func next() -> (name: String, value: FieldValue)? {
            self.base.next().map { (name: $0.name, value: $0.value) }
        }
    }

    /// An iterator over the fields in order.
    public func makeIterator() -> Iterator { Iterator(base: self.fields.makeIterator()) }

    /// Number of fields.
    public var underestimatedCount: Int { self.fields.count }
}

extension FieldTable: ExpressibleByDictionaryLiteral {
    /// Creates a table of these fields, in this order.
    public init(dictionaryLiteral elements: (String, FieldValue)...) { self.init(elements) }
}

extension FieldTable: CustomStringConvertible {
    /// Names and values, in order.
    public var description: String {
        "[" + self.fields.map { "\($0.name): \($0.value)" }.joined(separator: ", ") + "]"
    }
}
