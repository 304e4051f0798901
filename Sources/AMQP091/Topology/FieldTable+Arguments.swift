// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// Arguments of consumers and exchanges that RabbitMQ and its plugins know, made where a table is wanted:
// `consume("orders", arguments: .consumer(priority: 10))`. Queues have types of their own (AMQPQueueKind).

extension FieldTable {
    /// The arguments of a consumer.
    ///
    /// - Parameters:
    ///   - priority: Consumers of a higher priority get messages first (`x-priority`); nil for 0, the broker's default.
    ///   - timeout: How long a delivery may stay unacknowledged (`x-consumer-timeout`), whole milliseconds; nil for that of
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

    /// The arguments of a consumer of a stream.
    ///
    /// - Parameters:
    ///   - offset: Where to begin.
    ///   - filter: Deliver chunks with messages of these filter values only; what else is in such a chunk is delivered
    ///     too, so compare ``BasicProperties/streamFilterValue``. RabbitMQ 3.13 or later; earlier versions ignore it and
    ///     deliver everything.
    ///   - matchUnfiltered: Whether messages without a filter value are delivered too.
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

    /// The arguments of an exchange of the delayed-message plugin (`x-delayed-message`).
    ///
    /// - Parameter type: How it routes once the delay is over.
    /// - Returns: The table.
    public static func delayed(_ type: AMQPExchangeType) -> FieldTable { ["x-delayed-type": .string(type.name)] }

    /// The arguments of a binding to a headers exchange.
    ///
    /// - Parameters:
    ///   - headers: What to compare.
    ///   - matchAll: Whether all of them must be equal, or any one.
    /// - Returns: The table.
    public static func matching(_ headers: FieldTable, all matchAll: Bool = true) -> FieldTable {
        var table = headers
        table["x-match"] = matchAll ? "all" : "any"
        return table
    }

    /// This table with the fields of another, which win.
    public func merging(_ other: FieldTable) -> FieldTable {
        var table = self
        for (name, value) in other { table[name] = value }
        return table
    }
}
