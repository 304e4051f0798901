// SPDX-License-Identifier: Apache-2.0

// TimerQueue: what is due when. A binary heap with an index, so that cancelling costs what scheduling costs.
// Pure: "now" is an argument; no clock, no thread. The loop asks when to wake and takes what is due.
// Inlinable, so that a loop's queue is specialised in its own module.
// Timers of one deadline fire in the order they were scheduled.
//
//   heap:  [deadline, order, slot] ... smallest first        slots:  [generation, position in heap, payload]

/// Names a scheduled timer; stale once it fired or was cancelled.
@frozen @usableFromInline package struct TimerID: Hashable, Sendable {
    @usableFromInline let slot: UInt32
    @usableFromInline let generation: UInt32

    @inlinable init(slot: UInt32, generation: UInt32) {
        self.slot = slot
        self.generation = generation
    }
}

@frozen @usableFromInline package struct TimerQueue<Payload> {
    @frozen @usableFromInline struct Entry {
        @usableFromInline var deadline: MonotonicTime
        @usableFromInline var order: UInt64
        @usableFromInline var slot: Int

        @inlinable init(deadline: MonotonicTime, order: UInt64, slot: Int) {
            self.deadline = deadline
            self.order = order
            self.slot = slot
        }

        @inlinable func isBefore(_ other: Entry) -> Bool {
            self.deadline == other.deadline ? self.order < other.order : self.deadline < other.deadline
        }
    }

    @frozen @usableFromInline struct Slot {
        @usableFromInline var generation: UInt32 = 0
        @usableFromInline var position: Int = 0
        @usableFromInline var payload: Payload?

        @inlinable init() {}
    }

    @usableFromInline var heap: [Entry] = []
    @usableFromInline var slots: [Slot] = []
    @usableFromInline var freeSlots: [Int] = []
    @usableFromInline var nextOrder: UInt64 = 0

    @inlinable package init() {}

    @inlinable package var isEmpty: Bool { self.heap.isEmpty }
    @inlinable package var count: Int { self.heap.count }

    /// When the next timer is due.
    @inlinable package var nextDeadline: MonotonicTime? { self.heap.first?.deadline }

    @inlinable package mutating func schedule(_ payload: Payload, at deadline: MonotonicTime) -> TimerID {
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
    @inlinable package mutating func cancel(_ id: TimerID) -> Payload? {
        let slot = Int(id.slot)
        guard slot < self.slots.count, self.slots[slot].generation == id.generation else { return nil }
        return self.remove(at: self.slots[slot].position)
    }

    /// Takes the earliest timer that is due at `now`.
    @inlinable package mutating func popDue(at now: MonotonicTime) -> Payload? {
        guard let first = self.heap.first, first.deadline <= now else { return nil }
        return self.remove(at: 0)
    }

    @inlinable mutating func remove(at position: Int) -> Payload? {
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

    @inlinable mutating func moveUp(_ start: Int) {
        var position = start
        while position > 0 {
            let parent = (position - 1) / 2
            guard self.heap[position].isBefore(self.heap[parent]) else { return }
            self.swapEntries(position, parent)
            position = parent
        }
    }

    @inlinable mutating func moveDown(_ start: Int) {
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

    @inlinable mutating func swapEntries(_ left: Int, _ right: Int) {
        self.heap.swapAt(left, right)
        self.slots[self.heap[left].slot].position = left
        self.slots[self.heap[right].slot].position = right
    }
}
