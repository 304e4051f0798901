// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Differences between releases of RabbitMQ, one rule per property. A release between two tested ones has the rules
// of the earlier one, unless the release notes name the release with the change.

extension InProcessBroker.RabbitMQVersion {
    private static let v4 = RabbitMQVersion(major: 4, minor: 0)
    private static let v4_1 = RabbitMQVersion(major: 4, minor: 1)
    private static let v4_3_0 = RabbitMQVersion(major: 4, minor: 3)

    // MARK: exchanges

    /// The reply code for an unknown exchange type: 503 closes the connection, 406 the channel.
    var unknownExchangeTypeCode: ReplyCode { self < Self.v4 ? .commandInvalid : .preconditionFailed }

    /// Exchange types beyond those of AMQP 0-9-1.
    func has(_ kind: ExchangeKind) -> Bool {
        switch kind {
        case .direct, .fanout, .topic, .headers: true
        case .localRandom: self >= Self.v4
        case .modulusHash: self >= Self.v4_3_0
        }
    }

    // MARK: messages

    /// Header tables of messages are sorted by name, and the first field of each name is kept.
    var sortsHeaders: Bool { self >= Self.v4 }
    /// Deaths are counted by the broker; an `x-death` that a client publishes is a header like any other.
    var ignoresPublishedDeaths: Bool { self >= Self.v4 }
    /// Dead letters carry `x-last-death-*`.
    var tellsLastDeath: Bool { self >= Self.v4 }
    /// The header CC is removed from dead letters whose queue sets another key.
    var removesCopiesFromDeadLetters: Bool { self < Self.v4 }
    /// Largest body in octets, unless configured otherwise.
    var maximumMessageSize: Int { self < Self.v4 ? 128 << 20 : 16 << 20 }
    /// A content header that announces more octets closes the connection; nil for no such limit.
    var maximumContentSize: Int? { self < Self.v4_3_0 ? nil : 512 << 20 }

    // MARK: queues

    /// Queues that are neither durable nor exclusive are refused.
    var refusesTransientQueues: Bool { self >= Self.v4_3_0 }
    /// The arguments of two declarations of a queue, to be compared: a classic queue may be declared without its type.
    func withQueueTypes(_ old: FieldTable, _ new: FieldTable) -> (FieldTable, FieldTable) {
        var (old, new) = (old, new)
        let key = "x-queue-type"
        if self >= Self.v4 {
            old[key] = old[key] ?? "classic"
            new[key] = new[key] ?? "classic"
        } else if old[key] ?? "classic" == new[key] ?? "classic" {
            (old[key], new[key]) = (nil, nil)
        }
        return (old, new)
    }
    /// Default delivery limit of a quorum queue.
    var defaultDeliveryLimit: Int? { self < Self.v4 ? nil : 20 }
    /// A negative `x-delivery-limit` means none; before, a message is dropped at its first return.
    var allowsNoDeliveryLimit: Bool { self >= Self.v4 }
    /// `basic.nack` and `basic.recover` count towards `x-delivery-limit`, like `basic.reject`.
    var countsNacks: Bool { self < Self.v4_3_0 }
    /// Quorum queues add `x-acquired-count`.
    var tellsAcquiredCount: Bool { self >= Self.v4_3_0 }
    /// Quorum queues add `x-delivery-count` to a message that `basic.get` takes for the first time.
    var tellsZeroDeliveryCount: Bool { self < Self.v4 }
    /// A quorum queue without a limit appends requeued messages.
    var appendsReturnsWithoutLimit: Bool { self < Self.v4 }
    /// The order of priorities in quorum queues.
    var quorumPriorities: ReadyEntries.Order {
        self < Self.v4 ? .fifo : self < Self.v4_3_0 ? .twoLevels : .priorities(maximum: 31, default: 4)
    }

    // MARK: consumers

    /// `basic.qos` with `global` counts all deliveries of a channel; later releases ignore `global`.
    var hasGlobalPrefetch: Bool { self < Self.v4_3_0 }
    /// A late acknowledgement cancels the consumer of a quorum queue; before, it closes the channel.
    var cancelsLateConsumers: Bool { self >= Self.v4_3_0 }

    // MARK: connections

    /// Largest payload of a frame before `connection.tune-ok`, in octets.
    var maximumLoginPayload: Int { self < Self.v4_1 ? 4096 : 8192 }

    /// Returns the arguments that queues of a type refuse.
    func refusedArguments(isQuorum: Bool) -> [String] {
        let streams = ["x-max-age", "x-initial-cluster-size", "x-stream-max-segment-size-bytes"]
        if isQuorum { return ["x-max-priority", "x-queue-mode", "x-queue-version"] + streams }
        let quorum = [
            "x-delivery-limit", "x-dead-letter-strategy", "x-quorum-initial-group-size", "x-max-in-memory-length",
            "x-max-in-memory-bytes",
        ]
        let locator = self < Self.v4 ? ["x-queue-leader-locator"] : []
        let timeouts = [
            "x-consumer-timeout", "x-consumer-disconnected-timeout", "x-delayed-retry-type", "x-delayed-retry-min",
            "x-delayed-retry-max",
        ]
        return quorum + streams + locator + (self < Self.v4_3_0 ? [] : timeouts)
    }
}
