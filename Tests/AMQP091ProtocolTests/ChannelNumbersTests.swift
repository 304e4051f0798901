// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import Testing

@Suite("Channel numbers")
struct ChannelNumbersTests {
    static func number(_ value: UInt16) -> ChannelNumber { ChannelNumber(rawValue: value) }

    @Test("The number that has rested longest is allocated next")
    func leastRecent() {
        var numbers = ChannelNumbers(maximum: 3)
        #expect(numbers.allocate() == Self.number(1))
        numbers.release(Self.number(1))
        #expect(numbers.standing(of: Self.number(1)) == .resting)
        #expect(numbers.allocate() == Self.number(2))
        #expect(numbers.allocate() == Self.number(3))
        numbers.release(Self.number(3))
        numbers.release(Self.number(3))
        #expect(numbers.allocate() == Self.number(1))
        #expect(numbers.allocate() == Self.number(3))
        #expect(numbers.allocate() == nil)
        #expect(numbers.count == 3)
    }

    @Test("A number never used, 0, and one beyond the maximum are unknown")
    func unknown() {
        var numbers = ChannelNumbers(maximum: 2)
        #expect(numbers.standing(of: Self.number(1)) == .unknown)
        _ = numbers.allocate()
        #expect(numbers.standing(of: Self.number(1)) == .inUse)
        for value in [0, 2, 3, .max] as [UInt16] { #expect(numbers.standing(of: Self.number(value)) == .unknown) }
        numbers.release(Self.number(2))
        #expect(numbers.standing(of: Self.number(2)) == .unknown)
    }

    @Test("All numbers can be used", arguments: [0, 1, 2047, .max] as [UInt16])
    func all(maximum: UInt16) {
        var numbers = ChannelNumbers(maximum: maximum)
        for expected in 0..<maximum { #expect(numbers.allocate()?.rawValue == expected + 1) }
        #expect(numbers.allocate() == nil)
    }
}
