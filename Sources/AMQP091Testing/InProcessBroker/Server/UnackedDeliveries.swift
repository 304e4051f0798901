// SPDX-License-Identifier: Apache-2.0
import DequeModule

// UnackedDeliveries: the unacknowledged deliveries of one channel, by delivery tag. Tags only grow, so the oldest is
// first; one settled out of order leaves a gap that is removed when it reaches the front.

struct UnackedDelivery {
    let tag: UInt64
    let entry: QueueEntry
    let queue: BrokerQueue
    /// Nil for a message taken with `basic.get`.
    let consumer: Consumer?
    /// The time of delivery in monotonic nanoseconds.
    var deliveredAt: UInt64 = 0
    /// True if it timed out and its message was requeued.
    var isLate = false
}

struct UnackedDeliveries {
    private struct Slot {
        let tag: UInt64
        var delivery: UnackedDelivery?
    }

    private var slots = Deque<Slot>()
    private(set) var count = 0

    mutating func append(_ delivery: UnackedDelivery) {
        self.slots.append(Slot(tag: delivery.tag, delivery: delivery))
        self.count += 1
    }

    /// Removes one; nil if it does not exist.
    mutating func take(_ tag: UInt64) -> UnackedDelivery? {
        if let first = self.slots.first, first.tag == tag {
            self.slots.removeFirst()
            defer { self.trim() }
            if first.delivery != nil { self.count -= 1 }
            return first.delivery
        }
        var low = 0
        var high = self.slots.count
        while low < high {
            let middle = (low + high) / 2
            if self.slots[middle].tag < tag { low = middle + 1 } else { high = middle }
        }
        guard low < self.slots.count, self.slots[low].tag == tag, let found = self.slots[low].delivery.take() else {
            return nil
        }
        self.count -= 1
        return found
    }

    /// Removes all up to and including a tag, oldest first.
    mutating func take(upTo tag: UInt64, _ body: (UnackedDelivery) -> Void) {
        while let first = self.slots.first, first.tag <= tag {
            self.slots.removeFirst()
            guard let delivery = first.delivery else { continue }
            self.count -= 1
            body(delivery)
        }
        self.trim()
    }

    /// Calls `body` with every delivery, oldest first.
    func forEach(_ body: (UnackedDelivery) -> Void) {
        for slot in self.slots { if let delivery = slot.delivery { body(delivery) } }
    }

    /// Marks deliveries as timed out.
    mutating func markLate(_ isLate: (UnackedDelivery) -> Bool) {
        for index in self.slots.indices {
            if let delivery = self.slots[index].delivery, isLate(delivery) { self.slots[index].delivery?.isLate = true }
        }
    }

    /// Restores removed deliveries, as a rollback does.
    mutating func restore(_ deliveries: [UnackedDelivery]) {
        var all = self.slots.compactMap(\.delivery) + deliveries
        all.sort { $0.tag < $1.tag }
        self.slots = Deque(all.map { Slot(tag: $0.tag, delivery: $0) })
        self.count = all.count
    }

    private mutating func trim() {
        while let first = self.slots.first, first.delivery == nil { self.slots.removeFirst() }
    }
}
