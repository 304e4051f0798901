// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import Testing

// AckRuns against dialogues written by hand, and against a model of the broker that refuses a wrong acknowledgement.

@Suite("Runs of acknowledgements")
struct AckRunsTests {
    struct Ack: Hashable {
        let tag: UInt64
        let multiple: Bool

        init(_ tag: UInt64, multiple: Bool = false) {
            self.tag = tag
            self.multiple = multiple
        }
    }

    static func drain(_ runs: inout AckRuns) -> [Ack] {
        var acks: [Ack] = []
        runs.drain { acks.append(Ack($0, multiple: $1)) }
        return acks
    }

    @Test("A contiguous run from the low end is sent as one multiple, the rest singly")
    func merges() {
        var runs = AckRuns()
        for tag in [3, 1, 2, 6, 8] as [UInt64] { #expect(runs.settle(tag) == true) }
        #expect(Self.drain(&runs) == [Ack(3, multiple: true), Ack(6), Ack(8)])
        #expect(Self.drain(&runs) == [])
        #expect(runs.settle(5) == true)
        #expect(runs.settle(4) == true)
        #expect(Self.drain(&runs) == [Ack(5, multiple: true)])
        #expect(runs.settle(7) == true)
        #expect(Self.drain(&runs) == [Ack(7)])
        #expect(runs.settle(9) == true)
        #expect(Self.drain(&runs) == [Ack(9)])
    }

    @Test("A tag is settled once")
    func once() {
        var runs = AckRuns()
        #expect(runs.settle(0) == false)
        #expect(runs.settle(2) == true)
        #expect(runs.settle(2) == false)
        #expect(runs.reject(2) == false)
        #expect(runs.reject(1) == true)
        #expect(runs.settle(1) == false)
        #expect(Self.drain(&runs) == [Ack(2)])
        #expect(runs.settle(2) == false)
        #expect(!runs.hasUnsent)
    }

    @Test("A multiple ends at an acked tag, not at a rejected or automatic one")
    func endsAtAcked() {
        var runs = AckRuns()
        #expect(runs.settle(1) == true)
        #expect(runs.reject(2) == true)
        #expect(runs.settle(3) == true)
        #expect(runs.markAutomatic(4) == true)
        #expect(runs.reject(5) == true)
        #expect(Self.drain(&runs) == [Ack(3, multiple: true)])
        #expect(runs.settle(6) == true)
        #expect(Self.drain(&runs) == [Ack(6)])
    }

    @Test("Acknowledging up to a tag covers every undecided tag below it")
    func upTo() {
        var runs = AckRuns(span: 64)
        #expect(runs.reject(3) == true)
        #expect(runs.settle(upTo: 200) == true)
        #expect(runs.settle(upTo: 200) == false)
        #expect(runs.settle(upTo: 0) == false)
        #expect(runs.settle(upTo: .max) == false)
        #expect(runs.settle(150) == false)
        #expect(runs.count == 199)
        #expect(Self.drain(&runs) == [Ack(200, multiple: true)])
        #expect(runs.settle(201) == true)
        #expect(runs.settle(upTo: 202) == true)
        #expect(Self.drain(&runs) == [Ack(202, multiple: true)])
    }

    @Test("The span grows up to its limit", arguments: [64, 1 << 12])
    func limit(limit: Int) {
        var runs = AckRuns(span: 64, limit: limit)
        let words = max(limit, 128)
        #expect(runs.settle(UInt64(words - 1)) == true)
        #expect(runs.settle(UInt64(words)) == false)
        #expect(runs.settle(.max) == false)
        #expect(runs.markAutomatic(.max) == false)
        #expect(Self.drain(&runs) == [Ack(UInt64(words - 1))])
    }

    @Test("Tags rejected out of order do not block the low end")
    func rejectedOutOfOrder() {
        var runs = AckRuns(span: 64, limit: 64)
        #expect(runs.reject(2) == true)
        #expect(runs.reject(1) == true)
        for tag in 3...10_000 as ClosedRange<UInt64> { #expect(runs.markAutomatic(tag) == true) }
    }

    @Test("A channel of automatic deliveries never grows and never drains")
    func automatic() {
        var runs = AckRuns(span: 64, limit: 64)
        for tag in 1...10_000 as ClosedRange<UInt64> { #expect(runs.markAutomatic(tag) == true) }
        #expect(runs.markAutomatic(9_999) == false)
        #expect(!runs.hasUnsent)
        #expect(runs.settle(10_001) == true)
        #expect(Self.drain(&runs) == [Ack(10_001)])
    }

    @Test(
        "Random runs tell the broker of each ack once, and never of a tag it does not hold",
        arguments: 0..<60 as Range<UInt64>
    )
    func model(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var runs = AckRuns(span: 64, limit: 1 << 16)
        let stuck = Int.random(in: 1...400, using: &random)
        var held: Set<UInt64> = []  // what the broker counts as outstanding
        var undecided: [UInt64] = []
        var acked: Set<UInt64> = []
        var next: UInt64 = 1
        for _ in 0..<4000 {
            switch Int.random(in: 0..<20, using: &random) {
            case 0..<8:
                if Int.random(in: 0..<8, using: &random) == 0 {
                    #expect(runs.markAutomatic(next) == true)
                } else {
                    held.insert(next)
                    undecided.append(next)
                }
                next += 1
            case 8..<17 where !undecided.isEmpty:
                // The oldest one stays stuck now and then, so that the rings must grow.
                let from = undecided.count > stuck ? 0 : min(1, undecided.count - 1)
                let index = Int.random(in: from..<min(undecided.count, from + 6), using: &random)
                let tag = undecided.remove(at: index)
                if Int.random(in: 0..<5, using: &random) == 0 {
                    #expect(runs.reject(tag) == true)
                    held.remove(tag)
                } else {
                    #expect(runs.settle(tag) == true)
                    acked.insert(tag)
                }
                #expect(runs.settle(tag) == false)
            case 17 where Int.random(in: 0..<6, using: &random) == 0 && !undecided.isEmpty:
                let tag = undecided[Int.random(in: 0..<undecided.count, using: &random)]
                #expect(runs.settle(upTo: tag) == true)
                acked.formUnion(undecided.filter { $0 <= tag })
                undecided.removeAll { $0 <= tag }
            default:
                #expect(runs.count == acked.count)
                for ack in Self.drain(&runs) {
                    #expect(held.contains(ack.tag) && acked.contains(ack.tag))
                    let meant: Set<UInt64> = ack.multiple ? held.filter { $0 <= ack.tag } : [ack.tag]
                    #expect(meant.isSubset(of: acked))
                    if ack.multiple { #expect(meant.count > 1) }
                    held.subtract(meant)
                    acked.subtract(meant)
                }
                #expect(acked.isEmpty)
                #expect(!runs.hasUnsent)
            }
        }
    }
}
