// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire

// OutboundQueue: the octets of one connection that wait to be written, the right to write them, and the publishers that
// wait for room. One writer at a time: whoever has the token takes what was appended and writes it outside the lock.
// Pure: no socket, loop or lock. Inside the connection's lock, as a part of ConnectionState.
// Not here: octets that were taken, and the socket (SocketWriter); which acknowledgements go with them (ConnectionState).
//
//             scheduleFlush() -> .wakeLoop        beginFlush() .take, loopTook(true)
//   nobody --------------------------> scheduled ------------------------------> loop --loopTook(false)--> nobody
//      \---callerTakes()---> caller --callerEnded()--> nobody, or scheduled        ^
//                                 \------------giveToLoop()-----------------------/

/// The holder of the writer token.
enum Writer {
    case nobody
    /// A publishing task writes its own octets: the pipe was idle.
    case caller
    /// The loop writes, or waits for the socket to take more.
    case loop
}

/// The caller's next step after it unlocked.
enum CallerStep: Sendable {
    /// Somebody is awake already and will write.
    case none
    /// Ask the loop to flush.
    case wakeLoop
    /// Write now: the caller holds the writer token.
    case write
    /// The same, on the loop's thread, which has other sockets to look after before the caller continues.
    case writeAndSuspend
}

struct OutboundQueue: ~Copyable {
    typealias Room = WaitingLine<(token: UInt32, channel: ChannelNumber)>

    /// The loop's next step in a flush.
    enum FlushStep: Equatable {
        /// A caller writes; it wakes the loop if more is left.
        case leave
        /// The loop has the token: write what was taken before.
        case write
        /// Nobody writes: take what was appended, and tell `loopTook`.
        case take
    }

    /// Octets appended and not yet taken.
    var fill = WireBuffer(capacity: 16 << 10)
    private(set) var writer = Writer.nobody
    /// The loop has been asked to flush and has not yet begun.
    private(set) var isFlushScheduled = false
    /// Publishers that wait for room.
    private var room = Room()
    /// Octets above which publishers wait.
    let limit: Int

    init(limit: Int) { self.limit = limit }

    /// Whether publishers wait until octets are written.
    var isFull: Bool { self.fill.count >= self.limit }

    /// Whether nothing is being written, nor about to be.
    var isIdle: Bool { self.writer == .nobody && !self.isFlushScheduled }
}

// MARK: - The writer token

extension OutboundQueue {
    /// After an append: says who writes it.
    mutating func scheduleFlush() -> CallerStep {
        guard self.isIdle else { return .none }
        self.isFlushScheduled = true
        return .wakeLoop
    }

    /// The caller takes the token, and what was appended; only when nobody has it.
    mutating func callerTakes() { self.writer = .caller }

    /// The caller has written all it took.
    ///
    /// - Parameter hasMore: Whether more is to be written, or the end of the connection waits for the token.
    /// - Returns: Whether the loop is to be woken.
    mutating func callerEnded(hasMore: Bool) -> CallerStep {
        self.writer = .nobody
        guard hasMore else { return .none }
        self.isFlushScheduled = true
        return .wakeLoop
    }

    /// The caller passes on the token with what it could not write; the loop is to be woken.
    mutating func giveToLoop() { self.writer = .loop }

    /// The loop begins a flush.
    ///
    /// - Parameter hasOutput: Whether the transport may have octets of its own to send.
    /// - Returns: The loop's next step.
    mutating func beginFlush(hasOutput: Bool) -> FlushStep {
        self.isFlushScheduled = false
        if self.writer == .caller { return .leave }
        guard self.writer == .loop || hasOutput else { return .take }
        self.writer = .loop
        return .write
    }

    /// The loop has taken what was appended; without any the token is nobody's.
    mutating func loopTook(_ hasOctets: Bool) { self.writer = hasOctets ? .loop : .nobody }
}

// MARK: - Room

extension OutboundQueue {
    /// Waits for room to publish.
    mutating func waitForRoom(_ token: UInt32, on channel: ChannelNumber) -> Room.Ticket {
        self.room.append((token, channel))
    }

    /// Gives up a place.
    mutating func stopWaiting(_ ticket: Room.Ticket) { _ = self.room.remove(ticket) }

    /// The channel has ended: the tokens of its publishers.
    mutating func takeWaiters(of channel: ChannelNumber) -> [UInt32] {
        self.room.removeAll { $0.channel == channel }.map(\.token)
    }

    /// Whether a publisher waits.
    var hasWaiters: Bool { !self.room.isEmpty }

    /// The publishers that may try again: all, once half of the buffer is free.
    mutating func takeWaiters() -> [UInt32] {
        guard !self.room.isEmpty, self.fill.count <= self.limit / 2 else { return [] }
        var tokens: [UInt32] = []
        while let waiter = self.room.popFirst() { tokens.append(waiter.token) }
        return tokens
    }

    /// The connection has ended: nobody waits for room any more.
    mutating func removeWaiters() { self.room = Room() }
}
