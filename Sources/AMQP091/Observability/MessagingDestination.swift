// SPDX-License-Identifier: Apache-2.0

// MessagingDestination: what OpenTelemetry calls the place a message goes to or comes from: of exchange, routing key and
// queue, those that are not empty, with colons between them.

/// Where a message goes to or comes from.
struct MessagingDestination: Hashable, Sendable {
    var exchange: String
    var routingKey: String
    /// Empty for a publisher, who knows none.
    var queue: String

    /// `messaging.destination.name`.
    var name: String {
        var parts: [String] = []
        for part in [self.exchange, self.routingKey, self.queue] where !part.isEmpty && parts.last != part {
            parts.append(part)
        }
        return parts.isEmpty ? "amq.default" : parts.joined(separator: ":")
    }

    /// The broker made the name up: it is a queue of one connection, and says nothing to anybody.
    var isAnonymous: Bool {
        Self.isMadeUp(self.queue) || self.exchange.isEmpty && Self.isMadeUp(self.routingKey)
    }

    private static func isMadeUp(_ name: String) -> Bool {
        name.hasPrefix("amq.gen-") || name.hasPrefix("amq.rabbitmq.reply-to")
    }

    /// The name of a span: never one of many that are made up.
    func spanName(_ operation: MessagingOperation, template: String?) -> String {
        if let template { return "\(operation.name) \(template)" }
        return self.isAnonymous ? operation.name : "\(operation.name) \(self.name)"
    }
}
