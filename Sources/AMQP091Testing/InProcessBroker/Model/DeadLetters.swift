// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Glibc

// DeadLetters: what a message that died looks like when it is published again, and where it must not go: a queue it came
// from without anybody rejecting it on the way would see it for ever.

enum DeadLetters {
    /// The message with its death in the headers; nil when it cannot be encoded any more.
    static func message(_ message: Message, from queue: BrokerQueue, _ reason: DeathReason, exchange: String)
        -> Message?
    {
        var properties = message.properties
        let version = queue.host.version
        var headers = properties.headers ?? FieldTable()
        if version.ignoresPublishedDeaths, !message.header.hasDied {
            for name in ["x-death"] + Self.names(of: "first") + Self.names(of: "last") { headers[name] = nil }
        }
        let (oldExchange, oldKey) = message.route
        let copies = headers["CC"]?.arrayValue ?? []
        var deaths = headers["x-death"]?.arrayValue ?? []
        var death: FieldTable
        let known = deaths.firstIndex {
            $0.tableValue?["queue"]?.stringValue == queue.name
                && $0.tableValue?["reason"]?.stringValue == reason.rawValue
        }
        if let known, let table = deaths.remove(at: known).tableValue {
            death = table
            // A publisher can have made it up.
            let (count, overflow) = (death["count"]?.integerValue ?? 0).addingReportingOverflow(1)
            death["count"] = .int64(overflow ? .max : count)
        } else {
            death = [
                "count": .int64(1), "reason": .string(reason.rawValue), "queue": .string(queue.name),
                "time": .timestamp(UInt64(max(0, time(nil)))), "exchange": .string(oldExchange),
                "routing-keys": .array([.string(oldKey)] + copies),
            ]
            if let expiration = properties.expiration { death["original-expiration"] = .string(expiration) }
        }
        headers["x-death"] = .array([.table(death)] + deaths)
        if headers["x-first-death-reason"] == nil {
            for (name, value) in zip(Self.names(of: "first"), [oldExchange, queue.name, reason.rawValue]) {
                headers[name] = .string(value)
            }
        }
        if version.tellsLastDeath {
            for (name, value) in zip(Self.names(of: "last"), [oldExchange, queue.name, reason.rawValue]) {
                headers[name] = .string(value)
            }
        }
        if queue.options.deadLetterRoutingKey != nil, version.removesCopiesFromDeadLetters { headers["CC"] = nil }
        properties.headers = headers.sortedByName ?? headers
        properties.expiration = nil
        let dead = message.with(
            exchange: exchange,
            routingKey: queue.options.deadLetterRoutingKey ?? oldKey,
            properties: properties,
            timeToLive: nil
        )
        dead?.header.hasDied = true
        return dead
    }

    private static func names(of death: String) -> [String] {
        ["exchange", "queue", "reason"].map { "x-\(death)-death-\($0)" }
    }

    /// Whether the message has been in this queue and came here by itself.
    static func isCycle(_ headers: FieldTable, to queue: String) -> Bool {
        let deaths = (headers["x-death"]?.arrayValue ?? []).compactMap(\.tableValue)
        guard let index = deaths.firstIndex(where: { $0["queue"]?.stringValue == queue }) else { return false }
        return deaths[...index].allSatisfy { $0["reason"]?.stringValue != DeathReason.rejected.rawValue }
    }
}
