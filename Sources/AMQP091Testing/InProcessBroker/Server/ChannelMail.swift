// SPDX-License-Identifier: Apache-2.0
import DequeModule

// ChannelMail: what queues have sent to a channel and the channel has not passed on yet, under Options.disorderSeed.
//
// In RabbitMQ a queue is a process of its own. Its consume-ok, cancel-ok, deliveries and confirms reach the channel as
// messages: in order for one queue, in any order between queues, and later than the replies that the channel itself gives
// to requests it reads in the meantime. Here every queue has a box, and a seeded generator chooses the next one.
// Pure: no socket, clock or lock.

struct ChannelMail {
    enum Event {
        case deliver(QueueEntry, Consumer)
        case consumeOk(tag: String)
        case cancelOk(tag: String)
        /// The queue ended the consumer.
        case cancelled(Consumer)
        /// A consumer was late.
        case late(Consumer)
        /// A queue took a publish, or refused it.
        case settled(UInt64, isAccepted: Bool)
        /// A queue has a publish of a transaction.
        case committed
    }

    private struct Box {
        /// Nil for what no queue has to answer.
        let queue: ObjectIdentifier?
        var events = Deque<(event: Event, due: UInt64)>()
    }

    private var boxes: [Box] = []
    private(set) var count = 0
    private var generator: Generator

    /// Choices differ between channels, and are the same for the same seed, connection and channel.
    init(seed: UInt64, connection: Int, channel: UInt16) {
        self.generator = Generator(state: seed &+ UInt64(connection) << 32 &+ UInt64(channel) << 16)
    }

    var isEmpty: Bool { self.boxes.isEmpty }

    /// Adds an event of a queue, not to be passed on before `due`, monotonic nanoseconds.
    mutating func append(_ event: Event, from queue: BrokerQueue?, due: UInt64 = 0) {
        let key = queue.map { ObjectIdentifier($0) }
        self.count += 1
        guard let index = self.boxes.firstIndex(where: { $0.queue == key }) else {
            self.boxes.append(Box(queue: key, events: [(event, due)]))
            return
        }
        self.boxes[index].events.append((event, due))
    }

    /// How many events are passed on in one turn: often none.
    mutating func portion() -> Int { Int(self.generator.next() % 5) }

    /// How long until the next turn passes something on, in microseconds.
    mutating func pause() -> Int64 { Int64(self.generator.next() % 1500) }

    /// The next event of a queue chosen at random among those that have one due.
    mutating func next(now: UInt64) -> Event? {
        let ready = self.boxes.indices.filter { self.boxes[$0].events.first?.due ?? .max <= now }
        guard !ready.isEmpty else { return nil }
        let index = ready[Int(self.generator.next() % UInt64(ready.count))]
        let event = self.boxes[index].events.removeFirst().event
        self.count -= 1
        if self.boxes[index].events.isEmpty { self.boxes.remove(at: index) }
        return event
    }

    /// Takes everything, oldest first for each queue.
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
    /// Queues that have not answered, by publish.
    private var pending: [UInt64: (queues: Int, isAccepted: Bool)] = [:]
    private var accepted: [UInt64] = []
    private var refused: [UInt64] = []

    /// A publish was routed to so many queues.
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

    /// What is to be sent, merged as RabbitMQ merges it: one `multiple` below the oldest open publish, the others singly.
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
