// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Consumer: one consumer of one queue, and the destination of its deliveries.
// Unsafe: the reference to the sink is unowned; a channel removes its consumers before it ends.

/// The destination of deliveries: a channel.
protocol DeliverySink: AnyObject {
    /// True if the channel's limit and the connection's buffer have room for a delivery.
    func hasRoom(for consumer: Consumer) -> Bool
    func deliver(_ entry: QueueEntry, to consumer: Consumer)
    /// Called when the queue was deleted, and the consumer with it.
    func cancelled(_ consumer: Consumer)
}

final class Consumer {
    let tag: String
    let queue: BrokerQueue
    let isAutomatic: Bool
    let isExclusive: Bool
    let priority: Int64
    /// Maximum number of unacknowledged deliveries; 0 for no limit.
    let prefetch: Int
    let arguments: FieldTable
    unowned let sink: any DeliverySink
    var unacknowledged = 0
    /// Acknowledgement timeout in milliseconds from its arguments, if any.
    let timeout: UInt64?
    /// Number of timed-out deliveries that are not settled yet.
    var lateDeliveries = 0
    /// The consumer tag as a short string, with which the arguments of every delivery begin.
    let tagOctets: [UInt8]

    init(
        tag: String,
        queue: BrokerQueue,
        isAutomatic: Bool,
        isExclusive: Bool,
        priority: Int64,
        prefetch: Int,
        arguments: FieldTable,
        timeout: UInt64? = nil,
        sink: any DeliverySink
    ) {
        self.tag = tag
        self.queue = queue
        self.isAutomatic = isAutomatic
        self.isExclusive = isExclusive
        self.priority = priority
        self.prefetch = isAutomatic ? 0 : prefetch
        self.arguments = arguments
        self.timeout = timeout
        self.sink = sink
        self.tagOctets = [UInt8(clamping: tag.utf8.count)] + tag.utf8.prefix(255)
    }

    var isReady: Bool {
        self.lateDeliveries == 0 && (self.prefetch == 0 || self.unacknowledged < self.prefetch)
            && self.sink.hasRoom(for: self)
    }
}

/// The consumers of one queue: highest priority first, round robin within a priority.
struct ConsumerList {
    private struct Group {
        let priority: Int64
        var consumers: [Consumer]
        var turn = 0
    }

    private var groups: [Group] = []
    /// In order of arrival: the first is the single active consumer.
    private(set) var all: [Consumer] = []

    var isEmpty: Bool { self.all.isEmpty }
    var count: Int { self.all.count }

    mutating func add(_ consumer: Consumer) {
        self.all.append(consumer)
        if let index = self.groups.firstIndex(where: { $0.priority == consumer.priority }) {
            self.groups[index].consumers.append(consumer)
        } else {
            let index = self.groups.firstIndex { $0.priority < consumer.priority } ?? self.groups.count
            self.groups.insert(Group(priority: consumer.priority, consumers: [consumer]), at: index)
        }
    }

    /// The latest single active consumer.
    mutating func putLast(_ consumer: Consumer) {
        guard let index = self.all.firstIndex(where: { $0 === consumer }) else { return }
        self.all.append(self.all.remove(at: index))
    }

    mutating func remove(_ consumer: Consumer) {
        self.all.removeAll { $0 === consumer }
        for index in self.groups.indices {
            self.groups[index].consumers.removeAll { $0 === consumer }
        }
        self.groups.removeAll { $0.consumers.isEmpty }
    }

    mutating func next(singleActive: Bool) -> Consumer? {
        if singleActive || self.all.count == 1 {
            guard let first = self.all.first(where: { $0.lateDeliveries == 0 }), first.isReady else { return nil }
            return first
        }
        for index in self.groups.indices {
            let count = self.groups[index].consumers.count
            for step in 0..<count {
                let candidate = (self.groups[index].turn + step) % count
                guard self.groups[index].consumers[candidate].isReady else { continue }
                self.groups[index].turn = (candidate + 1) % count
                return self.groups[index].consumers[candidate]
            }
        }
        return nil
    }
}
