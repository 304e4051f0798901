// SPDX-License-Identifier: Apache-2.0

// MessagingDestination: OpenTelemetry's destination of a message: the non-empty ones of exchange, routing key and
// queue, separated by colons.

/// The destination or source of a message.
struct MessagingDestination: Hashable, Sendable {
    var exchange: String
    var routingKey: String
    /// The queue; empty for a publisher.
    var queue: String

    /// `messaging.destination.name`.
    var name: String {
        var parts: [String] = []
        for part in [self.exchange, self.routingKey, self.queue] where !part.isEmpty && parts.last != part {
            parts.append(part)
        }
        return parts.isEmpty ? "amq.default" : parts.joined(separator: ":")
    }

    /// True for a broker-generated name, which carries no meaning.
    var isAnonymous: Bool {
        Self.isMadeUp(self.queue) || self.exchange.isEmpty && Self.isMadeUp(self.routingKey)
    }

    private static func isMadeUp(_ name: String) -> Bool {
        name.hasPrefix("amq.gen-") || name.hasPrefix("amq.rabbitmq.reply-to")
    }

    /// The name for spans, without generated names.
    func spanName(_ operation: MessagingOperation, template: String?) -> String {
        if let template { return "\(operation.name) \(template)" }
        return self.isAnonymous ? operation.name : "\(operation.name) \(self.name)"
    }
}
