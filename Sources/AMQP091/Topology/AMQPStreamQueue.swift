// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPStreamQueue: the options of RabbitMQ's streams, and where in a stream a consumer begins.
// A stream keeps what it was given until a limit takes the oldest segment; reading removes nothing. Its consumers need
// a prefetch and settle by hand.

/// A stream: a log that many consumers read, each from where it likes.
public struct AMQPStreamQueue: AMQPQueueKind {
    /// Always true.
    public var isDurable: Bool { true }
    /// Always false.
    public var isExclusive: Bool { false }
    /// Always false.
    public var isAutoDelete: Bool { false }
    /// How long messages stay, whole seconds, 1 or more; nil for ever.
    public var maximumAge: Duration?
    /// Octets it keeps at most; nil for no limit.
    public var maximumOctets: Int?
    /// Octets of one file on the broker's disk, 1...; nil for the broker's default.
    public var maximumSegmentOctets: Int?
    /// Octets of the filter in each chunk, 16...255; nil for the broker's default.
    ///
    /// RabbitMQ 3.13 or later, with the feature flag `stream_filtering`; earlier versions ignore it.
    public var filterOctets: Int?
    /// Members to begin with, 1...; nil for the broker's default.
    public var initialClusterSize: Int?
    /// Where in a cluster its leader goes; nil for the broker's default.
    public var leaderLocator: AMQPLeaderLocator?
    /// Any other argument of the broker or its plugins; it wins over the options above.
    public var additionalArguments: FieldTable = [:]

    /// A stream without limits.
    public init() {}

    /// The options as the broker's arguments.
    ///
    /// - Throws: ``AMQPError`` with code `.invalidArgument` that names an option outside its range, and the range.
    public func arguments() throws(AMQPError) -> FieldTable {
        var arguments = QueueArguments("stream")
        if let maximumAge = self.maximumAge {
            let seconds = maximumAge.components.seconds
            try QueueArguments.check("x-max-age", seconds, 1...Int64.max, unit: " s")
            arguments.set("x-max-age", "\(seconds)s")
        }
        try arguments.set("x-max-length-bytes", self.maximumOctets, in: 0...Int64.max)
        try arguments.set("x-stream-max-segment-size-bytes", self.maximumSegmentOctets, in: 1...Int64.max)
        try arguments.set("x-stream-filter-size-bytes", self.filterOctets, in: 16...255)
        try arguments.set("x-initial-cluster-size", self.initialClusterSize, in: 1...Int64.max)
        arguments.set("x-queue-leader-locator", self.leaderLocator?.rawValue)
        return arguments.with(self.additionalArguments)
    }
}

extension AMQPQueueKind where Self == AMQPStreamQueue {
    /// A stream; each option is the property of ``AMQPStreamQueue`` of the same name.
    public static func stream(
        maximumAge: Duration? = nil,
        maximumOctets: Int? = nil,
        maximumSegmentOctets: Int? = nil,
        additionalArguments: FieldTable = [:]
    ) -> AMQPStreamQueue {
        var queue = AMQPStreamQueue()
        queue.maximumAge = maximumAge
        queue.maximumOctets = maximumOctets
        queue.maximumSegmentOctets = maximumSegmentOctets
        queue.additionalArguments = additionalArguments
        return queue
    }
}

/// Where in a stream a consumer begins (`x-stream-offset`).
public enum AMQPStreamOffset: Hashable, Sendable {
    /// The oldest message there is.
    case first
    /// The last chunk written.
    case last
    /// What is published from now on; RabbitMQ's default.
    case next
    /// The message of this offset.
    case offset(UInt64)
    /// The first message of about this time, seconds since 1970.
    case timestamp(UInt64)
    /// This long ago, whole seconds.
    case ago(Duration)

    /// The value on the wire.
    var fieldValue: FieldValue {
        switch self {
        case .first: "first"
        case .last: "last"
        case .next: "next"
        case .offset(let offset): .int64(Int64(clamping: offset))
        case .timestamp(let seconds): .timestamp(seconds)
        case .ago(let time): .string("\(max(time.components.seconds, 0))s")
        }
    }
}
