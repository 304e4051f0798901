// SPDX-License-Identifier: Apache-2.0

// Secret: a stored property that nothing shows but a read of the property itself: no description, no debug description,
// no interpolation, no `dump`, no `Mirror`, and no encoding, because it is not Encodable and so nothing that holds one
// can derive it.
// Not here: clearing the memory. Swift's strings and arrays are copied freely, so a promise to erase them could not be kept.

/// Stores a password, token or key that is never shown.
@propertyWrapper
package struct Secret<Value> {
    package var wrappedValue: Value

    package init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
}

extension Secret: Equatable where Value: Equatable {}
extension Secret: Hashable where Value: Hashable {}
extension Secret: Sendable where Value: Sendable {}

extension Secret: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Three asterisks, whatever is stored.
    package var description: String { "***" }
    /// Three asterisks, whatever is stored.
    package var debugDescription: String { "***" }
    /// No children: reflection ends here.
    package var customMirror: Mirror { Mirror(self, children: [:], displayStyle: .struct) }
}

extension Secret: ExpressibleByUnicodeScalarLiteral where Value: ExpressibleByUnicodeScalarLiteral {
    package init(unicodeScalarLiteral value: Value.UnicodeScalarLiteralType) {
        self.init(wrappedValue: Value(unicodeScalarLiteral: value))
    }
}

extension Secret: ExpressibleByExtendedGraphemeClusterLiteral where Value: ExpressibleByExtendedGraphemeClusterLiteral {
    package init(extendedGraphemeClusterLiteral value: Value.ExtendedGraphemeClusterLiteralType) {
        self.init(wrappedValue: Value(extendedGraphemeClusterLiteral: value))
    }
}

extension Secret: ExpressibleByStringLiteral where Value: ExpressibleByStringLiteral {
    package init(stringLiteral value: Value.StringLiteralType) {
        self.init(wrappedValue: Value(stringLiteral: value))
    }
}
