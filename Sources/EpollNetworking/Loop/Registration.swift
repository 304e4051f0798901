// SPDX-License-Identifier: Apache-2.0
public import CEpoll

// Registration: who is told about a descriptor. A strong table by descriptor; the generation beside it goes through
// epoll's 64 bits and back, so that an event for a descriptor that was closed and opened again finds nobody.
// Owned by the loop thread.
//
//   token:  generation (32 bits) | descriptor (32 bits)

/// What became possible on a descriptor; may be spurious, so read and write until would-block.
@frozen
@usableFromInline
package struct ReadyEvents: OptionSet, Sendable {
    @usableFromInline package let rawValue: UInt32

    @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }

    @inlinable package static var readable: ReadyEvents { ReadyEvents(rawValue: UInt32(cepoll_in)) }
    @inlinable package static var writable: ReadyEvents { ReadyEvents(rawValue: UInt32(cepoll_out)) }
    /// Urgent data of TCP, or out-of-band data of a Unix socket, has come: a read stops at its mark, however much follows.
    @inlinable package static var urgent: ReadyEvents { ReadyEvents(rawValue: UInt32(cepoll_pri)) }
    /// The peer sends no more, or both ends are closed.
    ///
    /// Octets may still wait to be read.
    @inlinable package static var hangup: ReadyEvents {
        ReadyEvents(rawValue: UInt32(cepoll_hup) | UInt32(cepoll_rdhup))
    }
    @inlinable package static var error: ReadyEvents { ReadyEvents(rawValue: UInt32(cepoll_err)) }
    /// The end of one direction or of both, or an error.
    @inlinable package static var ending: ReadyEvents {
        ReadyEvents(rawValue: Self.hangup.rawValue | Self.error.rawValue)
    }
    /// Readable, or an end of some kind, which a read tells apart.
    @inlinable package static var worthReading: ReadyEvents {
        ReadyEvents(rawValue: Self.readable.rawValue | Self.urgent.rawValue | Self.ending.rawValue)
    }
    /// The loop ends: the last call.
    ///
    /// The registration is gone already; fail those who wait.
    @inlinable package static var loopStopped: ReadyEvents { ReadyEvents(rawValue: 0x8000_0000) }

    /// Any of the bits; the hangup of one direction counts.
    @inlinable package var isHangup: Bool { self.has(.hangup) }

    /// Whether any bit of `other` is set; without the generic ways of OptionSet, which cost more than a system call
    /// when they are not specialised.
    @inlinable package func has(_ other: ReadyEvents) -> Bool { self.rawValue & other.rawValue != 0 }
}

/// Is told about one descriptor, on the loop thread.
package protocol SocketHandler: AnyObject {
    func socketReady(_ events: ReadyEvents)
}

/// Names a registration; stale once it was removed.
package struct RegistrationID: Hashable, Sendable {
    let token: UInt64

    var descriptor: CInt { CInt(truncatingIfNeeded: self.token & 0xFFFF_FFFF) }
    var generation: UInt32 { UInt32(self.token >> 32) }

    init(token: UInt64) { self.token = token }

    init(descriptor: CInt, generation: UInt32) {
        self.token = UInt64(generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
    }
}

struct RegistrationTable {
    private struct Slot {
        var generation: UInt32 = 0
        var handler: (any SocketHandler)?
    }

    private var slots: [Slot] = []
    private(set) var count = 0

    /// Replaces a forgotten registration of the same number, whose descriptor must have been closed.
    mutating func insert(_ handler: any SocketHandler, for descriptor: CInt) -> RegistrationID {
        let index = Int(descriptor)
        while self.slots.count <= index { self.slots.append(Slot()) }
        if self.slots[index].handler == nil { self.count += 1 }
        self.slots[index].generation &+= 1
        self.slots[index].handler = handler
        return RegistrationID(descriptor: descriptor, generation: self.slots[index].generation)
    }

    /// The handler, unless the registration is gone or its number belongs to a later one.
    func handler(of id: RegistrationID) -> (any SocketHandler)? {
        let index = Int(id.descriptor)
        guard index >= 0, index < self.slots.count, self.slots[index].generation == id.generation else { return nil }
        return self.slots[index].handler
    }

    mutating func remove(_ id: RegistrationID) -> (any SocketHandler)? {
        guard let handler = self.handler(of: id) else { return nil }
        self.slots[Int(id.descriptor)].handler = nil
        self.count -= 1
        return handler
    }

    mutating func removeAll() -> [any SocketHandler] {
        var handlers: [any SocketHandler] = []
        for index in self.slots.indices {
            if let handler = self.slots[index].handler.take() { handlers.append(handler) }
        }
        self.count = 0
        return handlers
    }
}
