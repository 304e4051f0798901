// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Ledger")
struct LedgerTests {
    private func header(_ sequence: UInt64, stream: UInt32 = 0, run: UInt32 = 7) -> MessageHeader {
        MessageHeader(sequence: sequence, stream: stream, run: run)
    }

    @Test("Messages of two streams and two consumers add up")
    func addsUp() {
        let ledger = Ledger(run: 7, streams: 2)
        var (first, second) = (ConsumerLedger(ledger), ConsumerLedger(ledger))
        for sequence in 0..<1000 as Range<UInt64> {
            let isTaken = first.insert(self.header(sequence, stream: 0), isRedelivered: false)
            let isTakenToo = second.insert(self.header(sequence, stream: 1), isRedelivered: false)
            #expect(isTaken && isTakenToo)
        }
        first.flush()
        second.flush()
        #expect(ledger.received == 2000)
        #expect(ledger.duplicated == 0)
        #expect(first.order.reordered == 0)
    }

    @Test("A message that two consumers get is one double")
    func doubled() {
        let ledger = Ledger(run: 7, streams: 1)
        for _ in 0..<2 {
            var consumer = ConsumerLedger(ledger)
            _ = consumer.insert(self.header(3), isRedelivered: false)
            consumer.flush()
        }
        #expect(ledger.received == 1)
        #expect(ledger.duplicated == 1)
    }

    @Test("A redelivered message is known when it had arrived, at the same consumer or another")
    func redelivered() {
        let ledger = Ledger(run: 7, streams: 1)
        var (first, second) = (ConsumerLedger(ledger), ConsumerLedger(ledger))
        let isKnown = first.hasArrived(self.header(3))
        #expect(!isKnown)
        _ = first.insert(self.header(3), isRedelivered: false)
        let isKnownThen = first.hasArrived(self.header(3))
        let (isKnownElsewhere, isOther) = (second.hasArrived(self.header(3)), second.hasArrived(self.header(4)))
        let isOfOtherRun = second.hasArrived(self.header(3, run: 8))
        #expect(isKnownThen && isKnownElsewhere && !isOther && !isOfOtherRun)
    }

    @Test("Messages of another run or stream are not taken")
    func foreign() {
        let ledger = Ledger(run: 7, streams: 1)
        var consumer = ConsumerLedger(ledger)
        let isOtherRunTaken = consumer.insert(self.header(0, run: 8), isRedelivered: false)
        let isOtherStreamTaken = consumer.insert(self.header(0, stream: 1), isRedelivered: false)
        #expect(!isOtherRunTaken && !isOtherStreamTaken)
        consumer.flush()
        #expect(ledger.received == 0)
    }

    @Test("A header is read as it was written, as far as the body has room", arguments: [32, 33, 256])
    func roundTrip(_ size: Int) {
        var header = MessageHeader(sequence: 0x0102_0304_0506_0708, stream: 0x090A_0B0C, run: 0x0D0E_0F10)
        header.due = 0x1112_1314_1516_1718
        header.sent = 0x191A_1B1C_1D1E_1F20
        var body = [UInt8](repeating: 0, count: size)
        header.write(to: &body)
        #expect(Array(body.prefix(32)) == Array(1...32))
        #expect(body.dropFirst(32).allSatisfy { $0 == 0 })
        #expect(MessageHeader(body.span.bytes) == header)
    }

    @Test("A body of 16 to 31 octets has no times, a shorter one no header", arguments: [0, 15, 16, 31])
    func short(_ size: Int) {
        var header = MessageHeader(sequence: 1, stream: 2, run: 3)
        header.due = 4
        var body = [UInt8](repeating: 0, count: size)
        header.write(to: &body)
        let read = MessageHeader(body.span.bytes)
        #expect((read != nil) == (size >= 16))
        #expect(read.map { $0.due } ?? 0 == 0)
        #expect(read.map { $0.sequence } ?? 1 == 1)
    }

    @Test("A budget is handed out once, however it is taken")
    func budget() async {
        let budget = Budget(1000)
        let taken = await withTaskGroup(of: Int.self) { group in
            for share in [1, 3, 64, 64] {
                group.addTask {
                    var sum = 0
                    while case let part = budget.take(upTo: share), part > 0 { sum += part }
                    return sum
                }
            }
            return await group.reduce(0, +)
        }
        #expect(taken == 1000)
        #expect(budget.take(upTo: 1) == 0)
    }
}
