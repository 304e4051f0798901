// SPDX-License-Identifier: Apache-2.0

// ConnectionCore: one connected socket on its loop: the life of the descriptor, deadlines, wake-ups. Reading and
// writing happen on the caller's thread (ConnectionCore+Reading, +Writing); the loop reports readiness, keeps the
// deadlines and closes (ConnectionCore+Ending). The loop keeps the core while it is registered; StreamConnection, which
// users hold, ends it when it is released.
//
// The socket is private to this file. System calls are methods of a side (ReadSide, WriteSide, ClosingSide), and a side
// is only given to its one holder: the descriptor is closed when no side is held, so no call meets a descriptor of
// another owner.
// Unsafe: a side refers to its core without keeping it; it is only used inside methods of the core, which keep it.

final class ConnectionCore: SocketHandler, LoopWork, CancellableWait, @unchecked Sendable {
    private let socket: StreamSocket
    let loop: EventLoop
    /// The peer as errors name it; empty for an accepted connection.
    let name: String
    let readTimeout: Duration?
    let writeTimeout: Duration?
    /// How long an ended connection waits for the peer; zero closes at once.
    let lingerTime: Duration
    let usesQuickAck: Bool
    let flow = Locked(ConnectionFlow())
    #if TLS
        let tlsLink = TLSLinkReference()
    #endif

    // Loop thread only.
    var registration: RegistrationID?
    private var isStarted = false
    var timer: TimerID?
    var linger: Linger?

    /// Takes a connected socket over; `start` must follow.
    init(_ socket: StreamSocket, on loop: EventLoop, name: String, options: SocketOptions, lingers: Bool = true) {
        self.socket = socket
        self.loop = loop
        self.name = name
        self.readTimeout = options.readTimeout
        self.writeTimeout = options.writeTimeout
        self.lingerTime = lingers ? options.lingerTime : .zero
        self.usesQuickAck = options.quickAck
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
        let error = self.loop.endedError
        self.fail(error)
        if let side = self.takeClosingSide() { side.close(undelivered: error) }
    }

    func fail(_ error: NetworkError) {
        var resumptions: [FlowResumption] = []
        self.flow.withLock { $0.end(.close, reason: error, into: &resumptions) }
        for resumption in resumptions { resumption.resume() }
    }

    /// Runs a call that moves no octets while the descriptor is certainly open; nil when the connection has ended.
    func inspect<Value>(_ body: (StreamSocket) -> Value?) -> Value? {
        // Inside the lock: the descriptor must not be closed meanwhile.
        self.flow.withLock { $0.ending != .open || $0.isDescriptorClosed ? nil : body(self.socket) }
    }

    /// Has the kernel refuse peers of a listening socket from now on.
    func stopListening() {
        self.flow.withLock { if !$0.isDescriptorClosed { self.socket.shutdownBoth() } }
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
            if core.usesQuickAck { try? core.socket.setQuickAck(true) }
            var isCut = false
            let result = core.socket.read(into: room, isCut: &isCut)
            return (result, ReadReadiness.Effect(result, room: room.count, isCut: isCut))
        }

        /// accept(2), or what a test has put in its place.
        func accept(_ call: Acceptor.Call) throws(SystemError) -> StreamSocket? {
            try call(self.core.takeUnretainedValue().socket)
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

        func write(_ octets: UnsafeRawBufferPointer) -> IOResult {
            self.core.takeUnretainedValue().socket.write(octets)
        }

        func write(from cursor: ChunkCursor) -> IOResult {
            let core = self.core.takeUnretainedValue()
            return cursor.withVectors { core.socket.write(vectors: $0) }
        }

        /// shutdown(2) of the writing half.
        func finishWriting() { self.core.takeUnretainedValue().socket.finishWriting() }

        /// Whether the peer's kernel has everything; on a Unix socket it has at once.
        var isDelivered: Bool {
            let socket = self.core.takeUnretainedValue().socket
            return socket.isUnix || socket.unsentCount == 0
        }
    }

    /// The right of the loop to end the connection: neither side is held, and none is given out any more.
    struct ClosingSide: ~Copyable {
        private let core: Unmanaged<ConnectionCore>

        fileprivate init(of core: ConnectionCore) { self.core = .passUnretained(core) }

        func read(into room: UnsafeMutableRawBufferPointer) -> IOResult {
            self.core.takeUnretainedValue().socket.read(into: room)
        }

        func write(_ octets: UnsafeRawBufferPointer) -> IOResult {
            self.core.takeUnretainedValue().socket.write(octets)
        }

        func finishWriting() { self.core.takeUnretainedValue().socket.finishWriting() }

        /// Octets that the peer's kernel does not have yet; 0 on a Unix socket.
        var undelivered: Int {
            let socket = self.core.takeUnretainedValue().socket
            return socket.isUnix ? 0 : socket.unsentCount
        }

        /// Closes the descriptor; a second call does nothing.
        ///
        /// - Parameter error: For those who still wait for the delivery of everything.
        func close(undelivered error: NetworkError) {
            let core = self.core.takeUnretainedValue()
            let ending = core.flow.withLock { flow -> ConnectionFlow.Ending? in
                if flow.isDescriptorClosed { return nil }
                flow.isDescriptorClosed = true
                return flow.ending
            }
            if ending == .reset { core.socket.reset() } else { core.socket.close() }
            let waiters = core.flow.withLock { $0.endDelivery(.failure(error)) }
            for waiter in waiters { waiter.decide(.failure(error)) }
        }
    }

    /// Takes the reading side, unless a read would find nothing.
    func takeReadSide() throws(NetworkError) -> ReadSide? {
        switch self.flow.withLock({ $0.beginRead() }) {
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
            self.continueEnding()
        } else if next != .distantFuture {
            self.timer = self.loop.schedule(self, at: next)
        }
    }

    private func register() {
        guard !self.isStarted else { return }
        self.isStarted = true
        guard self.flow.withLock({ $0.ending != .reset && !$0.isDescriptorClosed }) else { return }
        do throws(SystemError) {
            // The loop's thread is the only one that closes the descriptor.
            self.registration = try self.loop.register(self.socket.descriptor, handler: self)
        } catch {
            self.fail(NetworkError(kind: .other, underlying: error, text: "The connection cannot be watched."))
        }
    }

    func socketReady(_ events: ReadyEvents) {
        if events.contains(.loopStopped) {
            self.registration = nil
            self.timer = nil
            return self.loopEnded()
        }
        if self.linger != nil { return self.continueEnding() }
        let (reader, writer) = self.flow.withLock { $0.received(events) }
        reader?.resume(returning: .ready)
        writer?.resume(returning: .ready)
    }
}
