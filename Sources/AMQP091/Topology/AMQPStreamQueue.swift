// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire
import EpollConcurrency

// AMQPStreamQueue: the options of RabbitMQ's streams, and the start offset of a consumer.
// A stream keeps messages until a limit removes the oldest segment; reading removes nothing. Its consumers need
// a prefetch and manual acknowledgement.

/// A stream: a log that many consumers read, each from its own offset.
public struct AMQPStreamQueue: AMQPQueueKind {
    /// Always true.
    public var isDurable: Bool { true }
    /// Always false.
    public var isExclusive: Bool { false }
    /// Always false.
    public var isAutoDelete: Bool { false }
    /// Maximum age of messages, whole seconds, 1 or more; nil for no limit.
    public var maximumAge: Duration?
    /// Maximum size in octets; nil for no limit.
    public var maximumOctets: Int?
    /// Size of a segment file on the broker's disk in octets, 1...; nil for the broker's default.
    public var maximumSegmentOctets: Int?
    /// Size of the filter of each chunk in octets, 16...255; nil for the broker's default.
    ///
    /// RabbitMQ 3.13 or later, with the feature flag `stream_filtering`; earlier versions ignore it.
    public var filterOctets: Int?
    /// Initial number of members, 1...; nil for the broker's default.
    public var initialClusterSize: Int?
    /// Placement of the leader in a cluster; nil for the broker's default.
    public var leaderLocator: AMQPLeaderLocator?
    /// Additional arguments of the broker or its plugins; they override the options above.
    public var additionalArguments: FieldTable = [:]

    /// Creates a stream without limits.
    public init() {}

    /// Returns the options as arguments of `queue.declare`.
    ///
    /// - Throws: ``AMQPError`` with code `.invalidArgument` that names an option outside its range, and the range.
    public func arguments() throws(AMQPError) -> FieldTable {
        var arguments = QueueArguments("stream")
        if let maximumAge = self.maximumAge {
            let seconds = maximumAge.saturated.components.seconds
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
    /// Returns a stream; each option is the property of ``AMQPStreamQueue`` of the same name.
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

/// The start offset of a stream consumer (`x-stream-offset`).
public enum AMQPStreamOffset: Hashable, Sendable {
    /// The oldest message.
    case first
    /// The last chunk written.
    case last
    /// Messages published from now on; RabbitMQ's default.
    case next
    /// The message of this offset.
    case offset(UInt64)
    /// The first chunk of about this time, seconds since 1970.
    case timestamp(UInt64)
    /// The first chunk of about this long ago, whole seconds.
    case ago(Duration)

    /// The value on the wire.
    var fieldValue: FieldValue {
        switch self {
        case .first: "first"
        case .last: "last"
        case .next: "next"
        case .offset(let offset): .int64(Int64(clamping: offset))
        case .timestamp(let seconds): .timestamp(seconds)
        case .ago(let time): .string("\(max(time.saturated.components.seconds, 0))s")
        }
    }
}
