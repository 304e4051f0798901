// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import Testing

// TuneNegotiation as a table, HeartbeatSchedule as dialogues in seconds.

@Suite("Tune negotiation")
struct TuneNegotiationTests {
    struct Row: CustomTestStringConvertible, Sendable {
        let name: String
        let ours: (UInt16, UInt32, UInt16?)
        let theirs: (UInt16, UInt32, UInt16)
        let result: (UInt16, UInt32, UInt16)
        var testDescription: String { self.name }
    }

    static let rows = [
        Row(
            name: "we leave all to the broker",
            ours: (0, 0, nil),
            theirs: (2047, 131_072, 60),
            result: (2047, 131_072, 60)
        ),
        Row(name: "ours are smaller", ours: (10, 8192, 5), theirs: (2047, 131_072, 60), result: (10, 8192, 5)),
        Row(name: "theirs are smaller", ours: (4000, 1 << 20, 90), theirs: (2047, 4096, 60), result: (2047, 4096, 60)),
        Row(name: "they leave all to us", ours: (10, 8192, 5), theirs: (0, 0, 0), result: (10, 8192, 5)),
        Row(name: "nobody has a limit", ours: (0, 0, nil), theirs: (0, 0, 0), result: (.max, 131_072, 0)),
        Row(name: "we want no heartbeat", ours: (0, 0, 0), theirs: (1, 4096, 60), result: (1, 4096, 0)),
    ]

    @Test("C24, C25: each limit is the smaller one, and 0 takes the other side's", arguments: rows)
    func negotiates(_ row: Row) throws {
        let ours = try TuneNegotiation(channelMaximum: row.ours.0, frameMaximum: row.ours.1, heartbeat: row.ours.2)
        let negotiated = try ours.negotiate(
            channelMaximum: row.theirs.0,
            frameMaximum: row.theirs.1,
            heartbeat: row.theirs.2
        )
        let expected = TuneNegotiation.Negotiated(
            channelMaximum: row.result.0,
            frameMaximum: row.result.1,
            heartbeat: row.result.2
        )
        #expect(negotiated == expected)
    }

    @Test("A frame size below 8192 in the configuration is refused", arguments: [1, 4096, 8191] as [UInt32])
    func oursTooSmall(size: UInt32) {
        #expect(throws: TuneNegotiation.Invalid.frameMaximumTooSmall(size)) {
            try TuneNegotiation(channelMaximum: 0, frameMaximum: size, heartbeat: nil)
        }
    }

    @Test("A frame size below 4096 from the broker is refused", arguments: [1, 4095] as [UInt32])
    func theirsTooSmall(size: UInt32) throws {
        let ours = try TuneNegotiation(channelMaximum: 0, frameMaximum: 0, heartbeat: nil)
        #expect(throws: TuneNegotiation.Refusal.frameMaximumTooSmall(size)) {
            try ours.negotiate(channelMaximum: 0, frameMaximum: size, heartbeat: 0)
        }
    }
}

@Suite("Heartbeat schedule")
struct HeartbeatScheduleTests {
    static let second: MonotonicNanoseconds = 1_000_000_000

    @Test("F21: a heartbeat is due after half an interval without a write")
    func sends() {
        var schedule = HeartbeatSchedule(seconds: 10, now: 0)
        #expect(schedule.deadline == 5 * Self.second)
        #expect(schedule.check(now: 5 * Self.second - 1) == .none)
        #expect(schedule.check(now: 5 * Self.second) == .sendHeartbeat)
        schedule.wrote(now: 5 * Self.second)
        #expect(schedule.check(now: 5 * Self.second) == .none)
        #expect(schedule.deadline == 10 * Self.second)
        schedule.wrote(now: 4 * Self.second)  // A late report changes nothing.
        #expect(schedule.deadline == 10 * Self.second)
    }

    @Test("The peer is dead after one and a half intervals and half a second without an octet")
    func dies() {
        var schedule = HeartbeatSchedule(seconds: 10, now: 0)
        schedule.read(now: 3 * Self.second)
        schedule.wrote(now: 18 * Self.second)
        let end = 18 * Self.second + Self.second / 2
        #expect(schedule.check(now: end - 1) == .none)
        #expect(schedule.deadline == end)
        #expect(schedule.check(now: end) == .peerDead)
    }

    @Test("Silence does not count while reading is paused")
    func paused() {
        var schedule = HeartbeatSchedule(seconds: 10, now: 0)
        schedule.pausedReading()
        #expect(schedule.check(now: 100 * Self.second) == .sendHeartbeat)
        schedule.wrote(now: 100 * Self.second)
        #expect(schedule.deadline == 105 * Self.second)
        schedule.resumedReading(now: 101 * Self.second)
        schedule.wrote(now: 116 * Self.second)
        let end = 116 * Self.second + Self.second / 2
        #expect(schedule.check(now: end - 1) == .none)
        #expect(schedule.check(now: end) == .peerDead)
    }

    @Test("Interval 0 needs no heartbeat, and neither does a clock before the start")
    func off() {
        let off = HeartbeatSchedule(seconds: 0, now: 0)
        #expect(off.deadline == nil)
        #expect(off.check(now: .max) == .none)
        #expect(HeartbeatSchedule(seconds: 1, now: 50).check(now: 0) == .none)
    }
}
