// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import Testing

// DeliveryCoalescing as dialogues in microseconds, with a pause of 300.

@Suite("Delivery coalescing")
struct DeliveryCoalescingTests {
    /// A machine and its time.
    private final class Reader {
        var machine = DeliveryCoalescing(pause: 300_000, now: 0)
        var now: MonotonicNanoseconds = 0

        /// A read so many microseconds later; answers whether the next waits for the end of a pause.
        func read(
            after microseconds: UInt64,
            deliveries: Int,
            octets: Int = 1000,
            isAwaited: Bool = false
        ) -> Bool {
            self.now += microseconds * 1000
            self.machine.read(deliveries: deliveries, octets: octets, isAwaited: isAwaited, now: self.now)
            return self.machine.isPausing
        }

        /// Reads one after the other, until pauses begin.
        func begin(gap: UInt64 = 50) {
            while !self.read(after: gap, deliveries: 1) {}
        }
    }

    struct Row: CustomTestStringConvertible, Sendable {
        let name: String
        var gap: UInt64 = 50
        var deliveries = 1
        var octets = 1000
        var isAwaited = false
        let begins: Bool
        var testDescription: String { self.name }
    }

    static let rows = [
        Row(name: "one by one, quickly", begins: true),
        Row(name: "a few at a time, quickly", deliveries: 7, begins: true),
        Row(name: "many at a time", deliveries: 8, begins: false),
        Row(name: "large ones", octets: 8192, begins: false),
        Row(name: "just quick enough", gap: 99, begins: true),
        Row(name: "not quick enough", gap: 100, begins: false),
        Row(name: "somebody waits for an answer", isAwaited: true, begins: false),
        Row(name: "confirms or answers, no deliveries", deliveries: 0, begins: false),
    ]

    @Test("Pauses begin after a few quick small reads", arguments: Self.rows)
    func begins(_ row: Row) {
        let reader = Reader()
        var pausing: [Bool] = []
        for _ in 0..<8 {
            pausing.append(
                reader.read(
                    after: row.gap,
                    deliveries: row.deliveries,
                    octets: row.octets,
                    isAwaited: row.isAwaited
                )
            )
            if pausing.last == true { break }
        }
        #expect(pausing == (row.begins ? [false, false, false, true] : Array(repeating: false, count: 8)))
    }

    @Test("A long gap restarts the count")
    func gap() {
        let reader = Reader()
        for _ in 0..<3 { #expect(!reader.read(after: 50, deliveries: 1)) }
        #expect(!reader.read(after: 500, deliveries: 1))
        for _ in 0..<3 { #expect(!reader.read(after: 50, deliveries: 1)) }
        #expect(reader.read(after: 50, deliveries: 1))
    }

    @Test("Pauses continue while the rate does not fall")
    func goesOn() {
        let reader = Reader()
        reader.begin()
        for _ in 0..<1000 { #expect(reader.read(after: 300, deliveries: 5)) }
    }

    @Test("An empty read ends pauses; a read soon after begins them again")
    func breath() {
        let reader = Reader()
        reader.begin()
        for _ in 0..<2 { #expect(reader.read(after: 300, deliveries: 6)) }
        #expect(!reader.read(after: 300, deliveries: 0))
        #expect(reader.read(after: 20_000, deliveries: 1))
        // After pauses that brought nothing, it takes as many as the first time.
        #expect(!reader.read(after: 300, deliveries: 0))
        #expect(!reader.read(after: 20_000, deliveries: 1))
    }

    @Test("After a long silence pauses need as many reads as at first")
    func silence() {
        let reader = Reader()
        reader.begin()
        for _ in 0..<2 { #expect(reader.read(after: 300, deliveries: 6)) }
        #expect(!reader.read(after: 300, deliveries: 0))
        #expect(!reader.read(after: 50_000, deliveries: 1))
        for _ in 0..<3 { #expect(!reader.read(after: 50, deliveries: 1)) }
        #expect(reader.read(after: 50, deliveries: 1))
    }

    @Test("A caller that waits for a reply ends pauses")
    func awaited() {
        let reader = Reader()
        reader.begin()
        for _ in 0..<2 { #expect(reader.read(after: 300, deliveries: 6)) }
        #expect(!reader.read(after: 300, deliveries: 6, isAwaited: true))
        #expect(!reader.read(after: 50, deliveries: 1))
    }

    @Test("A consumer that is behind ends pauses")
    func stop() {
        let reader = Reader()
        reader.begin()
        reader.machine.stop(now: reader.now)
        #expect(!reader.machine.isPausing)
    }

    @Test("Pauses end if the sender waits, and return after a delay that grows")
    func retreat() {
        let reader = Reader()
        var retreats: [UInt64] = []
        for _ in 0..<9 {
            reader.begin()
            let begin = reader.now
            // Two in flight: at events one came every 50 us.
            while reader.read(after: 300, deliveries: 2) {}
            #expect(reader.now - begin == 32 * 300_000)
            let end = reader.now
            reader.begin()
            retreats.append((reader.now - end) / 1_000_000)
            reader.machine.stop(now: reader.now)
        }
        #expect(retreats == [50, 100, 200, 400, 800, 1600, 3200, 3200, 3200])
    }

    @Test("After pauses without cost the next delay is short")
    func forgets() {
        let reader = Reader()
        for _ in 0..<3 {
            reader.begin()
            while reader.read(after: 300, deliveries: 2) {}
        }
        reader.begin()
        for _ in 0..<32 { #expect(reader.read(after: 300, deliveries: 6)) }
        while reader.read(after: 300, deliveries: 2) {}
        let end = reader.now
        reader.begin()
        #expect((reader.now - end) / 1_000_000 == 50)
    }
}
