// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule
import EpollConcurrency
import EpollNetworking
import Logging
import SystemPackage

// ConnectionSession: one connection: joins the parts that decide what happens on it, and performs what they answer.
// Lives on one loop thread; callers reach it only through `state` and `perform`. Every end goes through `terminate`.
// Not here: the socket, its events and its end (StreamEngine); when to read (ReadGate) and what was read (InboundReader,
// FrameDispatcher); who writes (OutboundQueue, SocketWriter); login and close (ConnectionSession+Lifecycle); calls that
// wait (ConnectionSession+Waiting).
// Unsafe: @exclusivity(unchecked) on what every message touches. Only the loop thread does, and no access lasts while
// other code of this class runs.
//
//   caller: lock, append frames, unlock --wake--> loop: flush ---octets---> stream
//   stream ---octets---> chunk ---records---> inboxes, ---methods---> machines ---> waiters

final class ConnectionSession: LoopWork, StreamOwner, @unchecked Sendable {
    let loop: EventLoop
    let configuration: AMQPClientConfiguration
    let logger: Logger
    let observation: Observation
    let frameTrace: FrameTrace?
    let writer: SocketWriter
    /// The configuration's `operationTimeout` in nanoseconds.
    private let operationTimeout: UInt64
    let state: ConnectionLock
    let spareHandle = SpareHandle()
    /// Why the connection has ended; nil before.
    let ending = ObservedValue<AMQPError?>(nil)
    /// Each change of the state's `blockedReason`.
    let blockedStates = Broadcast<String?>(limit: 1, latest: .some(nil))
    /// Queues whose consumer the broker has cancelled while its application is busy.
    let unwatchedQueues = Broadcast<String>(limit: 1024)
    /// Deliveries that are not settled in time.
    let lateDeliveries = Broadcast<AMQPLateDelivery>(limit: AMQPLateDeliveries.limit)
    /// Moves the octets; the loop's thread and the holder of the writer token call it.
    let stream: StreamEngine
    /// For its options alone; nil for a stream without a socket.
    let socket: StreamSocket?
    let timers = ConnectionTimers()

    // MARK: loop thread only

    @exclusivity(unchecked) var inbound: InboundReader
    var machine: ConnectionStateMachine
    @exclusivity(unchecked) var dispatcher = FrameDispatcher()
    var gate = ReadGate.atEvents
    var heartbeat: HeartbeatSchedule?
    /// Nil where the configuration wants none.
    var coalescing: DeliveryCoalescing?
    /// Deliveries and octets read since the socket was last found empty.
    var deliveriesRead = 0
    var octetsRead = 0
    var openWaiter: Suspension<Result<Void, AMQPError>>?
    var closeWaiters: [Suspension<Result<Void, AMQPError>>] = []
    /// Octets of the frame with the credentials.
    var loginSize = 0
    private(set) var isTerminated = false
    private var isStreamClosed = false
    /// How long the peer may take to read the last method; zero for any end but one with a method that nothing may follow.
    private var lingerTime = Duration.zero
    private var timerDeadline = UInt64.max

    /// Reads of one connection per turn of the loop, so that none starves the others.
    static let readsPerTurn = 8

    init(
        transport: any ByteTransport & Sendable,
        loop: EventLoop,
        configuration: AMQPClientConfiguration,
        tls: (context: TLSContext, host: String)?,
        server: AMQPServerAddress?,
        logger: Logger
    ) throws(AMQPError) {
        self.socket = transport.socket
        self.observation = Observation(configuration, server: server, socket: transport.socket)
        self.frameTrace = FrameTrace(logger, descriptor: transport.socket?.descriptor ?? -1)
        self.stream = StreamEngine(
            try ConnectionTLS.transport(transport, tls),
            on: loop,
            readsPerTurn: Self.readsPerTurn
        )
        self.writer = SocketWriter(self.stream, trace: self.frameTrace)
        self.loop = loop
        self.configuration = configuration
        self.logger = logger
        self.operationTimeout = MonotonicTime(nanoseconds: 0).advanced(by: configuration.operationTimeout).nanoseconds
        self.state = ConnectionLock(ConnectionState(writeBufferSize: configuration.writeBufferSize))
        self.machine = try ConnectionStateMachine(configuration)
        self.inbound = InboundReader(maximumFrameSize: 64 << 10, maximumBodySize: configuration.maximumBodySize)
        let pause = MonotonicTime(nanoseconds: 0).advanced(by: configuration.deliveryCoalescing).nanoseconds
        if pause > 0 { self.coalescing = DeliveryCoalescing(pause: pause, now: MonotonicTime.now.nanoseconds) }
    }

    /// The moment a call that may take `timeout` gives up.
    func deadline(_ timeout: Duration?) -> UInt64 {
        let now = MonotonicTime.now
        guard let timeout else {
            let (deadline, overflow) = now.nanoseconds.addingReportingOverflow(self.operationTimeout)
            return overflow ? .max : deadline
        }
        return now.advanced(by: timeout).nanoseconds
    }

    // MARK: writing

    /// After unlocking: does what the append asked for.
    @inline(__always)
    func perform(_ next: CallerStep) {
        switch next {
        case .none: break
        case .wakeLoop:
            if self.loop.isInLoop { self.loop.atEndOfTick(self) } else { self.loop.enqueue(self) }
        case .write, .writeAndSuspend:
            if self.writer.writeAsCaller(self.state) { self.loop.enqueue(self) }
        }
    }

    /// The loop was asked to flush.
    func runOnLoop() {
        self.observation.metrics?.touch(self)
        self.flush()
        guard !self.isTerminated else { return }
        if self.gate.isHeld { self.stream.read() }
        let (armed, ready) = self.state.withLock { ($0.armedDeadline, $0.readyWaiters.isEmpty) }
        if armed != self.timerDeadline || !ready { self.armDeadlineTimer() }
    }

    /// Writes all there is, or until the socket takes no more.
    ///
    /// Loop thread.
    func flush() {
        guard !self.isTerminated else { return self.closeStreamIfPossible() }
        if self.writer.flush(self.state) { self.heartbeat?.wrote(now: self.loop.turnTime.nanoseconds) }
    }

    // MARK: the end

    /// Ends the connection: every waiter and every consumer learns why, once.
    ///
    /// Loop thread.
    ///
    /// - Parameters:
    ///   - error: The cause.
    ///   - closeError: What callers of `close` are told instead of success.
    func terminate(_ error: AMQPError, closeError: AMQPError? = nil) {
        guard !self.isTerminated else { return }
        self.isTerminated = true
        let cause = error.inLogin(self.machine.phase, loginSize: self.loginSize)
        let isLost =
            self.openWaiter == nil && self.closeWaiters.isEmpty && error != Self.closedByUs && error != Self.released
        let isReported = self.state.withLock { $0.isSupervised || $0.isClosing }
        self.logger.log(
            level: isLost && !isReported ? .notice : .debug,
            isLost ? "connection lost" : "connection ended",
            metadata: ["reason": "\(cause)"]
        )
        self.machine.linkLost()
        self.settleConfirms()
        self.timers.cancelAll()
        var waiters: [Waiter] = []
        var resumptions: [Resumption] = []
        var refreshing: Task<Void, Never>?
        let cores = self.state.withChannels { state, channels -> [ChannelSession] in
            state.failure = cause
            refreshing = state.refreshing.take()
            let cores = state.sessions.compactMap { $0 }
            for core in cores {
                for token in channels[core.slot].connectionLost(cause, &state) {
                    state.wake(token, .failed(cause.withSafeRetry), into: &resumptions)
                }
            }
            for ready in state.readyWaiters { state.wake(ready.token, ready.result, into: &resumptions) }
            state.waiters.removeAll { waiters.append($0) }
            state.outbound.removeWaiters()
            state.readyWaiters = []
            state.unblockedWaiters = []
            state.secretWaiters = []
            state.unsentAcks = []
            state.sessions = []
            state.counts.end()
            return cores
        }
        self.observation.metrics?.ended(self)
        refreshing?.cancel()
        self.dispatcher.end()
        for core in cores {
            core.assembling?.pieces?.fail(cause)
            core.assembling = nil
            core.endConsumers(.failed(cause))
        }
        for resumption in resumptions { resumption.resume() }
        for waiter in waiters { waiter.resume(returning: .failed(cause)) }
        self.blockedStates.finish()
        self.lateDeliveries.finish()
        self.openWaiter?.resume(returning: .failure(cause))
        self.openWaiter = nil
        for waiter in self.closeWaiters { waiter.resume(returning: closeError.map { .failure($0) } ?? .success(())) }
        self.closeWaiters = []
        self.ending.change { $0 = cause }
        for core in cores { core.withLock { channel, _ in channel.onEnd.take() }?() }
        self.closeStreamIfPossible()
    }

    /// The login, or the answer to a close, took too long.
    func handshakeTimedOut() {
        let late = AMQPError(.timedOut, "the broker did not answer in time", scope: .connection)
        // The callers of `close` get the error; the connection has ended by the close.
        if self.closeWaiters.isEmpty { self.terminate(late) } else { self.terminate(Self.closedByUs, closeError: late) }
    }

    /// Closes the stream, unless a caller is writing to it: then that caller's token comes back first.
    private func closeStreamIfPossible() {
        guard !self.isStreamClosed else { return }
        let isFree = self.state.withLock { $0.outbound.writer != .caller }
        guard isFree else { return self.stream.shutdownBoth() }
        self.isStreamClosed = true
        self.stream.close(lingering: self.lingerTime)
    }

    /// Ends with a method behind which nothing follows: the peer gets a moment to read it.
    func terminate(_ error: AMQPError, afterLastMethod lingerTime: Duration) {
        self.lingerTime = lingerTime
        self.terminate(error)
    }

    /// Sets the timer of the earliest deadline, `.max` for none.
    func setDeadlineTimer(_ deadline: UInt64) {
        self.timers.deadline.cancel()
        self.timerDeadline = deadline
        guard deadline != .max, !self.isTerminated else { return }
        self.timers.deadline.set(MonotonicTime(nanoseconds: deadline), of: self)
    }

    /// The properties of the broker (`connection.start`).
    var serverProperties: FieldTable { self.state.withLock { $0.serverProperties } }

    /// The version of RabbitMQ; nil for another broker.
    var serverVersion: ServerVersion? { ServerVersion(self.serverProperties) }
}
