// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import DequeModule
import SystemPackage

// SimulatedStream: one end of a link of a simulation, as StreamEngine uses it. It behaves as a TCP socket does: octets are
// accepted up to a bound, arrive later, in order and cut anywhere; a finished peer is told behind them; octets for an end
// that is closed, and unread octets at a close, reset the link. On the simulation's thread only.

package final class SimulatedStream: ByteTransport, @unchecked Sendable {
    private unowned let network: SimulatedNetwork
    private let link: Int
    private let isClient: Bool
    weak var peer: SimulatedStream?

    // Octets that have arrived here.
    private var inbound = Deque<UInt8>()
    private var hasPeerEnded = false
    private var lost: SystemError?

    // Octets on the way from here.
    private var inFlight = 0
    /// The latest arrival: later octets do not overtake.
    private var lastArrival = MonotonicTime(nanoseconds: 0)
    private var flight = Deque<(time: MonotonicTime, body: (SimulatedStream) -> Void)>()
    private var stalledUntil = MonotonicTime(nanoseconds: 0)
    /// Incremented when what is on the way is dropped.
    private var generation = 0
    private var isCut = false
    var isLosing = false
    private var wasFull = false
    private var hasFinished = false
    package private(set) var isClosed = false

    private var handler: (any SocketHandler)?
    private var loop: EventLoop?
    private var reportsReadable = true
    private var pending: ReadyEvents = []

    init(_ network: SimulatedNetwork, link: Int, isClient: Bool) {
        self.network = network
        self.link = link
        self.isClient = isClient
    }

    private var simulation: Simulation { self.network.simulation }
    /// The place among the streams of a simulation, whatever their addresses in memory.
    var order: Int { self.link * 2 + (self.isClient ? 0 : 1) }
    private var name: String { "link \(self.link) \(self.isClient ? "client" : "broker")" }

    package var socket: StreamSocket? { nil }
    package var undelivered: Int { self.inFlight }

    // MARK: octets

    package func read(into room: UnsafeMutableRawBufferPointer, isCut: inout Bool) -> IOResult {
        guard !self.inbound.isEmpty else {
            if let lost { return .failed(lost) }
            return self.hasPeerEnded ? .endOfStream : .wouldBlock
        }
        var count = min(room.count, self.inbound.count)
        if count > 1, self.network.random.chance(10) {
            count = 1 + self.network.random.below(count)
            isCut = count < room.count
        }
        for index in 0..<count { room[index] = self.inbound[index] }
        self.inbound.removeFirst(count)
        if let peer, peer.wasFull {
            self.simulation.schedule(after: self.network.delay()) {
                guard peer.wasFull, peer.room > 0 else { return }
                peer.wasFull = false
                peer.report(.writable)
            }
        }
        return .count(count)
    }

    private var room: Int { self.network.capacity - self.inFlight - (self.peer?.inbound.count ?? 0) }

    package func write(_ octets: UnsafeRawBufferPointer) -> IOResult {
        if let lost { return .failed(lost) }
        guard !self.hasFinished, !self.isClosed else { return .failed(SystemError(errno: .brokenPipe, call: "send")) }
        var count = min(octets.count, self.room)
        guard count > 0 else {
            self.wasFull = true
            return octets.isEmpty ? .count(0) : .wouldBlock
        }
        if count > 1, self.network.random.chance(10) {
            count = 1 + self.network.random.below(count)
        }
        self.send([UInt8](octets[..<count]))
        return .count(count)
    }

    /// Sends octets in pieces that follow from the seed.
    private func send(_ octets: [UInt8]) {
        self.inFlight += octets.count
        // Octets that are lost on the way fill the room for ever, as those of a peer that does not acknowledge.
        if self.isLosing || self.isCut { return }
        var rest = octets[...]
        while !rest.isEmpty {
            let isWhole = self.network.random.chance(70)
            let piece = rest.prefix(isWhole ? rest.count : 1 + self.network.random.below(rest.count))
            rest = rest.dropFirst(piece.count)
            self.deliver { [weak self] peer in
                self?.inFlight -= piece.count
                peer.arrived(piece)
            }
        }
    }

    /// Has something happen at the peer, behind everything that was sent before.
    private func deliver(_ body: @escaping (SimulatedStream) -> Void) {
        self.lastArrival = max(self.lastArrival, self.simulation.now + self.network.delay())
        self.flight.append((self.lastArrival, body))
        if self.flight.count == 1 { self.scheduleArrival() }
    }

    private func scheduleArrival() {
        guard let next = self.flight.first else { return }
        let time = max(next.time, self.stalledUntil)
        let generation = self.generation
        self.simulation.schedule(after: time - self.simulation.now) {
            // Reset, or stalled meanwhile.
            guard generation == self.generation else { return }
            guard self.stalledUntil <= self.simulation.now else { return self.scheduleArrival() }
            guard let arrival = self.flight.popFirst() else { return }
            if let peer = self.peer { arrival.body(peer) }
            self.scheduleArrival()
        }
    }

    /// Drops everything on the way.
    private func dropFlight() {
        self.generation += 1
        self.flight = []
    }

    private func arrived(_ octets: ArraySlice<UInt8>) {
        self.simulation.note("\(self.name) gets \(octets.count) octets")
        self.simulation.arrived(octets)
        if self.isClosed {
            self.peer?.isReset(after: self.network.delay())
            return
        }
        self.inbound.append(contentsOf: octets)
        self.report(.readable)
    }

    // MARK: ends

    package func finishWriting() {
        guard !self.hasFinished else { return }
        self.hasFinished = true
        if self.isLosing || self.isCut { return }
        self.deliver { peer in
            self.simulation.note("\(peer.name) gets the end")
            peer.hasPeerEnded = true
            peer.report([.readable, .hangup])
        }
    }

    package func shutdownBoth() {
        self.finishWriting()
        self.hasPeerEnded = true
        self.report([.readable, .hangup])
    }

    package func reset() { self.end(isInOrder: false) }

    package func close() { self.end(isInOrder: self.inbound.isEmpty) }

    private func end(isInOrder: Bool) {
        guard !self.isClosed else { return }
        self.isClosed = true
        self.unwatch()
        if isInOrder || self.lost != nil { return self.finishWriting() }
        self.hasFinished = true
        if self.isLosing || self.isCut { return }
        // Octets on the way are dropped, as those in the buffer of a socket that is reset.
        self.dropFlight()
        self.peer?.isReset(after: self.network.delay())
    }

    private func isReset(after delay: Duration) {
        self.simulation.schedule(after: delay) { self.lose(.connectionReset) }
    }

    private func lose(_ error: Errno) {
        guard self.lost == nil, !self.isClosed else { return }
        self.simulation.note("\(self.name) is lost")
        self.lost = SystemError(errno: error, call: "recv")
        self.dropFlight()
        self.report([.readable, .writable, .hangup])
    }

    // MARK: faults

    /// Loses what is sent from now on; what is on the way arrives in part, and this end learns of it later.
    func cut() {
        guard !self.isCut else { return }
        self.isCut = true
        let arriving = self.network.delay()
        self.simulation.schedule(after: arriving) {
            self.dropFlight()
            self.lose(self.network.random.chance(80) ? .connectionReset : .timedOut)
        }
    }

    func stall(for duration: Duration) {
        let end = self.simulation.now + duration
        self.stalledUntil = max(self.stalledUntil, end)
    }

    // MARK: events

    package func watch(_ handler: any SocketHandler, on loop: EventLoop) throws(SystemError) {
        self.handler = handler
        self.loop = loop
        loop.core.simulatedHandlers[ObjectIdentifier(self)] = self
        self.report(self.inbound.isEmpty && !self.hasPeerEnded ? .writable : [.readable, .writable])
    }

    package func unwatch() {
        self.handler = nil
        self.loop?.core.simulatedHandlers[ObjectIdentifier(self)] = nil
        self.loop = nil
    }

    package func setReportsReadable(_ reports: Bool) {
        self.reportsReadable = reports
        if reports, !self.inbound.isEmpty { self.report(.readable) }
    }

    /// In a later turn of the loop.
    private func report(_ events: ReadyEvents) {
        guard let loop, self.handler != nil else { return }
        let isNew = self.pending.isEmpty
        self.pending.formUnion(events)
        if isNew { loop.enqueue(Report(stream: self)) }
    }

    private func deliverEvents() {
        var events = self.pending
        self.pending = []
        if !self.reportsReadable, !events.has(.ending) { events.remove(.readable) }
        if !events.isEmpty { self.handler?.socketReady(events) }
    }

    /// The loop of this end stops.
    func loopStopped() {
        let handler = self.handler
        self.handler = nil
        self.loop = nil
        handler?.socketReady(.loopStopped)
    }

    private final class Report: LoopWork, @unchecked Sendable {
        private let stream: SimulatedStream

        init(stream: SimulatedStream) { self.stream = stream }

        func runOnLoop() { self.stream.deliverEvents() }
    }
}
