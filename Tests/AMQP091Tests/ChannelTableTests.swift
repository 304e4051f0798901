// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollNetworking
import Testing

// ChannelTableTests: each opening of a channel keeps a separate state for as long as anything refers to it.

@Suite("Channel table", .timeLimit(.minutes(1)))
struct ChannelTableTests {
    static let ended = AMQPError(.channelClosed, "ended", scope: .channel)

    @Test("States keep their slots while the table grows")
    func grows() {
        var table = ChannelTable()
        let slots = (1...100).map { table.add(ChannelState(ChannelNumber(rawValue: $0))) }
        #expect(Set(slots).count == 100)
        for (index, slot) in slots.enumerated() {
            let number = table[slot].number.rawValue
            #expect(number == UInt16(index + 1))
            if index % 3 == 0 { table[slot].failure = Self.ended }
        }
        for (index, slot) in slots.enumerated() {
            let hasFailed = table[slot].hasFailed
            #expect(hasFailed == (index % 3 == 0))
        }
    }

    @Test("A slot that was removed is used again, with a new state")
    func reuse() {
        var table = ChannelTable()
        let first = table.add(ChannelState(ChannelNumber(rawValue: 1)))
        table[first].failure = Self.ended
        let second = table.add(ChannelState(ChannelNumber(rawValue: 1)))
        // Nothing was removed: the number is the same, the opening is not.
        #expect(second != first)
        let (hasFirst, hasSecond) = (table[first].hasFailed, table[second].hasFailed)
        #expect(hasFirst && !hasSecond)
        table.remove(first)
        let third = table.add(ChannelState(ChannelNumber(rawValue: 2)))
        #expect(third == first)
        let (hasThird, number) = (table[third].hasFailed, table[third].number.rawValue)
        #expect(!hasThird)
        #expect(number == 2)
    }

    @Test("An opening of a channel has its slot until the last reference to it is gone")
    func references() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            var kept: AMQPChannel? = try await connection.openChannel()
            try await kept?.close()
            let second = try await connection.openChannel()
            let slot = try #require(kept).core.slot
            #expect(second.core.slot != slot)
            #expect(kept?.core.ending != nil && second.core.ending == nil)
            kept = nil
            // The loop may hold the channel for another turn.
            var isUsedAgain = false
            for _ in 0..<1000 where !isUsedAgain {
                let next = try await connection.openChannel()
                isUsedAgain = next.core.slot == slot
                try await next.close()
            }
            #expect(isUsedAgain)
            try await connection.close()
        }
    }

    @Test("Opening and closing channels for long does not make the table grow")
    func bounded() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            var slots: Set<ChannelTable.Slot> = []
            for _ in 0..<200 {
                let channel = try await connection.openChannel()
                try await channel.enableConfirms()
                try await channel.publish("m", to: .exchange("amq.fanout"))
                slots.insert(channel.core.slot)
                try await channel.close()
            }
            #expect(slots.count < 20)
            try await connection.close()
        }
    }
}
