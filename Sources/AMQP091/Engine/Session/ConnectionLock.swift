// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// ConnectionLock: one short lock over the state of a connection and the states of its channels. They are two values side
// by side, so that code under the lock has both as `inout`, and the compiler refuses code that has neither.
// Numbering a publish, registering its waiter and appending its frames is one step under this lock, so replies never
// come before their waiters and tags follow the wire's order. No system call and no resumption happens inside it.
// Any thread.

struct ConnectionLock: ~Copyable, Sendable {
    /// Not private: the compiler (6.3.1) refers to it from other files.
    struct Guarded: ~Copyable {
        var connection: ConnectionState
        var channels = ChannelTable()
    }

    private let guarded: Locked<Guarded>
    /// Slots of channels that no delivery or caller refers to any more.
    ///
    /// Behind a separate lock, because the last reference may be released under any other.
    private let released = Locked<[ChannelTable.Slot]>([])

    init(_ connection: consuming ConnectionState) { self.guarded = Locked(Guarded(connection: connection)) }

    /// Runs `body` with the state of the connection, alone.
    @inline(__always)
    func withLock<Result, Failure: Error>(
        _ body: (inout ConnectionState) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try self.guarded.withLock { guarded throws(Failure) in try body(&guarded.connection) }
    }

    /// Runs `body` with the states of the connection and of its channels, alone.
    @inline(__always)
    func withChannels<Result, Failure: Error>(
        _ body: (inout ConnectionState, inout ChannelTable) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try self.guarded.withLock { guarded throws(Failure) in try body(&guarded.connection, &guarded.channels) }
    }

    /// A slot for a new opening of a channel, in the table of this lock.
    func addChannel(_ number: ChannelNumber, to channels: inout ChannelTable) -> ChannelTable.Slot {
        let released = self.released.withLock { slots in
            defer { slots.removeAll(keepingCapacity: true) }
            return slots
        }
        for slot in released { channels.remove(slot) }
        return channels.add(ChannelState(number))
    }

    /// The opening of a channel that has this slot is referred to no more.
    ///
    /// Any thread, under any lock.
    func release(_ slot: ChannelTable.Slot) { self.released.withLock { $0.append(slot) } }
}
