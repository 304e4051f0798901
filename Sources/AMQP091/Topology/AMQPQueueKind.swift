// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPQueueKind: what a queue is besides its name. Each kind of RabbitMQ is a type of its own that offers what that
// kind has and nothing else: AMQPClassicQueue, AMQPQuorumQueue, AMQPStreamQueue. `.classic(…)`, `.quorum(…)` and
// `.stream(…)` make them where a kind is wanted. Not here: declaring (AMQPChannel+Topology).

/// The kind of a queue with its options.
public protocol AMQPQueueKind: Hashable, Sendable {
    /// Whether it survives a restart of the broker.
    var isDurable: Bool { get }
    /// Whether only the declaring connection may use it; it goes with the connection.
    var isExclusive: Bool { get }
    /// Whether it goes when its last consumer has gone.
    var isAutoDelete: Bool { get }

    /// The options as the broker's arguments.
    ///
    /// - Throws: ``AMQPError`` with code `.invalidArgument` that names an option outside its range, and the range.
    func arguments() throws(AMQPError) -> FieldTable
}

/// Where the messages go that a queue drops: refused, expired, or over a limit.
public struct AMQPDeadLetter: Hashable, Sendable {
    /// The exchange they are published to; empty for the default exchange.
    public var exchange: String
    /// The routing key they get; nil keeps their own.
    public var routingKey: String?

    /// To an exchange.
    public static func exchange(_ exchange: String, routingKey: String? = nil) -> AMQPDeadLetter {
        AMQPDeadLetter(exchange: exchange, routingKey: routingKey)
    }

    /// To one queue, by way of the default exchange.
    public static func queue(_ name: String) -> AMQPDeadLetter { AMQPDeadLetter(exchange: "", routingKey: name) }
}

/// On which node of a cluster the leader of a queue is placed (`x-queue-leader-locator`).
public enum AMQPLeaderLocator: String, Hashable, Sendable {
    /// The node the client is connected to.
    case clientLocal = "client-local"
    /// A node with few leaders.
    case balanced = "balanced"
}

/// Collects a kind's arguments and checks their ranges.
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

    /// A time as whole milliseconds.
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

    /// The arguments, with what the caller wants besides.
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

    /// Timers of RabbitMQ count to this many milliseconds, some 49 days.
    static let longestTimer: Int64 = 4_294_967_295
}

extension Duration {
    /// Whole milliseconds, rounded down; what does not fit is the largest number of its sign.
    var wholeMilliseconds: Int64 {
        let (seconds, attoseconds) = self.components
        let (product, overflows) = seconds.multipliedReportingOverflow(by: 1000)
        let (sum, carries) = product.addingReportingOverflow(attoseconds / 1_000_000_000_000_000)
        guard !overflows, !carries else { return seconds < 0 ? .min : .max }
        return sum
    }
}
