// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire
import EpollConcurrency

// AMQPQueueKind: the type and options of a queue. Each queue type of RabbitMQ is a separate Swift type with its own
// options only: AMQPClassicQueue, AMQPQuorumQueue, AMQPStreamQueue. `.classic(…)`, `.quorum(…)` and
// `.stream(…)` create them. Not here: declaring (AMQPChannel+Topology).

/// The type of a queue with its options.
public protocol AMQPQueueKind: Hashable, Sendable {
    /// True if it survives a restart of the broker.
    var isDurable: Bool { get }
    /// True if it is exclusive to the declaring connection and deleted with it.
    var isExclusive: Bool { get }
    /// True if it is deleted with its last consumer.
    var isAutoDelete: Bool { get }

    /// Returns the options as arguments of `queue.declare`.
    ///
    /// - Throws: ``AMQPError`` with code `.invalidArgument` that names an option outside its range, and the range.
    func arguments() throws(AMQPError) -> FieldTable
}

/// The target of messages that a queue drops: rejected, expired, or over a limit.
public struct AMQPDeadLetter: Hashable, Sendable {
    /// The dead-letter exchange; empty for the default exchange.
    public var exchange: String
    /// The dead-letter routing key; nil keeps the original one.
    public var routingKey: String?

    /// Dead-letters to an exchange.
    public static func exchange(_ exchange: String, routingKey: String? = nil) -> AMQPDeadLetter {
        AMQPDeadLetter(exchange: exchange, routingKey: routingKey)
    }

    /// Dead-letters to one queue through the default exchange.
    public static func queue(_ name: String) -> AMQPDeadLetter { AMQPDeadLetter(exchange: "", routingKey: name) }
}

/// Placement of the leader of a queue in a cluster (`x-queue-leader-locator`).
public enum AMQPLeaderLocator: String, Hashable, Sendable {
    /// The node the client is connected to.
    case clientLocal = "client-local"
    /// A node with few leaders.
    case balanced = "balanced"
}

/// Collects the arguments of a queue type and checks their ranges.
struct QueueArguments {
    private(set) var table = FieldTable()

    init(_ type: String) { self.table["x-queue-type"] = .string(type) }

    mutating func set(_ name: String, _ text: String?) {
        if let text { self.table[name] = .string(text) }
    }

    mutating func set(_ name: String, _ flag: Bool) {
        if flag { self.table[name] = .bool(true) }
    }

    mutating func set(_ name: String, _ number: Int?, in range: ClosedRange<Int64>) throws(AMQPError) {
        guard let number else { return }
        try Self.check(name, Int64(number), range)
        self.table[name] = .int64(Int64(number))
    }

    /// Sets a time in whole milliseconds.
    mutating func set(_ name: String, _ time: Duration?, in range: ClosedRange<Int64>) throws(AMQPError) {
        guard let time else { return }
        let milliseconds = time.wholeMilliseconds
        try Self.check(name, milliseconds, range, unit: " ms")
        self.table[name] = .int64(milliseconds)
    }

    mutating func set(_ deadLetter: AMQPDeadLetter?) {
        guard let deadLetter else { return }
        self.set("x-dead-letter-exchange", deadLetter.exchange)
        self.set("x-dead-letter-routing-key", deadLetter.routingKey)
    }

    /// Returns the arguments with additional ones.
    func with(_ additional: FieldTable) -> FieldTable {
        var table = self.table
        for (name, value) in additional { table[name] = value }
        return table
    }

    static func check(
        _ name: String,
        _ number: Int64,
        _ range: ClosedRange<Int64>,
        unit: String = ""
    ) throws(AMQPError) {
        guard !range.contains(number) else { return }
        let limits =
            range.upperBound == .max ? "at least \(range.lowerBound)" : "\(range.lowerBound) to \(range.upperBound)"
        throw AMQPError(.invalidArgument, "\(name) is \(number)\(unit); it is \(limits)\(unit)", isSafeToRetry: true)
    }

    /// Longest timer of RabbitMQ in milliseconds, about 49 days.
    static let longestTimer: Int64 = 4_294_967_295
}

extension Duration {
    /// Whole milliseconds, rounded down and clamped.
    var wholeMilliseconds: Int64 {
        let (seconds, attoseconds) = self.saturated.components
        let (product, overflows) = seconds.multipliedReportingOverflow(by: 1000)
        let (sum, carries) = product.addingReportingOverflow(attoseconds / 1_000_000_000_000_000)
        guard !overflows, !carries else { return seconds < 0 ? .min : .max }
        return sum
    }
}
