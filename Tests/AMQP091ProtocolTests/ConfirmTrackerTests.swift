// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQP091Protocol

@Suite("Confirm tracker")
struct ConfirmTrackerTests {
    /// The record of a dialogue.
    private struct Log: Equatable {
        var progress: [UInt32] = []
        var outcomes: [UInt32: ConfirmRing.Outcome] = [:]

        mutating func note(_ token: UInt32, _ wake: ConfirmTracker.Wake) {
            switch wake {
            case .progress: self.progress.append(token)
            case .outcome(let outcome): self.outcomes[token] = outcome
            }
        }
    }

    private static func tracker(window: Int = 4, octets: Int = 100) -> ConfirmTracker {
        var tracker = ConfirmTracker()
        tracker.enable(windowMessages: window, windowOctets: octets)
        return tracker
    }

    @Test("The window counts messages and octets, and accepts a larger message alone")
    func window() {
        var off = ConfirmTracker()
        #expect(off.hasRoom)
        off.enable(windowMessages: 1, windowOctets: 1)
        #expect(off.isOn && off.hasRoom)
        var tracker = Self.tracker(window: 2)
        _ = tracker.ring.append(octets: 10, token: 0)
        #expect(tracker.hasRoom)
        _ = tracker.ring.append(octets: 10, token: 0)
        #expect(!tracker.hasRoom)
        var large = Self.tracker()
        _ = large.ring.append(octets: 1000, token: 0)
        #expect(!large.hasRoom)
    }

    @Test("A confirm wakes the publish's own waiter and, once half the window is free, as many publishers as have room")
    func wakes() throws {
        var tracker = Self.tracker()
        for token in UInt32(1)...4 { _ = tracker.ring.append(octets: 1, token: token) }
        let tickets = (UInt32(10)...15).map { tracker.waitForRoom($0) }
        tracker.stopWaitingForRoom(tickets[1])
        var log = Log()
        #expect(try tracker.settle(tag: 1, multiple: false, isAck: true) { log.note($0, $1) }.count == 1)
        #expect(log == Log(outcomes: [1: .confirmed]))
        #expect(try tracker.settle(tag: 2, multiple: false, isAck: true) { log.note($0, $1) }.count == 1)
        #expect(log.progress == [10, 12])
        #expect(try tracker.settle(tag: 4, multiple: true, isAck: false) { log.note($0, $1) }.nacked == 2)
        #expect(log.progress == [10, 12, 13, 14, 15])
        #expect(log.outcomes == [1: .confirmed, 2: .confirmed, 3: .nacked, 4: .nacked])
    }

    @Test("A wait until nothing is unconfirmed ends with the last confirm")
    func drains() throws {
        var tracker = Self.tracker()
        let none = tracker.waitUntilDrained(9)
        #expect(none == nil)
        _ = tracker.ring.append(octets: 1, token: 0)
        _ = tracker.ring.append(octets: 1, token: 0)
        _ = tracker.waitUntilDrained(9)
        if let ticket = tracker.waitUntilDrained(8) { tracker.stopWaitingUntilDrained(ticket) }
        var log = Log()
        _ = try tracker.settle(tag: 2, multiple: false, isAck: true) { log.note($0, $1) }
        #expect(log.progress == [])
        _ = try tracker.settle(tag: 1, multiple: false, isAck: true) { log.note($0, $1) }
        #expect(log.progress == [9])
    }

    @Test("The first failure of a publish without a waiter is kept, with the count of all")
    func failures() throws {
        var tracker = Self.tracker(window: 9)
        for _ in 1...3 { _ = tracker.ring.append(octets: 1, token: 0) }
        _ = tracker.ring.append(octets: 1, token: PublishEndings.receiptToken)
        tracker.endings.receipts.wait(for: 4, token: 7)
        var log = Log()
        _ = try tracker.settle(tag: 1, multiple: false, isAck: true) { log.note($0, $1) }
        #expect(tracker.endings.takeFailures() == nil)
        _ = try tracker.settle(tag: 4, multiple: true, isAck: false) { log.note($0, $1) }
        #expect(log.outcomes == [7: .nacked])
        let failures = tracker.endings.takeFailures()
        #expect(failures?.first == .nacked && failures?.count == 2)
        #expect(tracker.endings.takeFailures() == nil)
        #expect(tracker.endings.nackedCount == 3)
    }

    @Test("The end leaves unconfirmed publishes unknown, and wakes each waiter once")
    func ends() throws {
        var tracker = Self.tracker(window: 9)
        for token in [0, 5, 0] as [UInt32] { _ = tracker.ring.append(octets: 1, token: token) }
        _ = try tracker.settle(tag: 1, multiple: false, isAck: true) { _, _ in }
        _ = tracker.waitForRoom(6)
        _ = tracker.waitUntilDrained(8)
        var failed: [UInt32] = []
        #expect(Set(tracker.takeWaiters()) == [6, 8])
        tracker.end { failed.append($0) }
        tracker.end { failed.append($0) }
        #expect(failed == [5])
        #expect(!tracker.isOutstanding(1) && tracker.isOutstanding(2) && tracker.isOutstanding(3))
        #expect(tracker.unknownCount == 2 && tracker.unknownSendCount == 1)
        #expect(tracker.takeWaiters() == [])
    }

    @Test("A confirm for an unknown publish changes nothing")
    func violation() {
        var tracker = Self.tracker()
        _ = tracker.ring.append(octets: 1, token: 1)
        #expect(throws: ConfirmRing.Violation.unknownTag(2)) {
            try tracker.settle(tag: 2, multiple: false, isAck: true) { _, _ in Issue.record("a waiter was woken") }
        }
        #expect(tracker.ring.outstandingMessages == 1)
    }
}

private func == (
    left: (first: ConfirmRing.Outcome, count: Int)?,
    right: (first: ConfirmRing.Outcome, count: Int)?
) -> Bool {
    left?.first == right?.first && left?.count == right?.count
}
