// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking

// ScriptedLink: the broker's end of the stream of a ScriptedBroker: octets in, octets out, in pieces of any size.
// Reads up to a bound and stops; a task waits for more by a token that readiness, the deadline or cancellation resolves.
// Octets go out piece by piece: with `drained` each piece waits until the peer has read the one before, so the peer's
// reads end exactly where the pieces do.
// Unsafe: `room` is one raw allocation for the life of the link; only a read of the loop's thread fills it.

final class ScriptedLink: StreamOwner, LoopWork, @unchecked Sendable {
    /// What is queued to go out.
    enum Item {
        case octets([UInt8])
        /// Ends the sending half in order.
        case finish
        /// Closes the socket; with octets unread the peer sees a reset.
        case close
    }

    /// Why there are no more octets.
    enum End: Equatable {
        case endOfStream
        case failed(String)
    }

    private struct State {
        var inbound: [UInt8] = []
        var end: End?
        var isPaused = false
        var waiters: [UInt64: Suspension<Bool>] = [:]
        var nextWaiter: UInt64 = 0
        var cancelled: Set<UInt64> = []
        var outbound: [Item] = []
        var waitsForPeer = false
        var isScheduled = false
    }

    private static let inboundBound = 2 << 20

    let loop: EventLoop
    let stream: StreamEngine
    private let state = Locked(State())
    private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)  // loop thread only
    private var partial: ArraySlice<UInt8> = []  // loop thread only
    private var isClosed = false  // loop thread only

    init(socket: StreamSocket, loop: EventLoop) {
        self.stream = StreamEngine(socket, on: loop, readsPerTurn: 32)
        self.loop = loop
    }

    deinit { self.room.deallocate() }

    func start() {
        self.loop.execute { [self] in
            do throws(SystemError) {
                try self.stream.start(self)
            } catch {
                self.ended(.failed("the socket cannot be registered: \(error)"))
            }
        }
    }

    // MARK: reading

    func streamRoom() -> UnsafeMutableRawBufferPointer? {
        let mayRead = self.state.withLock { !$0.isPaused && $0.inbound.count < Self.inboundBound && $0.end == nil }
        return mayRead ? self.room : nil
    }

    func streamReceived(_ count: Int) { self.wake { $0.inbound.append(contentsOf: self.room[..<count]) } }

    func streamRested(hasEmptied: Bool) {}

    func streamWritable() { self.write() }

    func streamEnded(_ end: StreamEnd) {
        switch end {
        case .endOfStream: self.ended(.endOfStream)
        case .failed(let error): self.ended(.failed("\(error)"))
        case .loopStopped: self.closeNow()
        }
    }

    private func ended(_ end: End) { self.wake { $0.end = $0.end ?? end } }

    private func wake(_ change: (inout State) -> Void) {
        let waiters = self.state.withLock { state in
            change(&state)
            defer { state.waiters = [:] }
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.resume(returning: true) }
    }

    /// Stops or goes on reading: a peer that does not read lets the other side's writes pile up.
    func setPaused(_ paused: Bool) {
        self.state.withLock { $0.isPaused = paused }
        if !paused { self.loop.execute { self.stream.read() } }
    }

    /// Looks at what came, and takes from it what `body` says.
    func take<Result>(_ body: (inout [UInt8], End?) -> Result) -> Result {
        let (result, wasFull) = self.state.withLock { state in
            let wasFull = state.inbound.count >= Self.inboundBound
            return (body(&state.inbound, state.end), wasFull)
        }
        if wasFull { self.loop.execute { self.stream.read() } }
        return result
    }

    /// Waits until something has come since `body` last looked; false when the deadline passed or the task was cancelled.
    func waitForMore(than count: Int, until deadline: MonotonicTime) async -> Bool {
        let token = self.state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        let timer = LinkTimer(link: self, token: token)
        return await withCancellableSuspension(
            onCancel: { self.giveUp(token, isCancellation: true) },
            { (waiter: Suspension<Bool>) in
                let immediate = self.state.withLock { state -> Bool? in
                    if state.cancelled.remove(token) != nil { return false }
                    if state.inbound.count != count || state.end != nil { return true }
                    state.waiters[token] = waiter
                    return nil
                }
                if let immediate { return waiter.resume(returning: immediate) }
                self.loop.execute { timer.start(at: deadline) }
            }
        )
    }

    fileprivate func giveUp(_ token: UInt64, isCancellation: Bool = false) {
        let waiter = self.state.withLock { state in
            let waiter = state.waiters.removeValue(forKey: token)
            if waiter == nil, isCancellation { state.cancelled.insert(token) }
            return waiter
        }
        waiter?.resume(returning: false)
    }

    fileprivate func isWaiting(_ token: UInt64) -> Bool { self.state.withLock { $0.waiters[token] != nil } }

    // MARK: writing

    /// Queues items in order.
    ///
    /// Any thread.
    func send(_ items: [Item], drained: Bool) {
        let isNew = self.state.withLock { state in
            state.outbound += items
            state.waitsForPeer = drained
            defer { state.isScheduled = true }
            return !state.isScheduled
        }
        if isNew { self.loop.enqueue(self) }
    }

    func runOnLoop() {
        self.state.withLock { $0.isScheduled = false }
        self.write()
    }

    private func write() {
        while !self.isClosed {
            while !self.partial.isEmpty {
                var sent = 0
                let end = self.partial.withUnsafeBytes { self.stream.send($0, from: &sent) }
                self.partial = self.partial.dropFirst(sent)
                switch end {
                case .drained: break
                case .full: return
                // A peer that has closed already: what it sent before is still to be read.
                case .failed: self.partial = []
                }
            }
            let waitsForPeer = self.state.withLock { $0.waitsForPeer && !$0.outbound.isEmpty }
            // The kernel reports the socket writable each time the peer reads, but a moment before it counts the octets
            // as read: whoever looks in between finds some left, and no second report comes. So look again.
            if waitsForPeer, self.stream.undelivered > 0 {
                self.loop.schedule(self, at: MonotonicTime.now + .milliseconds(1))
                return
            }
            let item = self.state.withLock { $0.outbound.isEmpty ? nil : $0.outbound.removeFirst() }
            switch item {
            case .octets(let octets): self.partial = octets[...]
            case .finish: self.stream.finishWriting()
            case .close: self.closeNow()
            case nil: return
            }
        }
    }

    private func closeNow() {
        guard !self.isClosed else { return }
        self.isClosed = true
        self.stream.reset()
        self.ended(.endOfStream)
    }
}

/// Ends one wait at its deadline.
private final class LinkTimer: LoopWork, @unchecked Sendable {
    private let link: ScriptedLink
    private let token: UInt64

    init(link: ScriptedLink, token: UInt64) {
        self.link = link
        self.token = token
    }

    /// Loop thread.
    func start(at deadline: MonotonicTime) {
        if self.link.isWaiting(self.token) { self.link.loop.schedule(self, at: deadline) }
    }

    func runOnLoop() { self.link.giveUp(self.token) }
}
