// SPDX-License-Identifier: Apache-2.0

// Secret: a stored property that only a direct read reveals: no description, debug description,
// interpolation, `dump` or `Mirror` shows it, and it is not Encodable, so that no type with a secret
// can derive Encodable.
// Not here: erasing memory. Swift copies strings and arrays freely, so erasure cannot be guaranteed.

/// Stores a password, token or key that no output shows.
@propertyWrapper
package struct Secret<Value> {
    package var wrappedValue: Value

    package init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
}

extension Secret: Equatable where Value: Equatable {}
extension Secret: Hashable where Value: Hashable {}
extension Secret: Sendable where Value: Sendable {}

extension Secret: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Three asterisks for any value.
    package var description: String { "***" }
    /// Three asterisks for any value.
    package var debugDescription: String { "***" }
    /// Has no children, so that reflection shows nothing.
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
