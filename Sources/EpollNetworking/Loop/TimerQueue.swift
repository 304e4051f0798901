// SPDX-License-Identifier: Apache-2.0

// TimerQueue: what is due when. A binary heap with an index, so that cancelling costs what scheduling costs.
// Pure: "now" is an argument; no clock, no thread. The loop asks when to wake and takes what is due.
// Timers of one deadline fire in the order they were scheduled.
//
//   heap:  [deadline, order, slot] ... smallest first        slots:  [generation, position in heap, payload]

/// Names a scheduled timer; stale once it fired or was cancelled.
package struct TimerID: Hashable, Sendable {
    let slot: UInt32
    let generation: UInt32
}

package struct TimerQueue<Payload> {
    private struct Entry {
        var deadline: MonotonicTime
        var order: UInt64
        var slot: Int

        func isBefore(_ other: Entry) -> Bool {
            self.deadline == other.deadline ? self.order < other.order : self.deadline < other.deadline
        }
    }

    private struct Slot {
        var generation: UInt32 = 0
        var position: Int = 0
        var payload: Payload?
    }

    private var heap: [Entry] = []
    private var slots: [Slot] = []
    private var freeSlots: [Int] = []
    private var nextOrder: UInt64 = 0

    package init() {}

    package var isEmpty: Bool { self.heap.isEmpty }
    package var count: Int { self.heap.count }

    /// When the next timer is due.
    package var nextDeadline: MonotonicTime? { self.heap.first?.deadline }

    package mutating func schedule(_ payload: Payload, at deadline: MonotonicTime) -> TimerID {
        let slot: Int
        if let free = self.freeSlots.popLast() {
            slot = free
        } else {
            slot = self.slots.count
            self.slots.append(Slot())
        }
        self.slots[slot].payload = payload
        self.heap.append(Entry(deadline: deadline, order: self.nextOrder, slot: slot))
        self.nextOrder &+= 1
        self.slots[slot].position = self.heap.count - 1
        self.moveUp(self.heap.count - 1)
        return TimerID(slot: UInt32(slot), generation: self.slots[slot].generation)
    }

    /// Forgets a timer.
    ///
    /// Answers its payload, or nil when it fired or was cancelled before.
    @discardableResult
    package mutating func cancel(_ id: TimerID) -> Payload? {
        let slot = Int(id.slot)
        guard slot < self.slots.count, self.slots[slot].generation == id.generation else { return nil }
        return self.remove(at: self.slots[slot].position)
    }

    /// Takes the earliest timer that is due at `now`.
    package mutating func popDue(at now: MonotonicTime) -> Payload? {
        guard let first = self.heap.first, first.deadline <= now else { return nil }
        return self.remove(at: 0)
    }

    private mutating func remove(at position: Int) -> Payload? {
        let removed = self.heap[position]
        let last = self.heap.removeLast()
        if position < self.heap.count {
            self.heap[position] = last
            self.slots[last.slot].position = position
            self.moveDown(position)
            self.moveUp(position)
        }
        let payload = self.slots[removed.slot].payload.take()
        self.slots[removed.slot].generation &+= 1
        self.freeSlots.append(removed.slot)
        return payload
    }

    private mutating func moveUp(_ start: Int) {
        var position = start
        while position > 0 {
            let parent = (position - 1) / 2
            guard self.heap[position].isBefore(self.heap[parent]) else { return }
            self.swapEntries(position, parent)
            position = parent
        }
    }

    private mutating func moveDown(_ start: Int) {
        var position = start
        while true {
            var smallest = position
            for child in [2 * position + 1, 2 * position + 2]
            where child < self.heap.count && self.heap[child].isBefore(self.heap[smallest]) {
                smallest = child
            }
            if smallest == position { return }
            self.swapEntries(position, smallest)
            position = smallest
        }
    }

    private mutating func swapEntries(_ left: Int, _ right: Int) {
        self.heap.swapAt(left, right)
        self.slots[self.heap[left].slot].position = left
        self.slots[self.heap[right].slot].position = right
    }
}
