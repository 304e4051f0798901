// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import Testing

// ConfirmRing against dialogues written by hand, and against a naive model for seeded random runs.

@Suite("Confirm ring")
struct ConfirmRingTests {
    struct End: Hashable {
        let sequence: UInt64
        let token: UInt32
        let outcome: ConfirmRing.Outcome

        init(_ sequence: UInt64, _ token: UInt32, _ outcome: ConfirmRing.Outcome) {
            self.sequence = sequence
            self.token = token
            self.outcome = outcome
        }
    }

    static func ring(_ tokens: [UInt32]) -> ConfirmRing {
        var ring = ConfirmRing(capacity: 16)
        for token in tokens { _ = ring.append(octets: 10, token: token) }
        return ring
    }

    static func settle(
        _ ring: inout ConfirmRing,
        _ tag: UInt64,
        multiple: Bool,
        _ outcome: ConfirmRing.Outcome = .confirmed
    ) throws -> [End] {
        var ends: [End] = []
        try ring.settle(tag: tag, multiple: multiple, outcome: outcome) { ends.append(End($0, $1, $2)) }
        return ends
    }

    @Test("Publishes are numbered from 1, and a confirm is reported only for those with a waiter")
    func numbers() throws {
        var ring = Self.ring([7, 0, 9])
        #expect(ring.next == 4)
        #expect(ring.outstandingMessages == 3)
        #expect(ring.outstandingOctets == 30)
        #expect(try Self.settle(&ring, 2, multiple: true) == [End(1, 7, .confirmed)])
        #expect(ring.lowest == 3)
        #expect(ring.outstandingOctets == 10)
        #expect(try Self.settle(&ring, 3, multiple: false) == [End(3, 9, .confirmed)])
        #expect(ring.lowest == 4)
        #expect(ring.outstandingMessages == 0)
    }

    @Test("A nack is reported even without a waiter")
    func nack() throws {
        var ring = Self.ring([0, 5])
        #expect(try Self.settle(&ring, 2, multiple: true, .nacked) == [End(1, 0, .nacked), End(2, 5, .nacked)])
    }

    @Test("A tag that was settled before is ignored, alone and within a multiple")
    func duplicates() throws {
        var ring = Self.ring([1, 2, 3])
        #expect(try Self.settle(&ring, 2, multiple: false) == [End(2, 2, .confirmed)])
        #expect(ring.lowest == 1)
        #expect(try Self.settle(&ring, 2, multiple: false, .nacked) == [])
        #expect(try Self.settle(&ring, 3, multiple: true) == [End(1, 1, .confirmed), End(3, 3, .confirmed)])
        #expect(try Self.settle(&ring, 3, multiple: true) == [])
        #expect(try Self.settle(&ring, 1, multiple: false) == [])
    }

    @Test("Tag 0 with multiple settles everything, even if there is nothing")
    func tagZero() throws {
        var ring = Self.ring([1, 2])
        #expect(try Self.settle(&ring, 0, multiple: true).count == 2)
        #expect(try Self.settle(&ring, 0, multiple: true) == [])
        var empty = Self.ring([])
        #expect(try Self.settle(&empty, 0, multiple: true) == [])
    }

    @Test(
        "A tag that was never given out is a violation and changes nothing",
        arguments: [(0, false), (3, false), (3, true), (.max, false), (.max, true)] as [(UInt64, Bool)]
    )
    func future(tag: UInt64, multiple: Bool) {
        var ring = Self.ring([1, 2])
        #expect(throws: ConfirmRing.Violation.unknownTag(tag)) {
            try ring.settle(tag: tag, multiple: multiple, outcome: .confirmed) { _, _, _ in }
        }
        #expect(ring.outstandingMessages == 2)
    }

    @Test("The ring grows up to its limit while the oldest publish is unconfirmed")
    func grows() throws {
        var ring = ConfirmRing(capacity: 16, limit: 64)
        for number in 1...64 {
            #expect(!ring.isFull)
            #expect(ring.append(octets: 1, token: UInt32(number)) == UInt64(number))
            if number > 1 { #expect(try Self.settle(&ring, UInt64(number), multiple: false).count == 1) }
        }
        #expect(ring.isFull)
        #expect(ring.outstandingMessages == 1)
        #expect(try Self.settle(&ring, 1, multiple: false) == [End(1, 1, .confirmed)])
        #expect(!ring.isFull)
        #expect(ring.lowest == 65)
    }

    @Test("A token can be set and removed while the publish is outstanding")
    func tokens() throws {
        var ring = Self.ring([1, 0, 0])
        #expect(ring.setToken(0, of: 1) == true)
        #expect(ring.setToken(8, of: 2) == true)
        #expect(ring.setToken(9, of: 4) == false)
        #expect(try Self.settle(&ring, 3, multiple: true) == [End(2, 8, .confirmed)])
        #expect(ring.setToken(9, of: 3) == false)
        #expect(!ring.isOutstanding(3))
    }

    @Test("A publish counts for at most a gibibyte, and never for a negative number")
    func hugeOctets() throws {
        var ring = ConfirmRing(capacity: 16)
        _ = ring.append(octets: .max, token: .max)
        _ = ring.append(octets: -1, token: 0)
        #expect(ring.outstandingOctets == (1 << 30) - 1)
        #expect(try Self.settle(&ring, 2, multiple: true) == [End(1, .max, .confirmed)])
        #expect(ring.outstandingOctets == 0)
    }

    @Test("Failing all reports every publish once and keeps the numbers")
    func failAll() throws {
        var ring = Self.ring([1, 0, 3, 4])
        _ = try Self.settle(&ring, 3, multiple: false)
        var failed: [UInt32] = []
        ring.failAll { failed.append($1) }
        #expect(failed == [1, 0, 4])
        #expect(ring.outstandingMessages == 0)
        #expect(ring.outstandingOctets == 0)
        #expect(ring.next == 5)
        #expect(ring.lowest == 5)
    }

    @Test("Only the oldest publish is confirmed alone, and only if it was not mandatory")
    func oldest() throws {
        var ring = Self.ring([7, 0, 9])
        #expect(ring.confirmOldest(0) == nil)
        #expect(ring.confirmOldest(2) == nil)
        #expect(ring.confirmOldest(4) == nil)
        #expect(ring.outstandingMessages == 3)
        #expect(try Self.settle(&ring, 2, multiple: false) == [])
        #expect(ring.confirmOldest(1) == 7)
        // The second had been settled before: the third is the oldest now.
        #expect(ring.lowest == 3)
        #expect(ring.confirmOldest(1) == nil)
        ring.markMandatory(3, .init(exchange: "x", routingKey: "a", bodyHash: 10), BasicProperties())
        #expect(ring.confirmOldest(3) == nil)
        #expect(try Self.settle(&ring, 3, multiple: false) == [End(3, 9, .confirmed)])
        #expect(ring.confirmOldest(4) == nil)
        #expect(ring.outstandingOctets == 0)
    }

    @Test("Random runs agree with a naive model", arguments: 0..<40 as Range<UInt64>)
    func model(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var ring = ConfirmRing(capacity: 16, limit: 1 << 10)
        var outstanding: [UInt64: (octets: Int, token: UInt32)] = [:]
        var next: UInt64 = 1
        for _ in 0..<3000 {
            if UInt64.random(in: 0..<10, using: &random) < 6 && !ring.isFull {
                let octets = Int.random(in: 0..<5000, using: &random)
                let token = Bool.random(using: &random) ? UInt32.random(in: 1...(.max), using: &random) : 0
                #expect(ring.append(octets: octets, token: token) == next)
                outstanding[next] = (octets, token)
                next += 1
            } else {
                // Mostly near the low end, as a broker does; sometimes beyond the high end, as a broken one does.
                let near = (ring.lowest > 8 ? ring.lowest - 8 : 0)...ring.lowest + 40
                let tag = UInt64.random(in: near, using: &random)
                let multiple = UInt64.random(in: 0..<4, using: &random) == 0
                let outcome = Bool.random(using: &random) ? ConfirmRing.Outcome.confirmed : .nacked
                var ends: [End] = []
                do {
                    if outcome == .confirmed, let token = ring.confirmOldest(tag) {
                        ends = token == 0 ? [] : [End(tag, token, .confirmed)]
                    } else {
                        ends = try Self.settle(&ring, tag, multiple: multiple, outcome)
                    }
                    #expect(tag < next && (tag > 0 || multiple))
                } catch {
                    #expect(tag >= next || (tag == 0 && !multiple))
                    continue
                }
                var expected: [End] = []
                let through = tag == 0 ? next - 1 : tag
                for sequence in outstanding.keys.filter({ multiple ? $0 <= through : $0 == tag }).sorted() {
                    guard let publish = outstanding.removeValue(forKey: sequence) else { continue }
                    if publish.token == 0 && outcome == .confirmed { continue }
                    expected.append(End(sequence, publish.token, outcome))
                }
                #expect(ends == expected)
            }
            #expect(ring.outstandingMessages == outstanding.count)
            #expect(ring.outstandingOctets == outstanding.values.reduce(0) { $0 + $1.octets })
            #expect(ring.lowest == outstanding.keys.min() ?? next)
            #expect(ring.next == next)
        }
    }
}
