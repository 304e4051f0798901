// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@testable import AMQP091Testing

// EntriesModelTests: what a queue has ready and what a channel holds, against lists that do the same slowly.

@Suite("Model of the in-process broker: entries")
struct EntriesModelTests {
    private static func entry(_ sequence: UInt64, priority: UInt8 = 0, expires: UInt64 = .max) -> QueueEntry {
        QueueEntry(message: .text("\(sequence)", priority: priority), sequence: sequence, expires: expires)
    }

    private static func drain(_ entries: inout ReadyEntries) -> [UInt64] {
        var found: [UInt64] = []
        while let entry = entries.popFirst() { found.append(entry.sequence) }
        return found
    }

    struct PriorityRow: CustomTestStringConvertible, Sendable {
        let maximum: UInt8?
        let priorities: [UInt8]
        let order: [UInt64]
        var testDescription: String { "\(self.maximum.map { "\($0)" } ?? "none"): \(self.priorities)" }
    }

    static let priorities = [
        PriorityRow(maximum: nil, priorities: [0, 9, 5], order: [0, 1, 2]),
        PriorityRow(maximum: 0, priorities: [0, 9, 5], order: [0, 1, 2]),
        PriorityRow(maximum: 9, priorities: [0, 9, 5, 9], order: [1, 3, 2, 0]),
        PriorityRow(maximum: 3, priorities: [2, 9, 3, 255], order: [1, 2, 3, 0]),
        PriorityRow(maximum: 255, priorities: [254, 255, 0], order: [1, 0, 2]),
    ]

    @Test("The highest priority comes first, the oldest first within one", arguments: priorities)
    func priority(_ row: PriorityRow) {
        var entries = ReadyEntries(row.maximum.map { .priorities(maximum: $0, default: 0) } ?? .fifo)
        for (index, priority) in row.priorities.enumerated() {
            entries.append(Self.entry(UInt64(index), priority: priority))
        }
        #expect(Self.drain(&entries) == row.order)
        #expect(entries.count == 0)
        #expect(entries.octets == 0)
    }

    @Test("Requeued entries return to their places, in any order and number")
    func restored() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<300 {
            var entries = ReadyEntries(.fifo)
            let count = UInt64.random(in: 1...12, using: &random)
            for sequence in 0..<count { entries.append(Self.entry(sequence)) }
            var taken: [QueueEntry] = []
            for _ in 0..<Int.random(in: 1...Int(count), using: &random) {
                if let entry = entries.popFirst() { taken.append(entry) }
            }
            taken.shuffle(using: &random)
            let cut = Int.random(in: 0...taken.count, using: &random)
            entries.restore(taken[..<cut])
            entries.restore(taken[cut...])
            #expect(Self.drain(&entries) == Array(0..<count))
        }
    }

    @Test("Expired heads of every priority are removed; the next expiry is the earliest head's")
    func expired() {
        var entries = ReadyEntries(.priorities(maximum: 1, default: 0))
        entries.append(Self.entry(0, expires: 30))
        entries.append(Self.entry(1, expires: 10))
        entries.append(Self.entry(2, priority: 1, expires: 20))
        #expect(entries.nextExpiry == 20)
        #expect(entries.popExpired(now: 19) == nil)
        #expect(entries.popExpired(now: 20)?.sequence == 2)
        // The second of its level waits behind its head.
        #expect(entries.popExpired(now: 29) == nil)
        #expect(entries.popExpired(now: 30)?.sequence == 0)
        #expect(entries.popExpired(now: 30)?.sequence == 1)
        #expect(entries.nextExpiry == .max)
        #expect(entries.count == 0)
    }

    @Test("Deliveries are removed once, by tag or up to a tag")
    func unacknowledged() throws {
        let stage = ModelStage()
        let queue = try stage.queue()
        var random = SystemRandomNumberGenerator()
        for _ in 0..<200 {
            var held = UnackedDeliveries()
            var model: [UInt64] = []
            var taken: [UnackedDelivery] = []
            var next: UInt64 = 1
            for _ in 0..<40 {
                switch Int.random(in: 0..<5, using: &random) {
                case 0, 1:
                    held.append(UnackedDelivery(tag: next, entry: Self.entry(next), queue: queue, consumer: nil))
                    model.append(next)
                    next += 1
                case 2:
                    let tag = UInt64.random(in: 0...next, using: &random)
                    let found = held.take(tag)
                    #expect((found != nil) == model.contains(tag))
                    model.removeAll { $0 == tag }
                    if let found { taken.append(found) }
                case 3:
                    let tag = UInt64.random(in: 0...next, using: &random)
                    var found: [UInt64] = []
                    held.take(upTo: tag) { found.append($0.tag) }
                    #expect(found == model.filter { $0 <= tag })
                    model.removeAll { $0 <= tag }
                default:
                    // A rollback returns the messages of its transaction.
                    held.restore(taken)
                    model = (model + taken.map(\.tag)).sorted()
                    taken = []
                }
                #expect(held.count == model.count)
            }
        }
    }
}
