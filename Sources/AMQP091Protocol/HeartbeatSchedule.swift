// SPDX-License-Identifier: Apache-2.0

// HeartbeatSchedule: when to send a heartbeat, and when the peer is dead (§4.2.7; RabbitMQ counts any octets).
// A heartbeat is sent when nothing was written for half an interval, as brokers do; the peer is dead after one and a half
// intervals and half a second without a received octet: three of its heartbeats are missing. The specification says two
// intervals; the shorter time means a shorter outage.
// Time in which reading was paused, because a consumer is behind, does not count as silence.
// Pure: "now" is an argument; the owner keeps one timer at `deadline`.

/// The heartbeats of one connection.
package struct HeartbeatSchedule: Hashable, Sendable {
    /// The owner's next step.
    package enum Action: Hashable, Sendable {
        case none
        /// Write a heartbeat frame, then call `wrote`.
        case sendHeartbeat
        /// Nothing was read for too long: the connection is lost.
        case peerDead
    }

    /// Half the interval in nanoseconds; nil if heartbeats are off.
    private let half: MonotonicNanoseconds?
    /// Nanoseconds of silence after which the peer is dead.
    private let patience: UInt64
    private var lastWrite: MonotonicNanoseconds
    private var lastRead: MonotonicNanoseconds
    private var isPaused = false

    /// Starts the schedule.
    ///
    /// - Parameters:
    ///   - seconds: The negotiated interval; 0 turns heartbeats off.
    ///   - patience: Nanoseconds of silence after which the peer is dead; nil for 1.5 intervals and half a second.
    ///   - now: The time of the last octet in both directions.
    package init(seconds: UInt16, patience: UInt64? = nil, now: MonotonicNanoseconds) {
        self.half = seconds == 0 ? nil : UInt64(seconds) * 500_000_000
        self.patience = patience ?? UInt64(seconds) * 1_500_000_000 + 500_000_000
        self.lastWrite = now
        self.lastRead = now
    }

    /// Records that octets were written.
    package mutating func wrote(now: MonotonicNanoseconds) { self.lastWrite = max(self.lastWrite, now) }

    /// Records that octets were read.
    package mutating func read(now: MonotonicNanoseconds) { self.lastRead = max(self.lastRead, now) }

    /// Records that reading is paused.
    package mutating func pausedReading() { self.isPaused = true }

    /// Records that reading resumed; silence counts from now.
    package mutating func resumedReading(now: MonotonicNanoseconds) {
        self.isPaused = false
        self.read(now: now)
    }

    /// Returns the step that is due.
    package func check(now: MonotonicNanoseconds) -> Action {
        guard let half = self.half else { return .none }
        if !self.isPaused && Self.elapsed(from: self.lastRead, to: now) >= self.patience { return .peerDead }
        return Self.elapsed(from: self.lastWrite, to: now) >= half ? .sendHeartbeat : .none
    }

    /// The time of the next `check`; nil if heartbeats are off.
    package var deadline: MonotonicNanoseconds? {
        guard let half = self.half else { return nil }
        let send = self.lastWrite + half
        return self.isPaused ? send : min(send, self.lastRead + self.patience)
    }

    private static func elapsed(from: MonotonicNanoseconds, to: MonotonicNanoseconds) -> UInt64 {
        to > from ? to - from : 0
    }
}
