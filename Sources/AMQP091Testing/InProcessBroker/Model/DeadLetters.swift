// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Glibc

// DeadLetters: the headers of a dead-lettered message, and cycle detection: a queue from which it came
// without a rejection on the way must not get it again.

enum DeadLetters {
    /// Returns the message with its death in the headers; nil if it can no longer be encoded.
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
            // The publisher may have set the header.
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

    /// Returns true if the message was in this queue before and came here without a rejection.
    static func isCycle(_ headers: FieldTable, to queue: String) -> Bool {
        let deaths = (headers["x-death"]?.arrayValue ?? []).compactMap(\.tableValue)
        guard let index = deaths.firstIndex(where: { $0["queue"]?.stringValue == queue }) else { return false }
        return deaths[...index].allSatisfy { $0["reason"]?.stringValue != DeathReason.rejected.rawValue }
    }
}
