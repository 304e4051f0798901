// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import Testing

@Suite("Settlement watch")
struct SettlementWatchTests {
    @Test("A tag that stays the oldest causes one warning, at four fifths of the limit")
    func warnsOnce() {
        var watch = SettlementWatch(limit: 1000)
        #expect(watch.look(oldest: 7, now: 100) == nil)
        #expect(watch.look(oldest: 7, now: 899) == nil)
        #expect(watch.look(oldest: 7, now: 900) == 800)
        #expect(watch.look(oldest: 7, now: 950) == nil)
        #expect(watch.look(oldest: 8, now: 2000) == nil)
        #expect(watch.look(oldest: 8, now: 2799) == nil)
        #expect(watch.look(oldest: 8, now: 2800) == 800)
    }

    @Test("A channel that settles in between causes no warning")
    func quiet() {
        var watch = SettlementWatch(limit: 1000)
        #expect(watch.look(oldest: 1, now: 0) == nil)
        #expect(watch.look(oldest: nil, now: 900) == nil)
        #expect(watch.look(oldest: 1, now: 950) == nil)
        for step in 1...20 {
            #expect(watch.look(oldest: UInt64(step + 1), now: UInt64(step) * 900) == nil)
        }
    }

    @Test("The interval follows the limit, and is a minute at most")
    func interval() {
        #expect(SettlementWatch.interval(limit: 2000) == 100)
        #expect(SettlementWatch.interval(limit: 1) == 1)
        #expect(SettlementWatch.interval(limit: 30 * 60_000_000_000) == 60_000_000_000)
    }
}

@Suite("Acknowledgement timeout")
struct AcknowledgementTimeoutTests {
    @Test("RabbitMQ's text is recognised, with its limit")
    func reads() {
        let text =
            "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms. "
            + "This timeout value can be configured, see consumers doc guide to learn more"
        #expect(AcknowledgementTimeout(replyText: text)?.milliseconds == 1_800_000)
        let old = "PRECONDITION_FAILED - delivery acknowledgement on channel 7 timed out"
        #expect(AcknowledgementTimeout(replyText: old) != nil)
        #expect(AcknowledgementTimeout(replyText: old)?.milliseconds == nil)
    }

    @Test("Other texts of the same code are not", arguments: ["", "PRECONDITION_FAILED - unknown delivery tag 7"])
    func others(_ text: String) {
        #expect(AcknowledgementTimeout(replyText: text) == nil)
    }
}
