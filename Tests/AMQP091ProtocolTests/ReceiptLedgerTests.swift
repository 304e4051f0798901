// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQP091Protocol

@Suite("Receipt ledger")
struct ReceiptLedgerTests {
    @Test("A failure is remembered, a confirm is not")
    func remembers() {
        var ledger = ReceiptLedger()
        ledger.settled(1, .confirmed) { _ in }
        ledger.settled(2, .nacked) { _ in }
        #expect(ledger.refusal(1) == nil)
        guard case .nacked = ledger.refusal(2) else {
            Issue.record("2 was refused")
            return
        }
    }

    @Test("Every waiter of a publish is woken once by its end, and those for a refusal not by a confirm")
    func wakes() {
        var ledger = ReceiptLedger()
        ledger.wait(for: 7, token: 1)
        ledger.wait(for: 7, token: 2)
        ledger.wait(for: 7, token: 3, onlyRefusal: true)
        ledger.wait(for: 8, token: 4, onlyRefusal: true)
        ledger.wait(for: 8, token: 5)
        ledger.forget(5, of: 8)
        var woken: [UInt32] = []
        ledger.settled(7, .confirmed) { woken.append($0) }
        ledger.settled(7, .confirmed) { woken.append($0) }
        ledger.settled(8, .nacked) { woken.append($0) }
        #expect(woken == [1, 2, 4])
    }

    @Test("A waiter for a range is woken when all publishes up to its end have settled")
    func ranges() {
        var ledger = ReceiptLedger()
        ledger.wait(through: 5, token: 1)
        ledger.wait(through: 9, token: 2)
        ledger.wait(through: 9, token: 3)
        ledger.forget(3, of: 9)
        var woken: [UInt32] = []
        ledger.settled(below: 5) { woken.append($0) }
        #expect(woken == [])
        ledger.settled(below: 6) { woken.append($0) }
        #expect(woken == [1])
        ledger.wait(for: 12, token: 4)
        #expect(Set(ledger.takeWaiters()) == [2, 4])
        #expect(ledger.takeWaiters() == [])
    }

    @Test("A call ends once, with its reply or with the failure of its publish")
    func calls() {
        var ledger = ReceiptLedger()
        for sequence in UInt64(1)...4 { ledger.expectReply(to: sequence, token: UInt32(sequence) * 10) }
        var woken: [UInt32] = []
        ledger.settled(1, .confirmed) { woken.append($0) }
        #expect(woken == [])
        #expect(ledger.replied(to: 1) == 10)
        #expect(ledger.replied(to: 1) == nil)
        ledger.settled(2, .nacked) { woken.append($0) }
        #expect(woken == [20])
        #expect(ledger.replied(to: 2) == nil)
        // The reply may overtake the confirm; then the confirm wakes nobody.
        #expect(ledger.replied(to: 3) == 30)
        ledger.settled(3, .nacked) { woken.append($0) }
        #expect(woken == [20])
        ledger.forget(40, of: 4)
        #expect(ledger.replied(to: 4) == nil)
        ledger.expectReply(to: 5, token: 50)
        ledger.settled(5, .confirmed) { woken.append($0) }
        ledger.expectReply(to: 6, token: 60)
        #expect(Set(ledger.takeWaiters()) == [50, 60])
    }

    @Test("Beyond its limit the ledger forgets the oldest failures, and reports that")
    func forgets() {
        var ledger = ReceiptLedger()
        for sequence in 1...UInt64(ReceiptLedger.limit) { ledger.settled(sequence, .nacked) { _ in } }
        #expect(ledger.forgottenThrough == 0)
        ledger.settled(UInt64(ReceiptLedger.limit) + 5, .nacked) { _ in }
        #expect(ledger.forgottenThrough == 1)
        #expect(ledger.refusal(1) == nil)
        #expect(ledger.refusal(2) != nil)
    }
}
