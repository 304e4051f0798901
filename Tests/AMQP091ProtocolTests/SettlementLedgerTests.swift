// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQP091Protocol

@Suite("Settlement ledger")
struct SettlementLedgerTests {
    private static func drained(_ ledger: inout SettlementLedger) -> [UInt64] {
        var tags: [UInt64] = []
        ledger.drain { tag, _ in tags.append(tag) }
        return tags
    }

    @Test("The first acknowledgement after a write has the channel put among those with something to send")
    func schedules() {
        var ledger = SettlementLedger()
        #expect(ledger.acknowledge(1, multiple: false) == .init(count: 1, isFirst: true))
        #expect(ledger.acknowledge(3, multiple: true) == .init(count: 2, isFirst: false))
        #expect(ledger.acknowledge(2, multiple: false) == nil)
        #expect(Self.drained(&ledger) == [3])
        #expect(ledger.acknowledge(4, multiple: false)?.isFirst == true)
    }

    @Test("A refusal is sent at once, and kept while a commit is under way")
    func holds() {
        var ledger = SettlementLedger()
        let first = Settlement(tag: 1, multiple: false, requeue: true)
        #expect(ledger.refuse(first) == .init(count: 1, isSent: true))
        #expect(ledger.refuse(first) == nil)
        ledger.beginCommit()
        let held = Settlement(tag: 3, multiple: true, requeue: false)
        #expect(ledger.refuse(held) == .init(count: 2, isSent: false))
        #expect(ledger.acknowledge(4, multiple: false)?.isFirst == true)
        #expect(Self.drained(&ledger) == [])
        let end = ledger.endHold()
        #expect(end.refusals == [held] && end.isFirst)
        #expect(Self.drained(&ledger) == [4])
        #expect(ledger.endHold().refusals == [])
    }

    @Test("What the broker took back with a recover is never written")
    func recovers() {
        var ledger = SettlementLedger()
        _ = ledger.acknowledge(1, multiple: false)
        ledger.beginHold(.recovering)
        _ = ledger.refuse(Settlement(tag: 2, multiple: false, requeue: true))
        ledger.recovered(through: 3)
        let end = ledger.endHold()
        #expect(end.refusals == [] && !end.isFirst)
        #expect(Self.drained(&ledger) == [])
        #expect(ledger.acknowledge(3, multiple: false) == nil)
        #expect(ledger.acknowledge(4, multiple: false) != nil)
    }

    @Test("A transaction records what is settled inside of it")
    func transaction() {
        var ledger = SettlementLedger()
        _ = ledger.acknowledge(1, multiple: false)
        ledger.transaction = []
        _ = ledger.acknowledge(2, multiple: false)
        _ = ledger.refuse(Settlement(tag: 3, multiple: false, requeue: true))
        #expect(
            ledger.transaction == [
                Settlement(tag: 2, multiple: false, requeue: nil), Settlement(tag: 3, multiple: false, requeue: true),
            ]
        )
    }

    @Test("A rollback returns what was settled in the transaction, and one commit is due for it")
    func rollBack() {
        var ledger = SettlementLedger()
        ledger.transaction = []
        _ = ledger.acknowledge(1, multiple: false)
        _ = ledger.refuse(Settlement(tag: 2, multiple: false, requeue: false))
        ledger.rollBack()
        #expect(ledger.transaction == nil)
        let refusals = ledger.returnRolledBack()
        #expect(refusals.map(\.tag) == [1, 2] && refusals.allSatisfy { $0.requeue == true })
        let isDue = [ledger.takeReturned(), ledger.takeReturned()]
        #expect(isDue == [true, false])
        let nothing = ledger.returnRolledBack()
        #expect(nothing == [])
    }
}
