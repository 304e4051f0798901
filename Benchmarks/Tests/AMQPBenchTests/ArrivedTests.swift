// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("What did not arrive")
struct ArrivedTests {
    /// What a run counted, and what of it is lost.
    struct Row: CustomTestStringConvertible {
        var testDescription: String
        var counts: Report.Counts
        var arrived: UInt64
        var corrupted: UInt64 = 0
        var forgotten: UInt64 = 0
        var forgottenArrived: UInt64 = 0
        var lost: UInt64
    }

    static let rows = [
        Row(testDescription: "all there", counts: .init(published: 10, confirmed: 10), arrived: 10, lost: 0),
        Row(testDescription: "one missing", counts: .init(published: 10, confirmed: 10), arrived: 9, lost: 1),
        Row(
            testDescription: "one corrupted is not lost",
            counts: .init(published: 10, confirmed: 10),
            arrived: 9,
            corrupted: 1,
            lost: 0
        ),
        Row(
            testDescription: "what was returned need not arrive",
            counts: .init(published: 10, confirmed: 8, returned: 2),
            arrived: 8,
            lost: 0
        ),
        Row(
            testDescription: "a message of unknown fate that arrived does not stand in for a lost one",
            counts: .init(published: 10, confirmed: 7, unknown: 3),
            arrived: 9,
            forgotten: 3,
            forgottenArrived: 3,
            lost: 1
        ),
        Row(
            testDescription: "messages of unknown fate may be missing",
            counts: .init(published: 10, confirmed: 7, unknown: 3),
            arrived: 7,
            forgotten: 3,
            lost: 0
        ),
    ]

    @Test("Lost is what the broker took and nobody got", arguments: rows)
    func lost(_ row: Row) {
        let arrived = Arrived(
            counts: row.counts,
            options: .example,
            arrived: row.arrived,
            corrupted: row.corrupted,
            forgotten: row.forgotten,
            forgottenArrived: row.forgottenArrived
        )
        #expect(arrived.lost == row.lost)
    }

    @Test("Lost is only what is proven: not what is in a queue, and not where messages may be dropped")
    func verdicts() {
        #expect(Arrived.verdict(missing: 0, inQueue: 5, doubt: nil) == .init())
        #expect(Arrived.verdict(missing: 7, inQueue: 0, doubt: nil) == .init(lost: 7))
        #expect(Arrived.verdict(missing: 7, inQueue: 5, doubt: nil) == .init(lost: 2, inQueue: 5))
        #expect(Arrived.verdict(missing: 7, inQueue: 9, doubt: "x") == .init(inQueue: 7))
        #expect(
            Arrived.verdict(missing: 7, inQueue: 5, doubt: "x") == .init(inQueue: 5, unaccounted: 2, reason: "x")
        )
    }

    @Test("Nothing is proven while the broker still counts consumers that are gone")
    func consumersThatAreGone() {
        func doubt(reconnects: Bool, isGenerated: Bool, consumers: Int) -> String? {
            var options = RunOptions.example
            options.reconnects = reconnects ? true : nil
            return Arrived(counts: .init(published: 10, confirmed: 10), options: options, arrived: 9)
                .doubt(isInterrupted: false, isGenerated: isGenerated, consumers: consumers)
        }
        for isGenerated in [true, false] {
            #expect(doubt(reconnects: true, isGenerated: isGenerated, consumers: 0) == nil)
            let held = doubt(reconnects: true, isGenerated: isGenerated, consumers: 1)
            #expect(held?.contains("consumers whose connection was lost") == true, "\(held ?? "nil")")
        }
        #expect(doubt(reconnects: false, isGenerated: true, consumers: 1) == nil)
        #expect(doubt(reconnects: false, isGenerated: false, consumers: 1) == "the queue has other consumers")
    }

    @Test("The ledger tells which of the forgotten arrived")
    func forgotten() {
        let ledger = Ledger(run: 1, streams: 2)
        ledger.insert([.init(stream: 0, first: 0, count: 100), .init(stream: 1, first: 5, count: 1)])
        ledger.forget(0, 90..<110)
        ledger.forget(1, 4..<7)
        ledger.forget(1, 9..<9)
        let counts = ledger.forgottenCounts
        #expect(counts.all == 23)
        #expect(counts.arrived == 11)
        #expect(ledger.receivedByStream == [100, 1])
    }
}
