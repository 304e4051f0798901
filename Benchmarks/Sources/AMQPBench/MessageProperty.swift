// SPDX-License-Identifier: Apache-2.0
import AMQP091
import ArgumentParser

// MessageProperty: a property of each message as `--property NAME=VALUE` gives it. Pure.

/// A property of every message of a run.
struct MessageProperty: ExpressibleByArgument, Hashable, Sendable {
    /// As AMQP spells it: content-type.
    var name: String
    var value: String

    /// The properties a message may be given; the delivery mode is `--persistent`, headers are `--header`.
    static let names = [
        "content-type", "content-encoding", "priority", "correlation-id", "reply-to", "expiration", "message-id",
        "timestamp", "type", "user-id", "app-id",
    ]

    init?(argument: String) {
        guard let label = Label(argument: argument) else { return nil }
        // contentType and content_type are the same.
        let plain = { (text: String) in text.lowercased().filter { $0 != "-" && $0 != "_" } }
        guard let name = Self.names.first(where: { plain($0) == plain(label.key) }) else { return nil }
        self.name = name
        self.value = label.value
        guard label.value.utf8.count <= 255 else { return nil }
        if name == "priority", UInt8(label.value) == nil { return nil }
        if name == "timestamp", UInt64(label.value) == nil { return nil }
    }
}

extension BasicProperties {
    /// Sets a property of ``MessageProperty``.
    mutating func set(_ name: String, _ value: String) {
        switch name {
        case "content-type": self.contentType = value
        case "content-encoding": self.contentEncoding = value
        case "priority": self.priority = UInt8(value)
        case "correlation-id": self.correlationID = value
        case "reply-to": self.replyTo = value
        case "expiration": self.expiration = value
        case "message-id": self.messageID = value
        case "timestamp": self.timestamp = UInt64(value)
        case "type": self.type = value
        case "user-id": self.userID = value
        case "app-id": self.appID = value
        default: break
        }
    }
}

extension RunOptions {
    /// The properties of each message.
    var properties: BasicProperties {
        var properties = BasicProperties(
            headers: self.headers.map { FieldTable(typing: $0) },
            deliveryMode: self.persistent ? 2 : nil
        )
        for (name, value) in self.messageProperties ?? [:] { properties.set(name, value) }
        return properties
    }
}
