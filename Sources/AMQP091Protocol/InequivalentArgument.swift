// SPDX-License-Identifier: Apache-2.0

// InequivalentArgument: what RabbitMQ says when a queue or exchange exists with other properties (406), as values:
//
//   PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received the value '1' of type
//   'long' but current is none
//
// Reply texts end after 255 octets, so what stands behind a long name may be missing. Pure: text to values.

/// One property of a queue or exchange that differs from the one the broker has.
package struct InequivalentArgument: Hashable, Sendable {
    /// One side of the difference.
    package enum Value: Hashable, Sendable {
        /// The argument is not there.
        case none
        /// A property of the declare method itself, such as `true` for `durable`.
        case property(String)
        /// An argument of the table, with RabbitMQ's name of its type.
        case argument(String, type: String)
        /// The text was cut before it.
        case unknown
    }

    /// The name of the argument, or of the property: `durable`, `auto_delete`, `type`, `x-max-length`.
    package var name: String
    /// What we asked for.
    package var received: Value
    /// What the broker has.
    package var current: Value

    /// Reads the text of a close; nil when it is about something else.
    package init?(replyText text: String) {
        guard let start = text.firstRange(of: "inequivalent arg '"),
            let end = text[start.upperBound...].firstRange(of: "' for ")
        else { return nil }
        self.name = String(text[start.upperBound..<end.lowerBound])
        self.received = .unknown
        self.current = .unknown
        // The name of the entity stands between, and may hold anything: the last occurrence is ours.
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
