// SPDX-License-Identifier: Apache-2.0

// DueQueue: which of many is due next: a binary heap of times. Pure. Of those due at the same time any may be first.

/// Numbers by when they are due.
struct DueQueue: Sendable {
    private var heap: [(due: UInt64, index: Int)] = []

    /// The one that is due next; nil for none.
    var first: (due: UInt64, index: Int)? { self.heap.first }

    /// Adds a number.
    mutating func insert(_ index: Int, at due: UInt64) {
        var place = self.heap.count
        self.heap.append((due, index))
        while place > 0 {
            let parent = (place - 1) / 2
            guard self.heap[place].due < self.heap[parent].due else { return }
            self.heap.swapAt(place, parent)
            place = parent
        }
    }

    /// Takes the one that is due next out.
    mutating func removeFirst() {
        guard let last = self.heap.popLast(), !self.heap.isEmpty else { return }
        self.heap[0] = last
        self.sink()
    }

    /// Gives the one that is due next another time.
    mutating func moveFirst(to due: UInt64) {
        guard !self.heap.isEmpty else { return }
        self.heap[0].due = due
        self.sink()
    }

    private mutating func sink() {
        var place = 0
        while true {
            var least = place
            for child in [2 * place + 1, 2 * place + 2]
            where child < self.heap.count && self.heap[child].due < self.heap[least].due {
                least = child
            }
            if least == place { return }
            self.heap.swapAt(place, least)
            place = least
        }
    }
}
