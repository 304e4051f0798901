// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// ConnectionCore: the tasks that read, write and wait on one stream, from any thread. Reading and writing happen on the
// caller's thread (ConnectionCore+Reading, +Writing); the loop reports readiness, keeps the deadlines and closes. The stream
// itself, its events and its end are StreamEngine's. The loop keeps the core while it is registered; StreamConnection, which
// users hold, ends it when it is released.
//
// The stream is private to this file. Calls on it are methods of a side (ReadSide, WriteSide, ClosingSide), and a side is only
// given to its one holder: the descriptor is closed when no side is held, so no call meets a descriptor of another owner.
// Unsafe: a side refers to its core without keeping it; it is only used inside methods of the core, which keep it.

final class ConnectionCore: StreamOwner, StreamEndObserver, LoopWork, CancellableWait, @unchecked Sendable {
    private let stream: StreamEngine
    let loop: EventLoop
    /// The peer as errors name it; empty for an accepted connection.
    let name: String
    let terms: StreamTerms
    let flow = Locked(ConnectionFlow())

    // Loop thread only.
    private var isStarted = false
    private var timer: TimerID?

    /// Takes a connected stream over; `start` must follow.
    init(_ transport: any ByteTransport, on loop: EventLoop, name: String, terms: StreamTerms) {
        self.stream = StreamEngine(transport, on: loop, readsPerTurn: 0)
        self.loop = loop
        self.name = name
        self.terms = terms
    }

    convenience init(_ transport: any ByteTransport, on loop: EventLoop, name: String, options: SocketOptions) {
        self.init(transport, on: loop, name: name, terms: StreamTerms(options))
    }

    /// Has the loop watch the socket; reads and writes may begin at once.
    func start() { self.callLoop() }

    /// Has `runOnLoop` called; an ended loop has forgotten the socket, and then it is done here.
    func callLoop() {
        if self.loop.isInLoop {
            self.runOnLoop()
        } else if !self.loop.enqueue(self) {
            self.loopEnded()
        }
    }

    /// No loop closes the descriptor any more.
    private func loopEnded() {
        self.fail(self.loop.endedError)
        self.takeClosingSide()?.abandon()
    }

    func fail(_ error: NetworkError) {
        var resumptions: [FlowResumption] = []
        self.flow.withLock { $0.end(.close, reason: error, into: &resumptions) }
        for resumption in resumptions { resumption.resume() }
    }

    /// Runs a call that moves no octets while the descriptor is certainly open; nil when the connection has ended.
    func inspect<Value>(_ body: (StreamSocket) -> Value?) -> Value? {
        // Inside the lock: the descriptor must not be closed meanwhile.
        self.flow.withLock { flow in
            if flow.ending != .open || flow.isDescriptorClosed { return nil }
            return self.stream.socket.flatMap(body)
        }
    }

    /// The parameters of the TLS session; nil in the clear.
    var session: TLSSession? { self.flow.withLock { _ in self.stream.session } }

    /// Whether TLS has been started.
    var isSecured: Bool { self.flow.withLock { _ in self.stream.isSecured } }

    /// Has the kernel refuse peers of a listening socket from now on.
    func stopListening() {
        self.flow.withLock { if !$0.isDescriptorClosed { self.stream.socket?.shutdownBoth() } }
    }

    /// The failure of a call on the stream.
    func failure(_ error: SystemError) -> NetworkError {
        self.stream.failure ?? NetworkError(connection: self.name, error)
    }
}

// MARK: - Sides

extension ConnectionCore {
    /// The right to read; given back when dropped.
    struct ReadSide: ~Copyable {
        private let core: Unmanaged<ConnectionCore>

        fileprivate init(of core: ConnectionCore) { self.core = .passUnretained(core) }

        deinit { _ = self.core.takeUnretainedValue().endRead(.more) }

        /// Gives the side back; answers what is known to have broken the connection.
        @discardableResult
        consuming func end(
            _ result: ReadReadiness.Effect,
            failure: NetworkError? = nil,
            keeping storage: ChunkStorage? = nil
        ) -> NetworkError? {
            let core = self.core
            discard self
            return core.takeUnretainedValue().endRead(result, failure: failure, keeping: storage)
        }

        func read(into room: UnsafeMutableRawBufferPointer) -> (IOResult, ReadReadiness.Effect) {
            let core = self.core.takeUnretainedValue()
            if core.terms.usesQuickAck { try? core.stream.socket?.setQuickAck(true) }
            return core.stream.receive(into: room)
        }

        /// Takes octets of the peer for a handshake.
        func receive(for tls: TLSTransport) -> (IOResult, ReadReadiness.Effect) { tls.receive() }

        /// After the peer hung up: an alert that it sent before becomes the failure.
        func lookForAlert() { self.core.takeUnretainedValue().stream.lookForAlert() }

        /// accept(2), or a test's replacement.
        func accept(_ call: Acceptor.Call) throws(SystemError) -> StreamSocket? {
            guard let socket = self.core.takeUnretainedValue().stream.socket else { return nil }
            return try call(socket)
        }
    }

    /// The right to write; given back when dropped.
    struct WriteSide: ~Copyable {
        private let core: Unmanaged<ConnectionCore>

        fileprivate init(of core: ConnectionCore) { self.core = .passUnretained(core) }

        deinit { self.core.takeUnretainedValue().endWrite(.open) }

        /// Gives the side back.
        consuming func end(_ end: ConnectionFlow.WriteEnd, failure: NetworkError? = nil) {
            let core = self.core
            discard self
            core.takeUnretainedValue().endWrite(end, failure: failure)
        }

        /// Leaves the side to the caller, who takes it up with `handedWriteSide`.
        consuming func leave() { discard self }

        /// Sends octets from `offset` on, which is moved on.
        func send(_ octets: UnsafeRawBufferPointer, from offset: inout Int) -> StreamEngine.SendEnd {
            self.core.takeUnretainedValue().stream.send(octets, from: &offset)
        }

        /// Sends chunks from where the cursor stands, which is moved on.
        func send(from cursor: inout ChunkCursor) -> StreamEngine.SendEnd {
            self.core.takeUnretainedValue().stream.send(from: &cursor)
        }

        /// Octets that a cipher's output has sent so far.
        var sentCount: Int { self.core.takeUnretainedValue().stream.sentCount }

        /// Announces the end (close_notify) and sends what is left; `.count` when that is all.
        func sendGoodbye() -> IOResult { self.core.takeUnretainedValue().stream.sendGoodbye() }

        /// shutdown(2) of the writing half.
        func finishWriting() { self.core.takeUnretainedValue().stream.cutWriting() }

        /// Octets that the peer's kernel does not have yet; on a Unix socket it has them at once.
        var undelivered: Int {
            guard let socket = self.core.takeUnretainedValue().stream.socket else { return 0 }
            return socket.isUnix ? 0 : socket.unsentCount
        }

        /// TLS on top of the stream, for the handshake.
        func makeTLS(_ engine: consuming TLSEngine) -> TLSTransport {
            self.core.takeUnretainedValue().stream.makeTLS(engine)
        }

        /// A step of the handshake, and sends what it has for the peer; `.count` when it is done.
        func advance(_ tls: TLSTransport) -> IOResult { tls.flush() }

        /// Has everything go through TLS; false when a task is reading.
        func secure(_ transport: TLSTransport) -> Bool {
            let core = self.core.takeUnretainedValue()
            return core.flow.withLock { flow in
                if case .active = flow.reader { return false }
                core.stream.secure(transport)
                flow.transportChanged()
                return true
            }
        }
    }

    /// The right of the loop to end the connection: neither side is held, and none is given out any more.
    struct ClosingSide: ~Copyable {
        private let core: Unmanaged<ConnectionCore>

        fileprivate init(of core: ConnectionCore) { self.core = .passUnretained(core) }

        /// Ends the stream as the flow tells; loop thread only.
        func end() {
            let core = self.core.takeUnretainedValue()
            let (isReset, terms) = core.flow.withLock { flow in
                (
                    flow.ending == .reset,
                    StreamEngine.EndTerms(
                        time: flow.mayLinger && core.isWatched ? core.terms.lingerTime : .zero,
                        hasFailed: flow.failure != nil,
                        hasInputEnded: flow.hasInputEnded,
                        isWriteFinished: flow.isWriteFinished && !flow.isWriteCut,
                        isWriteCut: flow.isWriteCut || !flow.mayLinger,
                        observer: core
                    )
                )
            }
            if isReset { core.stream.reset(core) } else { core.stream.close(terms) }
        }

        /// Closes the descriptor when there is no loop any more.
        func abandon() {
            let core = self.core.takeUnretainedValue()
            let ending = core.flow.withLock { flow -> ConnectionFlow.Ending? in
                if flow.isDescriptorClosed { return nil }
                flow.isDescriptorClosed = true
                return flow.ending
            }
            guard let ending else { return }
            core.stream.abandon(isReset: ending == .reset)
            core.streamClosed(isLoopStopped: true)
        }
    }

    /// Takes the reading side, unless a read would find nothing; with `isLook` a reader that comes meanwhile tries again.
    func takeReadSide(isLook: Bool = false) throws(NetworkError) -> ReadSide? {
        switch self.flow.withLock({ $0.beginRead(isLook: isLook) }) {
        case .go: return ReadSide(of: self)
        case .wait: return nil
        case .failed(let error): throw error
        }
    }

    /// As `takeReadSide`, with the storage of the read before.
    func takeReadSide(_ spare: inout ChunkStorage?) throws(NetworkError) -> ReadSide? {
        let start = self.flow.withLock { flow in
            spare = flow.spare.take()
            return flow.beginRead()
        }
        switch start {
        case .go: return ReadSide(of: self)
        case .wait: return nil
        case .failed(let error): throw error
        }
    }

    /// Takes the writing side; nil when another has it.
    func takeWriteSide() throws(NetworkError) -> WriteSide? {
        try self.beginsWriting() ? WriteSide(of: self) : nil
    }

    /// Reserves the writing side, which `handedWriteSide` must follow; false when another has it.
    func beginsWriting() throws(NetworkError) -> Bool {
        try self.flow.withLock { (flow) throws(NetworkError) in try flow.beginWrite() }
    }

    /// The writing side for the caller that has reserved it, or was handed it as the next of the queue.
    func handedWriteSide() -> WriteSide { WriteSide(of: self) }

    /// For the loop's thread, or when there is no loop any more: nil while a task is inside a call.
    func takeClosingSide() -> ClosingSide? {
        self.flow.withLock { $0.isLeftToLoop } ? ClosingSide(of: self) : nil
    }

    @discardableResult
    private func endRead(
        _ result: ReadReadiness.Effect,
        failure: NetworkError? = nil,
        keeping storage: ChunkStorage? = nil
    ) -> NetworkError? {
        let (failure, isLeftToLoop) = self.flow.withLock { flow in
            let failure = flow.endRead(result, failure: failure)
            if let storage, flow.ending == .open { flow.spare = storage }
            return (failure, flow.isLeftToLoop)
        }
        if isLeftToLoop { self.callLoop() }
        return failure
    }

    private func endWrite(_ end: ConnectionFlow.WriteEnd, failure: NetworkError? = nil) {
        let (next, isLeftToLoop) = self.flow.withLock { flow in
            (flow.endWrite(end, failure: failure), flow.isLeftToLoop)
        }
        next?.resume(returning: .ready)
        if isLeftToLoop { self.callLoop() }
    }
}

// MARK: - Loop thread

extension ConnectionCore {
    /// Registers, ends waits whose deadline has passed, and continues an ending.
    func runOnLoop() {
        self.register()
        var expired: [FlowResumption] = []
        let (next, isEnding) = self.flow.withLock { flow in
            if flow.armedDeadline != .distantFuture { flow.expire(at: .now, into: &expired) }
            return (flow.armedDeadline, flow.isLeftToLoop)
        }
        for resumption in expired { resumption.resume() }
        if let timer = self.timer.take() { self.loop.cancel(timer) }
        if isEnding {
            self.takeClosingSide()?.end()
        } else if next != .distantFuture {
            self.timer = self.loop.schedule(self, at: next)
        }
    }

    private func register() {
        guard !self.isStarted else { return }
        self.isStarted = true
        do throws(SystemError) {
            // The loop's thread is the only one that closes the descriptor. Under the lock: TLS may be started meanwhile.
            try self.flow.withLock { (flow) throws(SystemError) in
                guard flow.ending != .reset, !flow.isDescriptorClosed else { return }
                try self.stream.start(self)
            }
        } catch {
            self.fail(NetworkError(kind: .other, underlying: error, text: "The connection cannot be watched."))
        }
    }

    private var isWatched: Bool { self.stream.isWatched }

    func streamReady(_ events: ReadyEvents) -> Bool {
        if events.contains(.loopStopped) {
            self.timer = nil
            self.loopEnded()
            return true
        }
        let (reader, writer) = self.flow.withLock { $0.received(events) }
        reader?.resume(returning: .ready)
        writer?.resume(returning: .ready)
        return true
    }

    // Only of owners for which the engine reads.
    func streamRoom() -> UnsafeMutableRawBufferPointer? { nil }
    func streamReceived(_ count: Int) {}
    func streamRested(hasEmptied: Bool) {}
    func streamWritable() {}
    func streamEnded(_ end: StreamEnd) {}
}

// MARK: - The end

extension ConnectionCore {
    var awaitsDelivery: Bool { self.flow.withLock { $0.isDeliveryAwaited } }

    func streamDelivered() {
        let waiters = self.flow.withLock { $0.endDelivery(.success(())) }
        for waiter in waiters { waiter.decide(.success(())) }
    }

    func streamLost(_ error: SystemError) {
        let failure = NetworkError(connection: self.name, error)
        self.flow.withLock { $0.fail(failure) }
    }

    func streamClosing() { self.flow.withLock { $0.isDescriptorClosed = true } }

    func streamClosed(isLoopStopped: Bool) {
        let mayLinger = self.flow.withLock { $0.mayLinger }
        let error: NetworkError =
            if isLoopStopped { self.loop.endedError } else if self.terms.lingerTime > .zero && mayLinger {
                .untaken(self.name)
            } else { .cutOff(self.name) }
        let waiters = self.flow.withLock { $0.endDelivery(.failure(error)) }
        for waiter in waiters { waiter.decide(.failure(error)) }
    }
}
