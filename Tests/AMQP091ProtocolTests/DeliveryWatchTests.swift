// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import Testing

// DeliveryWatch as dialogues.

@Suite("Delivery watch")
struct DeliveryWatchTests {
    private static func look(
        _ watch: inout DeliveryWatch,
        _ delivered: UInt64 = 0,
        mayLeave: Bool = true,
        suspected: MonotonicNanoseconds?,
        now: MonotonicNanoseconds
    ) -> Bool {
        watch.look(delivered: delivered, mayLeave: mayLeave, suspected: suspected, now: now)
    }

    @Test("A connection without deliveries stays while no publish at its node was given up")
    func unsuspected() {
        var watch = DeliveryWatch(limit: 100, now: 0)
        for now in [50, 100, 1000, 100_000] as [UInt64] { #expect(!Self.look(&watch, suspected: nil, now: now)) }
    }

    @Test("A connection without deliveries for the limit leaves a node where a publish was given up")
    func suspected() {
        var watch = DeliveryWatch(limit: 100, now: 0)
        #expect(!Self.look(&watch, suspected: 80, now: 99))
        #expect(Self.look(&watch, suspected: 80, now: 100))
    }

    @Test("A suspicion from before the connection, or before its last delivery, is none")
    func oldSuspicion() {
        var watch = DeliveryWatch(limit: 100, now: 50)
        #expect(!Self.look(&watch, suspected: 49, now: 1000))
        #expect(!Self.look(&watch, 1, suspected: 1000, now: 1001))
        #expect(!Self.look(&watch, 1, suspected: 1000, now: 5000))
        #expect(Self.look(&watch, 1, suspected: 4000, now: 5000))
    }

    @Test("A connection that would lose something stays, and leaves the limit after that is over")
    func held() {
        var watch = DeliveryWatch(limit: 100, now: 0)
        for now in [50, 100, 500] as [UInt64] { #expect(!Self.look(&watch, mayLeave: false, suspected: 80, now: now)) }
        #expect(!Self.look(&watch, suspected: 80, now: 599))
        #expect(Self.look(&watch, suspected: 80, now: 600))
    }

    @Test("A moment before the last look is no time at all")
    func backwards() {
        var watch = DeliveryWatch(limit: 100, now: 0)
        #expect(!Self.look(&watch, 1, suspected: nil, now: 1000))
        #expect(!Self.look(&watch, 1, suspected: 1000, now: 900))
    }
}
