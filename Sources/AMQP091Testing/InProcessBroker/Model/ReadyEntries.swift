// SPDX-License-Identifier: Apache-2.0
import DequeModule

// ReadyEntries: the ready messages of one queue, in delivery order. In a classic
// queue a requeued message returns to its old place, found by its sequence number. A quorum queue delivers requeued
// messages first, oldest return first.

/// One message in one queue.
struct QueueEntry {
    var message: Message
    /// Its place in the queue.
    var sequence: UInt64
    /// Its expiry in monotonic nanoseconds; .max for never.
    var expires: UInt64
    /// Number of returns that count towards the delivery limit.
    var returns: Int = 0
    /// Number of deliveries that were requeued.
    var acquisitions: Int = 0
    var isRedelivered = false
}

struct ReadyEntries {
    /// The order of messages.
    enum Order: Hashable {
        /// The oldest.
        case fifo
        /// The oldest of the highest priority; priorities above the maximum count as the maximum.
        case priorities(maximum: UInt8, default: UInt8)
        /// Two messages of a priority above 4, then one of the others if it is older than the next of the former.
        case twoLevels
    }

    private let order: Order
    private let returnsFirst: Bool
    /// One deque per priority; the last is the highest.
    private var levels: [Deque<QueueEntry>]
    /// Requeued messages, if they are delivered first.
    private var returned = Deque<QueueEntry>()
    /// Number of messages delivered since the last of low priority, for `twoLevels`.
    private var weight = 0
    private(set) var count = 0
    /// Total size of bodies in octets.
    private(set) var octets = 0

    init(_ order: Order, returnsFirst: Bool = false) {
        self.order = order
        self.returnsFirst = returnsFirst
        let count =
            switch order {
            case .fifo: 1
            case .priorities(let maximum, _): Int(maximum) + 1
            case .twoLevels: 2
            }
        self.levels = Array(repeating: [], count: count)
    }

    private func level(of message: Message) -> Int {
        switch self.order {
        case .fifo: return 0
        case .priorities(let maximum, let unset): return Int(min(maximum, message.header.priority ?? unset))
        case .twoLevels: return message.header.priority ?? 0 > 4 ? 1 : 0
        }
    }

    mutating func append(_ entry: QueueEntry) {
        self.levels[self.level(of: entry.message)].append(entry)
        self.counted(entry, 1)
    }

    /// Requeues entries: in a classic queue to their places, in a quorum queue before all others.
    mutating func restore(_ entries: some Sequence<QueueEntry>) {
        if self.returnsFirst {
            for entry in entries {
                self.returned.append(entry)
                self.counted(entry, 1)
            }
            return
        }
        for entry in entries.sorted(by: { $0.sequence > $1.sequence }) {
            let level = self.level(of: entry.message)
            self.counted(entry, 1)
            guard let first = self.levels[level].first, first.sequence < entry.sequence else {
                self.levels[level].prepend(entry)
                continue
            }
            var low = 0
            var high = self.levels[level].count
            while low < high {
                let middle = (low + high) / 2
                if self.levels[level][middle].sequence < entry.sequence { low = middle + 1 } else { high = middle }
            }
            self.levels[level].insert(entry, at: low)
        }
    }

    mutating func popFirst() -> QueueEntry? {
        if let entry = self.returned.popFirst() {
            self.counted(entry, -1)
            return entry
        }
        guard let level = self.nextLevel() else { return nil }
        let entry = self.levels[level].removeFirst()
        self.counted(entry, -1)
        return entry
    }

    private mutating func nextLevel() -> Int? {
        guard self.order == .twoLevels else { return self.levels.lastIndex { !$0.isEmpty } }
        let isLowDue = self.weight == 2
        self.weight = isLowDue ? 0 : self.weight + 1
        guard let high = self.levels[1].first else { return self.levels[0].isEmpty ? nil : 0 }
        guard let low = self.levels[0].first, isLowDue else { return 1 }
        return high.sequence < low.sequence ? 1 : 0
    }

    mutating func removeAll() -> [QueueEntry] {
        defer {
            self.levels = Array(repeating: [], count: self.levels.count)
            self.returned = []
            self.count = 0
            self.octets = 0
        }
        // An array made of an empty Deque writes its count, 0, into the empty array that all threads share.
        return self.returned.map { $0 } + self.levels.reversed().flatMap { $0 }
    }

    private mutating func counted(_ entry: QueueEntry, _ sign: Int) {
        self.count += sign
        self.octets += sign * entry.message.header.bodyCount
    }

    /// The earliest expiry of the heads, which alone can expire.
    var nextExpiry: UInt64 {
        self.levels.reduce(self.returned.first?.expires ?? .max) { min($0, $1.first?.expires ?? .max) }
    }

    /// Removes and returns expired heads.
    mutating func popExpired(now: UInt64) -> QueueEntry? {
        if let first = self.returned.first, first.expires <= now {
            self.returned.removeFirst()
            self.counted(first, -1)
            return first
        }
        for level in self.levels.indices {
            if let first = self.levels[level].first, first.expires <= now {
                self.levels[level].removeFirst()
                self.counted(first, -1)
                return first
            }
        }
        return nil
    }
}
