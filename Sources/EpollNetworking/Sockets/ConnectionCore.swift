// SPDX-License-Identifier: Apache-2.0

// ConnectionCore: one connected socket on its loop: the life of the descriptor, deadlines, wake-ups. Reading and
// writing happen on the caller's thread (ConnectionCore+Reading, +Writing); the loop only tells about readiness,
// keeps the deadlines and closes. The loop keeps the core while it is registered; StreamConnection, which users hold,
// ends it when it goes.

final class ConnectionCore: SocketHandler, LoopWork, @unchecked Sendable {
    let socket: StreamSocket
    let loop: EventLoop
    /// Whom to name in errors; empty for an accepted connection.
    let name: String
    let readTimeout: Duration?
    let writeTimeout: Duration?
    let usesQuickAck: Bool
    let flow = Locked(ConnectionFlow())
    #if TLS
        /// Set once, by startTLS, before anyone reads or writes through it.
        var tls: TLSLink?
    #endif

    // Loop thread only.
    private var registration: RegistrationID?
    private var isStarted = false
    private var timer: TimerID?

    /// Takes a connected socket over; `start` must follow.
    init(_ socket: StreamSocket, on loop: EventLoop, name: String, options: SocketOptions) {
        self.socket = socket
        self.loop = loop
        self.name = name
        self.readTimeout = options.readTimeout
        self.writeTimeout = options.writeTimeout
        self.usesQuickAck = options.quickAck
    }

    /// Has the loop watch the socket; reads and writes may begin at once.
    func start() { self.callLoop() }

    /// Closes in order, as far as that needs no waiting.
    func close() {
        #if TLS
            self.sayGoodbye()
        #endif
        self.end(.close)
    }

    /// Closes when nobody is inside a call; those who wait are told.
    func end(_ ending: ConnectionFlow.Ending) {
        var resumptions: [FlowResumption] = []
        self.flow.withLock { $0.end(ending, into: &resumptions) }
        for resumption in resumptions { resumption.resume() }
        self.callLoop()
    }

    /// Has `runOnLoop` called; an ended loop has forgotten the socket, and then it is done here.
    func callLoop() {
        if self.loop.isInLoop {
            self.runOnLoop()
        } else if !self.loop.enqueue(self) {
            var resumptions: [FlowResumption] = []
            self.flow.withLock { $0.end(.close, failure: .loopEnded, into: &resumptions) }
            for resumption in resumptions { resumption.resume() }
            self.closeDescriptorIfPossible()
        }
    }

    /// What must never happen twice: the number may already be another file's.
    private func closeDescriptorIfPossible() {
        let ending = self.flow.withLock { flow -> ConnectionFlow.Ending? in
            guard flow.mayCloseDescriptor else { return nil }
            flow.isDescriptorClosed = true
            return flow.ending
        }
        guard let ending else { return }
        if ending == .reset { self.socket.reset() } else { self.socket.close() }
    }

    func address(_ body: (StreamSocket) -> SocketAddress?) -> SocketAddress? {
        // Inside the lock: the descriptor must not be closed meanwhile.
        self.flow.withLock { $0.isDescriptorClosed ? nil : body(self.socket) }
    }
}

// MARK: - Loop thread

extension ConnectionCore {
    /// Does what is due: registers, ends waits whose deadline has passed, closes.
    func runOnLoop() {
        self.register()
        var expired: [FlowResumption] = []
        let (next, isEnding) = self.flow.withLock { flow in
            if flow.armedDeadline != .distantFuture { flow.expire(at: .now, into: &expired) }
            return (flow.armedDeadline, flow.mayCloseDescriptor)
        }
        for resumption in expired { resumption.resume() }
        if let timer = self.timer.take() { self.loop.cancel(timer) }
        if isEnding {
            // Before the descriptor goes, so that no event of its successor is taken for ours.
            if let registration = self.registration.take() { self.loop.deregister(registration) }
            self.closeDescriptorIfPossible()
        } else if next != .distantFuture {
            self.timer = self.loop.schedule(self, at: next)
        }
    }

    private func register() {
        guard !self.isStarted else { return }
        self.isStarted = true
        guard self.flow.withLock({ $0.ending == .open }) else { return }
        do throws(SystemError) {
            self.registration = try self.loop.register(self.socket.descriptor, handler: self)
        } catch {
            self.fail(NetworkError(kind: .other, underlying: error, text: "The connection cannot be watched."))
        }
    }

    private func fail(_ error: NetworkError) {
        var resumptions: [FlowResumption] = []
        self.flow.withLock { $0.end(.close, failure: error, into: &resumptions) }
        for resumption in resumptions { resumption.resume() }
    }

    func socketReady(_ events: ReadyEvents) {
        if events.contains(.loopStopped) {
            self.registration = nil
            self.timer = nil
            self.fail(.loopEnded)
            return self.closeDescriptorIfPossible()
        }
        let (reader, writer) = self.flow.withLock { $0.received(events) }
        reader?.resume(returning: .ready)
        writer?.resume(returning: .ready)
    }
}
