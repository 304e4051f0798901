// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// MessageTraits: the properties of a publish that matter to the broker, checked as RabbitMQ checks them. Publishers often
// repeat the same properties, so a channel keeps the traits of the last ones.

final class MessageTraits {
    let properties: BasicProperties
    let priority: UInt8?
    let timeToLive: UInt64?
    /// Additional routing keys from the headers CC and BCC.
    let extraKeys: [String]
    let hasBlindCopies: Bool
    /// True if the headers are not in the order in which RabbitMQ forwards them.
    let isReordered: Bool
    var headers: FieldTable { self.properties.headers ?? FieldTable() }

    /// Checks properties; `user` is the logged-in user.
    init(_ properties: BasicProperties, user: String, version: RabbitMQVersion) throws(Refusal) {
        if let userID = properties.userID, userID != user {
            throw Refusal(
                .preconditionFailed,
                "user_id property set to '\(userID)' but authenticated user was '\(user)'"
            )
        }
        var properties = properties
        var isReordered = false
        if version.sortsHeaders, let headers = properties.headers, let sorted = headers.sortedByName {
            properties.headers = sorted
            isReordered = true
        }
        self.isReordered = isReordered
        self.properties = properties
        self.priority = properties.priority
        self.timeToLive = try properties.expiration.map { text throws(Refusal) in try Self.milliseconds(text) }
        let blind = try Self.keys(properties.headers?["BCC"], "BCC")
        self.extraKeys = try Self.keys(properties.headers?["CC"], "CC") + blind
        self.hasBlindCopies = !blind.isEmpty
    }

    private static func milliseconds(_ text: String) throws(Refusal) -> UInt64 {
        if let value = UInt64(text) { return min(value, QueueOptions.ceiling) }
        let isNegative = text.first == "-"
        let digits = text.dropFirst(isNegative ? 1 : 0).prefix { $0.isASCII && $0.isNumber }
        let rest = text.dropFirst(digits.count + (isNegative ? 1 : 0))
        let reason =
            if digits.isEmpty { "no_integer" } else if !rest.isEmpty { "{leftover_string,\"\(rest)\"}" } else {
                isNegative ? "{value_negative,\(text)}" : "{value_too_large,\(text)}"
            }
        throw Refusal(.preconditionFailed, "invalid expiration '\(text)': \(reason)")
    }

    private static func keys(_ value: FieldValue?, _ name: String) throws(Refusal) -> [String] {
        guard let value else { return [] }
        guard let values = value.arrayValue else {
            throw Refusal(
                .preconditionFailed,
                "invalid message: {unacceptable_type_in_header,\"\(name)\",\(value.typeName)}"
            )
        }
        return values.compactMap { $0.stringValue }
    }
}

extension FieldTable {
    /// Returns the fields sorted by name, the first of each name; nil if they already are.
    var sortedByName: FieldTable? {
        let names = self.names
        guard !zip(names, names.dropFirst()).allSatisfy({ $0.utf8.lexicographicallyPrecedes($1.utf8) }) else {
            return nil
        }
        var seen: Set<String> = []
        let first = self.filter { seen.insert($0.name).inserted }
        return FieldTable(
            first.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }.map { ($0.name, $0.value) }
        )
    }
}
