// SPDX-License-Identifier: Apache-2.0

// ChannelTable: the states of a connection's channels, each in a slot that belongs to one opening of a channel for as long
// as anything refers to that opening. So a state is found without a search, an earlier opening of the same number keeps
// its ended state, and a state is never copied.
// Inside the connection's lock (ConnectionLock). Not here: which channel has a number (ConnectionState.sessions).
// Unsafe: the states stand in memory of the table, which it alone addresses. Slots below `count` are initialised.

struct ChannelTable: ~Copyable {
    /// The place of one opening of a channel.
    struct Slot: Hashable, Sendable {
        fileprivate let index: Int
    }

    private var states: UnsafeMutablePointer<ChannelState>
    private var capacity: Int
    private var count = 0
    private var free: [Slot] = []

    init() {
        self.capacity = 2
        self.states = .allocate(capacity: self.capacity)
    }

    deinit {
        self.states.deinitialize(count: self.count)
        self.states.deallocate()
    }

    subscript(slot: Slot) -> ChannelState {
        @inline(__always) _read {
            precondition(slot.index < self.count)
            yield self.states[slot.index]
        }
        @inline(__always) _modify {
            precondition(slot.index < self.count)
            yield &self.states[slot.index]
        }
    }

    mutating func add(_ state: consuming ChannelState) -> Slot {
        if let slot = self.free.popLast() {
            self.states[slot.index] = state
            return slot
        }
        if self.count == self.capacity { self.grow() }
        (self.states + self.count).initialize(to: state)
        self.count += 1
        return Slot(index: self.count - 1)
    }

    /// Frees the slot; its state is destroyed when the slot is used again.
    mutating func remove(_ slot: Slot) { self.free.append(slot) }

    private mutating func grow() {
        let larger = UnsafeMutablePointer<ChannelState>.allocate(capacity: self.capacity * 2)
        larger.moveInitialize(from: self.states, count: self.count)
        self.states.deallocate()
        self.states = larger
        self.capacity *= 2
    }
}
