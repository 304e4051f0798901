// SPDX-License-Identifier: Apache-2.0

// InequivalentArgument: parses RabbitMQ's text for a queue or exchange that exists with other properties (406):
//
//   PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received the value '1' of type
//   'long' but current is none
//
// Reply texts end after 255 octets, so the rest after a long name may be missing. Pure: text to values.

/// A property of a queue or exchange that differs from the broker's.
package struct InequivalentArgument: Hashable, Sendable {
    /// One side of the difference.
    package enum Value: Hashable, Sendable {
        /// The argument is absent.
        case none
        /// A property of the declare method itself, such as `true` for `durable`.
        case property(String)
        /// An argument of the table, with RabbitMQ's type name.
        case argument(String, type: String)
        /// The text was truncated before it.
        case unknown
    }

    /// The name of the argument, or of the property: `durable`, `auto_delete`, `type`, `x-max-length`.
    package var name: String
    /// The declared value.
    package var received: Value
    /// The broker's value.
    package var current: Value

    /// Parses the text of a close; nil for any other reason.
    package init?(replyText text: String) {
        guard let start = text.firstRange(of: "inequivalent arg '"),
            let end = text[start.upperBound...].firstRange(of: "' for ")
        else { return nil }
        self.name = String(text[start.upperBound..<end.lowerBound])
        self.received = .unknown
        self.current = .unknown
        // The name of the entity precedes it and may contain anything: use the last occurrence.
        guard let received = text[end.upperBound...].ranges(of: "': received ").last else { return }
        let values = text[received.upperBound...]
        guard let middle = values.firstRange(of: " but current is ") else { return }
        self.received = Value(values[..<middle.lowerBound])
        self.current = Value(values[middle.upperBound...])
    }
}

extension InequivalentArgument.Value {
    fileprivate init(_ text: Substring) {
        if text == "none" {
            self = .none
        } else if text.hasPrefix("the value '"), text.hasSuffix("'"), let middle = text.firstRange(of: "' of type '") {
            self = .argument(
                String(text[..<middle.lowerBound].dropFirst("the value '".count)),
                type: String(text[middle.upperBound...].dropLast())
            )
        } else if text.count >= 2, text.hasPrefix("'"), text.hasSuffix("'") {
            self = .property(String(text.dropFirst().dropLast()))
        } else {
            self = .unknown
        }
    }
}
