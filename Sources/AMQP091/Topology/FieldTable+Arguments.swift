// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// Arguments of consumers and exchanges of RabbitMQ and its plugins, as factories of tables:
// `consume("orders", arguments: .consumer(priority: 10))`. Queues have separate types (AMQPQueueKind).

extension FieldTable {
    /// Returns the arguments of a consumer.
    ///
    /// - Parameters:
    ///   - priority: Consumers of a higher priority get messages first (`x-priority`); nil for 0, the broker's default.
    ///   - timeout: Acknowledgement timeout (`x-consumer-timeout`), whole milliseconds; nil for that of
    ///     the queue. RabbitMQ 4.3 or later, quorum queues only: 4.3 refuses (406) it for other queues, earlier versions
    ///     ignore it.
    /// - Returns: The table.
    public static func consumer(priority: Int32? = nil, timeout: Duration? = nil) -> FieldTable {
        var table: FieldTable = [:]
        if let priority { table["x-priority"] = .int32(priority) }
        if let timeout {
            let milliseconds = Swift.max(timeout.wholeMilliseconds, 1)
            table["x-consumer-timeout"] = .int64(Swift.min(milliseconds, QueueArguments.longestTimer))
        }
        return table
    }

    /// Returns the arguments of a stream consumer.
    ///
    /// - Parameters:
    ///   - offset: The start offset.
    ///   - filter: The filter values of chunks to deliver; other messages of such a chunk are delivered,
    ///     too, so compare ``BasicProperties/streamFilterValue``. RabbitMQ 3.13 or later; earlier versions ignore it and
    ///     deliver everything.
    ///   - matchUnfiltered: True to deliver messages without a filter value, too.
    /// - Returns: The table.
    public static func stream(
        from offset: AMQPStreamOffset,
        filter: [String] = [],
        matchUnfiltered: Bool = false
    ) -> FieldTable {
        var table: FieldTable = ["x-stream-offset": offset.fieldValue]
        if !filter.isEmpty { table["x-stream-filter"] = .array(filter.map { .string($0) }) }
        if matchUnfiltered { table["x-stream-match-unfiltered"] = true }
        return table
    }

    /// Returns the arguments of an exchange of the delayed-message plugin (`x-delayed-message`).
    ///
    /// - Parameter type: The exchange type for routing after the delay.
    /// - Returns: The table.
    public static func delayed(_ type: AMQPExchangeType) -> FieldTable { ["x-delayed-type": .string(type.name)] }

    /// Returns the arguments of a binding to a headers exchange.
    ///
    /// - Parameters:
    ///   - headers: The headers to compare.
    ///   - matchAll: True if all headers must match, false if any one suffices.
    /// - Returns: The table.
    public static func matching(_ headers: FieldTable, all matchAll: Bool = true) -> FieldTable {
        var table = headers
        table["x-match"] = matchAll ? "all" : "any"
        return table
    }

    /// Returns this table with the fields of another, which take precedence.
    public func merging(_ other: FieldTable) -> FieldTable {
        var table = self
        for (name, value) in other { table[name] = value }
        return table
    }
}
