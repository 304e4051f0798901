// SPDX-License-Identifier: Apache-2.0
import DequeModule
import SystemPackage

// MemoryTransport: a stream between two owners on one loop, without a descriptor: tests choose how octets are cut, when
// they arrive and how the stream ends. Edge-triggered as a socket is: an event when octets come, when room appears after
// the stream was full, and at an end. Loop thread only.

package final class MemoryTransport: ByteTransport {
    /// How many octets wait for the reader at most.
    package let capacity: Int
    /// How many octets one read returns at most.
    package var readLimit = Int.max
    /// Reads say that they may have stopped before the last octet, as at urgent data.
    package var cutsReads = false

    private weak var peer: MemoryTransport?
    private var inbound: Deque<UInt8> = []
    private var hasPeerEnded = false
    private var failure_: SystemError?
    private var wasFull = false
    private var hasFinished = false
    private var handler: (any SocketHandler)?
    private var loop: EventLoop?
    private var reportsReadable = true
    private var pending: ReadyEvents = []

    private init(capacity: Int) { self.capacity = capacity }

    /// Two ends; each must be kept.
    package static func pair(capacity: Int = 64 << 10) -> (MemoryTransport, MemoryTransport) {
        let (one, other) = (MemoryTransport(capacity: capacity), MemoryTransport(capacity: capacity))
        one.peer = other
        other.peer = one
        return (one, other)
    }

    package func read(into room: UnsafeMutableRawBufferPointer, isCut: inout Bool) -> IOResult {
        let count = min(room.count, self.inbound.count, self.readLimit)
        if count > 0 {
            for index in 0..<count { room[index] = self.inbound[index] }
            self.inbound.removeFirst(count)
            isCut = self.cutsReads
            if let peer, peer.wasFull {
                peer.wasFull = false
                peer.report(.writable)
            }
            return .count(count)
        }
        if let failure_ { return .failed(failure_) }
        return self.hasPeerEnded ? .endOfStream : .wouldBlock
    }

    package func write(_ octets: UnsafeRawBufferPointer) -> IOResult {
        guard let peer, !self.hasFinished, !peer.isClosed else {
            return .failed(SystemError(errno: .brokenPipe, call: "send"))
        }
        let count = min(octets.count, peer.capacity - peer.inbound.count)
        guard count > 0 else {
            self.wasFull = true
            return .wouldBlock
        }
        peer.inbound.append(contentsOf: octets[..<count])
        peer.report(.readable)
        return .count(count)
    }

    package private(set) var isClosed = false

    package var socket: StreamSocket? { nil }
    package var undelivered: Int { self.peer?.inbound.count ?? 0 }

    package func finishWriting() {
        guard !self.hasFinished else { return }
        self.hasFinished = true
        self.peer?.hasPeerEnded = true
        self.peer?.report([.readable, .hangup])
    }

    package func shutdownBoth() {
        self.finishWriting()
        self.hasPeerEnded = true
        self.report([.readable, .hangup])
    }

    package func reset() {
        if !self.isClosed { self.peer?.inbound.removeAll() }
        self.end(.failed)
    }

    /// Unread octets turn the end into a reset, as on a socket.
    package func close() { self.end(self.inbound.isEmpty ? .inOrder : .failed) }

    private enum Close { case inOrder, failed }

    private func end(_ close: Close) {
        guard !self.isClosed else { return }
        self.isClosed = true
        self.unwatch()
        if close == .failed { self.peer?.failure_ = SystemError(errno: .connectionReset, call: "recv") }
        self.finishWriting()
    }

    package func watch(_ handler: any SocketHandler, on loop: EventLoop) throws(SystemError) {
        self.handler = handler
        self.loop = loop
        self.report(self.inbound.isEmpty && !self.hasPeerEnded ? .writable : [.readable, .writable])
    }

    package func unwatch() { self.handler = nil }

    package func setReportsReadable(_ reports: Bool) {
        self.reportsReadable = reports
        if reports, !self.inbound.isEmpty { self.report(.readable) }
    }

    /// In the next turn, as a loop does.
    private func report(_ events: ReadyEvents) {
        guard let loop, self.handler != nil else { return }
        let isNew = self.pending.isEmpty
        self.pending.formUnion(events)
        if isNew { loop.enqueue(Report(self)) }
    }

    private func deliver() {
        var events = self.pending
        self.pending = []
        if !self.reportsReadable, !events.has(.ending) { events.remove(.readable) }
        if !events.isEmpty { self.handler?.socketReady(events) }
    }

    private final class Report: LoopWork, @unchecked Sendable {
        private let transport: MemoryTransport

        init(_ transport: MemoryTransport) { self.transport = transport }

        func runOnLoop() { self.transport.deliver() }
    }
}
