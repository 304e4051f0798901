// SPDX-License-Identifier: Apache-2.0
import DequeModule

// ChannelMail: events of queues that a channel has not forwarded yet, with Options.disorderSeed.
//
// In RabbitMQ each queue is a process. Its consume-ok, cancel-ok, deliveries and confirms reach the channel as
// messages: in order for one queue, in any order between queues, and later than the channel's own replies
// to requests that it reads meanwhile. Here every queue has a mailbox, and a seeded generator chooses the next one.
// Pure: no socket, clock or lock.

struct ChannelMail {
    enum Event {
        case deliver(QueueEntry, Consumer)
        case consumeOk(tag: String)
        case cancelOk(tag: String)
        /// The queue cancelled the consumer.
        case cancelled(Consumer)
        /// A consumer timed out.
        case late(Consumer)
        /// A queue accepted or refused a publish.
        case settled(UInt64, isAccepted: Bool)
        /// A queue has a publish of a transaction.
        case committed
    }

    private struct Box {
        /// Nil for events without a queue.
        let queue: ObjectIdentifier?
        var events = Deque<(event: Event, due: UInt64)>()
    }

    private var boxes: [Box] = []
    private(set) var count = 0
    private var generator: Generator

    /// Choices differ between channels, and are equal for the same seed, connection and channel.
    init(seed: UInt64, connection: Int, channel: UInt16) {
        self.generator = Generator(state: seed &+ UInt64(connection) << 32 &+ UInt64(channel) << 16)
    }

    var isEmpty: Bool { self.boxes.isEmpty }

    /// Adds an event of a queue, to be forwarded at `due` or later, in monotonic nanoseconds.
    mutating func append(_ event: Event, from queue: BrokerQueue?, due: UInt64 = 0) {
        let key = queue.map { ObjectIdentifier($0) }
        self.count += 1
        guard let index = self.boxes.firstIndex(where: { $0.queue == key }) else {
            self.boxes.append(Box(queue: key, events: [(event, due)]))
            return
        }
        self.boxes[index].events.append((event, due))
    }

    /// Chooses the number of events to forward in one turn, often none.
    mutating func portion() -> Int { Int(self.generator.next() % 5) }

    /// Chooses the time until the next turn forwards events, in microseconds.
    mutating func pause() -> Int64 { Int64(self.generator.next() % 1500) }

    /// Removes and returns the next event of a random queue with a due event.
    mutating func next(now: UInt64) -> Event? {
        let ready = self.boxes.indices.filter { self.boxes[$0].events.first?.due ?? .max <= now }
        guard !ready.isEmpty else { return nil }
        let index = ready[Int(self.generator.next() % UInt64(ready.count))]
        let event = self.boxes[index].events.removeFirst().event
        self.count -= 1
        if self.boxes[index].events.isEmpty { self.boxes.remove(at: index) }
        return event
    }

    /// Removes and returns all events, oldest first for each queue.
    mutating func removeAll() -> [Event] {
        defer {
            self.boxes = []
            self.count = 0
        }
        return self.boxes.flatMap { $0.events.map(\.event) }
    }

    /// SplitMix64.
    private struct Generator {
        var state: UInt64

        mutating func next() -> UInt64 {
            self.state &+= 0x9e37_79b9_7f4a_7c15
            var value = self.state
            value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
            value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
            return value ^ value >> 31
        }
    }
}

/// Confirms of publishes whose queues answer out of order.
struct DisorderedConfirms {
    /// Number of queues that have not answered, by publish.
    private var pending: [UInt64: (queues: Int, isAccepted: Bool)] = [:]
    private var accepted: [UInt64] = []
    private var refused: [UInt64] = []

    /// Records a publish that was routed to this number of queues.
    mutating func published(_ tag: UInt64, queues: Int, isAccepted: Bool = true) {
        if queues > 0 {
            self.pending[tag] = (queues, isAccepted)
        } else if isAccepted {
            self.accepted.append(tag)
        } else {
            self.refused.append(tag)
        }
    }

    mutating func settled(_ tag: UInt64, isAccepted: Bool) {
        guard let (queues, wasAccepted) = self.pending[tag] else { return }
        let isAccepted = isAccepted && wasAccepted
        if queues > 1 {
            self.pending[tag] = (queues - 1, isAccepted)
        } else {
            self.pending[tag] = nil
            if isAccepted { self.accepted.append(tag) } else { self.refused.append(tag) }
        }
    }

    /// One confirm to send.
    struct Confirm: Hashable {
        let tag: UInt64
        let multiple: Bool
        let isAccepted: Bool
    }

    /// Returns the confirms to send, merged as RabbitMQ does: one `multiple` below the oldest open publish, others singly.
    mutating func take() -> [Confirm] {
        defer {
            self.accepted = []
            self.refused = []
        }
        return Self.merged(self.accepted, other: self.refused, self.pending.keys.min(), isAccepted: true)
            + Self.merged(self.refused, other: self.accepted, self.pending.keys.min(), isAccepted: false)
    }

    private static func merged(_ tags: [UInt64], other: [UInt64], _ open: UInt64?, isAccepted: Bool) -> [Confirm] {
        guard tags.count > 1 else { return tags.map { Confirm(tag: $0, multiple: false, isAccepted: isAccepted) } }
        let bound = min(open ?? .max, other.min() ?? .max)
        let sorted = tags.sorted()
        let below = sorted.prefix { $0 < bound }
        let first = below.last.map { [Confirm(tag: $0, multiple: true, isAccepted: isAccepted)] } ?? []
        return first
            + sorted.dropFirst(below.count).map { Confirm(tag: $0, multiple: false, isAccepted: isAccepted) }
    }
}
