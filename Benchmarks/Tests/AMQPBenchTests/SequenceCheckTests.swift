// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import AMQPBench

@Suite("Sequence check")
struct SequenceCheckTests {
    struct Row: CustomTestStringConvertible {
        var testDescription: String
        var arrivals: [(first: UInt64, count: UInt64)]
        var received: UInt64
        var duplicated: UInt64
    }

    static let rows = [
        Row(testDescription: "nothing", arrivals: [], received: 0, duplicated: 0),
        Row(testDescription: "in order", arrivals: (0..<200).map { ($0, 1) }, received: 200, duplicated: 0),
        Row(testDescription: "backwards", arrivals: (0..<200).reversed().map { ($0, 1) }, received: 200, duplicated: 0),
        Row(testDescription: "one range over word borders", arrivals: [(3, 1000)], received: 1000, duplicated: 0),
        Row(testDescription: "a whole word", arrivals: [(64, 64), (64, 64)], received: 64, duplicated: 64),
        Row(testDescription: "a range twice", arrivals: [(0, 130), (0, 130)], received: 130, duplicated: 130),
        Row(testDescription: "ranges that overlap", arrivals: [(0, 100), (50, 100)], received: 150, duplicated: 50),
        Row(
            testDescription: "a double behind the lowest missing number",
            arrivals: [(1, 63), (64, 64), (100, 1)],
            received: 127,
            duplicated: 1
        ),
        Row(testDescription: "a gap that is filled late", arrivals: [(1, 500), (0, 1)], received: 501, duplicated: 0),
        Row(
            testDescription: "the last number that is remembered",
            arrivals: [(SequenceCheck.limit - 1, 1), (SequenceCheck.limit - 1, 1)],
            received: 1,
            duplicated: 1
        ),
        Row(
            testDescription: "the first one too far ahead counts as new each time",
            arrivals: [(SequenceCheck.limit, 1), (SequenceCheck.limit, 1)],
            received: 2,
            duplicated: 0
        ),
        Row(testDescription: "a range past the largest number", arrivals: [(.max, 2)], received: 0, duplicated: 0),
    ]

    @Test("First arrivals and doubles are told apart", arguments: rows)
    func counts(_ row: Row) {
        var check = SequenceCheck()
        for arrival in row.arrivals { check.insert(arrival.first, count: arrival.count) }
        #expect(check.received == row.received)
        #expect(check.duplicated == row.duplicated)
    }

    @Test("Ranges count as their numbers one by one do")
    func rangesAgree() {
        var generator = SplitMix(seed: 1)
        var (ranges, singles) = (SequenceCheck(), SequenceCheck())
        for _ in 0..<2000 {
            let first = UInt64.random(in: 0..<5000, using: &generator)
            let count = UInt64.random(in: 1...200, using: &generator)
            ranges.insert(first, count: count)
            for number in first..<first + count { singles.insert(number) }
        }
        #expect(ranges.received == singles.received)
        #expect(ranges.duplicated == singles.duplicated)
    }

    @Test("Order is lost when a number comes behind a higher one, unless it was redelivered")
    func order() {
        var check = OrderCheck(streams: 2)
        check.insert(0, stream: 0, isRedelivered: false)
        check.insert(5, stream: 0, isRedelivered: false)
        check.insert(0, stream: 1, isRedelivered: false)
        #expect(check.reordered == 0)
        check.insert(4, stream: 0, isRedelivered: true)
        #expect(check.reordered == 0)
        check.insert(3, stream: 0, isRedelivered: false)
        #expect(check.reordered == 1)
        // A second arrival says nothing about the order.
        for second in [0, 3, 4, 5] as [UInt64] { check.insert(second, stream: 0, isRedelivered: false) }
        #expect(check.reordered == 1)
        check.insert(6, stream: 0, isRedelivered: false)
        #expect(check.reordered == 1)
        check.insert(.max, stream: 1, isRedelivered: false)
        #expect(check.reordered == 1)
    }

    @Test("Gaps that are forgotten are taken for gaps: memory is bounded, and order is still checked")
    func forgottenGaps() {
        var check = OrderCheck(streams: 1)
        for number in 0..<20_000 as Range<UInt64> { check.insert(2 * number, stream: 0, isRedelivered: false) }
        check.insert(1, stream: 0, isRedelivered: false)
        check.insert(39_997, stream: 0, isRedelivered: false)
        #expect(check.reordered == 2)
        check.insert(39_998, stream: 0, isRedelivered: false)
        #expect(check.reordered == 2)
    }

    @Test("A redelivered arrival is no duplicate, a second one without the mark is")
    func redelivered() {
        var check = SequenceCheck()
        check.insert(0, count: 10)
        check.insert(3, count: 2, isRedelivered: true)
        check.insert(20, isRedelivered: true)
        #expect(check.duplicated == 0)
        check.insert(3)
        #expect(check.duplicated == 1)
        #expect(check.received == 11)
    }
}
