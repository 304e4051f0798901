// SPDX-License-Identifier: Apache-2.0

// HeartbeatSchedule: when to send a heartbeat, and when to give the peer up (§4.2.7; RabbitMQ counts any octets).
// We send when nothing was written for half an interval, as every broker does; the peer is dead after one and a half
// intervals and half a second without an octet read: three of its heartbeats did not come. The section says two; the
// half of an interval less is time in which a service stands still.
// Time in which we did not read, because the application is behind, is not the peer's silence.
// Pure: "now" is an argument; the owner keeps one timer at `deadline`.

/// The heartbeats of one connection.
package struct HeartbeatSchedule: Hashable, Sendable {
    /// What is due.
    package enum Action: Hashable, Sendable {
        case none
        /// Write a heartbeat frame, and report it with `wrote`.
        case sendHeartbeat
        /// Nothing was read for too long: the connection is lost.
        case peerDead
    }

    /// Half the interval in nanoseconds; nil when heartbeats are off.
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
    ///   - patience: Nanoseconds of silence after which the peer is dead; nil for one and a half intervals and half a second.
    ///   - now: The time of the last octet in both directions.
    package init(seconds: UInt16, patience: UInt64? = nil, now: MonotonicNanoseconds) {
        self.half = seconds == 0 ? nil : UInt64(seconds) * 500_000_000
        self.patience = patience ?? UInt64(seconds) * 1_500_000_000 + 500_000_000
        self.lastWrite = now
        self.lastRead = now
    }

    /// Octets went into the socket.
    package mutating func wrote(now: MonotonicNanoseconds) { self.lastWrite = max(self.lastWrite, now) }

    /// Octets came out of the socket.
    package mutating func read(now: MonotonicNanoseconds) { self.lastRead = max(self.lastRead, now) }

    /// We stop reading the socket.
    package mutating func pausedReading() { self.isPaused = true }

    /// We read again; the peer's silence is counted from here.
    package mutating func resumedReading(now: MonotonicNanoseconds) {
        self.isPaused = false
        self.read(now: now)
    }

    /// Tells what is due.
    package func check(now: MonotonicNanoseconds) -> Action {
        guard let half = self.half else { return .none }
        if !self.isPaused && Self.elapsed(from: self.lastRead, to: now) >= self.patience { return .peerDead }
        return Self.elapsed(from: self.lastWrite, to: now) >= half ? .sendHeartbeat : .none
    }

    /// When to call `check` next; nil when heartbeats are off.
    package var deadline: MonotonicNanoseconds? {
        guard let half = self.half else { return nil }
        let send = self.lastWrite + half
        return self.isPaused ? send : min(send, self.lastRead + self.patience)
    }

    private static func elapsed(from: MonotonicNanoseconds, to: MonotonicNanoseconds) -> UInt64 {
        to > from ? to - from : 0
    }
}
