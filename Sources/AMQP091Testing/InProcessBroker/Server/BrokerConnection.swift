// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// BrokerConnection: one client: where its octets go, with bounds on both sides, heartbeats, and the end.
// The socket and its events: StreamEngine.
// What the octets mean: BrokerConnection+Frames and +Login, and BrokerChannel.
// Timers keep the connection until they fire or `end` cancels them: a weak reference would make every other one slow.
// Unsafe: `inbound` is one raw allocation of `capacity` octets; what was read lies in parsed..<filled, and a frame never
// needs more than the capacity, because the negotiated frame size is at most half of it.

final class BrokerConnection: StreamOwner, @unchecked Sendable {
    enum Phase {
        case header, startOk, tuneOk, open, running
        /// We have sent close; only its answer counts.
        case closing
        case ended
    }

    let core: BrokerCore
    private let stream: StreamEngine
    private let inbound: UnsafeMutableRawBufferPointer
    private var filled = 0
    private var parsed = 0
    var decoder = FrameDecoder(maximumFrameSize: Frame.rabbitMQMinimumSize)

    /// Octets to be sent, and those being sent.
    var out = WireBuffer(capacity: 4 << 10)
    private var writing = WireBuffer(capacity: 4 << 10)
    private var written = 0
    var isTouched = false
    /// A consumer was passed over because the buffer was full.
    var isStarved = false
    /// Nothing was read because the client does not take its answers.
    private var isHeldBack = false
    /// Nothing is read until an ordered delay is over.
    private var isStalled = false
    /// No more is sent when what there is has gone out.
    private var isFinishing = false
    private var pieceTimer: TimerID?

    var phase = Phase.header
    var user = ""
    var clientProperties = FieldTable()
    var host: VirtualHost?
    var channels: [UInt16: BrokerChannel] = [:] {
        didSet { self.lastChannel = nil }
    }
    private var lastChannel: BrokerChannel?
    var channelMaximum = 0
    var frameMaximum = Frame.rabbitMQMinimumSize
    var maximumPayload: Int { self.frameMaximum - Frame.overhead }
    /// Held back by an alarm: nothing is read.
    private(set) var isBlocked = false
    private var heartbeat: HeartbeatSchedule?
    private var heartbeatTimer: TimerID?
    private var phaseTimer: TimerID?
    /// Names the connection in inspections, from 1.
    let number: Int

    /// Octets waiting to be sent above which consumers are passed over.
    static let deliveryBound = 512 << 10
    /// Octets waiting to be sent above which nothing more is read.
    private static let replyBound = 4 << 20
    private static let readsPerTurn = 4

    init(core: BrokerCore, _ transport: any ByteTransport) {
        self.core = core
        self.stream = StreamEngine(transport, on: core.loop, readsPerTurn: Self.readsPerTurn)
        let capacity = max(256 << 10, Int(core.options.frameMax) * 2)
        self.inbound = .allocate(byteCount: capacity, alignment: 16)
        core.connectionCount += 1
        self.number = core.connectionCount
        // RabbitMQ measures the payload here.
        self.decoder.maximumFrameSize = core.version.maximumLoginPayload + Frame.overhead
    }

    deinit { self.inbound.deallocate() }

    func start() {
        self.core.beginTurn()
        do {
            try self.stream.start(self)
        } catch {
            return self.stream.close()
        }
        self.core.connections[ObjectIdentifier(self)] = self
        self.setPhaseTimer(self.core.options.handshakeTimeout)
    }

    /// Ends the connection unless the phase it is in ends in time.
    func setPhaseTimer(_ timeout: Duration?) {
        if let timer = self.phaseTimer.take() { self.core.loop.cancel(timer) }
        guard let timeout else { return }
        self.phaseTimer = self.core.loop.schedule(
            BrokerTimer { [self] in
                self.phaseTimer = nil
                self.end()
            },
            at: MonotonicTime.now + timeout
        )
    }

    // MARK: reading

    func streamWritable() {
        self.core.beginTurn()
        self.core.touch(self)
    }

    func streamRoom() -> UnsafeMutableRawBufferPointer? {
        self.core.beginTurn()
        guard self.mayRead else { return nil }
        self.makeRoom()
        return self.filled < self.inbound.count
            ? UnsafeMutableRawBufferPointer(rebasing: self.inbound[self.filled...]) : nil
    }

    func streamReceived(_ count: Int) {
        self.filled += count
        self.heartbeat?.read(now: self.core.now)
        self.parse()
    }

    func streamRested(hasEmptied: Bool) {}

    func streamEnded(_ end: StreamEnd) { self.end() }

    /// Octets that wait for the socket.
    private var backlog: Int { self.out.count + self.writing.count - self.written }

    private var mayRead: Bool {
        guard self.phase != .ended, !self.isBlocked, !self.isStalled, !self.core.isFrozen else { return false }
        if self.backlog < Self.replyBound { return true }
        self.isHeldBack = true
        return false
    }

    /// Reads and parses what waited.
    private func goOn() {
        guard self.mayRead else { return }
        self.core.beginTurn()
        self.parse()
        self.stream.read()
    }

    private func makeRoom() {
        guard self.parsed > 0 else { return }
        let rest = self.filled - self.parsed
        if rest > 0, let base = self.inbound.baseAddress { base.copyMemory(from: base + self.parsed, byteCount: rest) }
        self.parsed = 0
        self.filled = rest
    }

    private func parse() {
        let octets = UnsafeRawBufferPointer(rebasing: self.inbound[..<self.filled])
        while self.mayRead {
            if self.phase == .running, self.core.methodOrders.isEmpty,
                let found = PublishFinder.find(in: octets, from: self.parsed, maximumFrameSize: self.frameMaximum),
                let channel = self.channel(found.channel), channel.takesPublish
            {
                self.parsed = found.end
                channel.publish(
                    route: UnsafeRawBufferPointer(rebasing: octets[found.route]),
                    bits: found.bits,
                    properties: UnsafeRawBufferPointer(rebasing: octets[found.properties]),
                    body: UnsafeRawBufferPointer(rebasing: octets[found.body])
                )
                continue
            }
            guard self.parseOne(octets) else { return }
        }
    }

    /// The open channel of this number; publishes come in runs on one.
    private func channel(_ number: UInt16) -> BrokerChannel? {
        if let last = self.lastChannel, last.number == number { return last }
        self.lastChannel = self.channels[number]
        return self.lastChannel
    }

    /// Any other frame; false when it is incomplete.
    private func parseOne(_ octets: UnsafeRawBufferPointer) -> Bool {
        let span = RawSpan(_unsafeBytes: octets)
        if self.phase == .header {
            guard octets.count - self.parsed >= 8 else { return false }
            let header = Array(octets[self.parsed..<self.parsed + 8])
            self.parsed += 8
            self.receivedProtocolHeader(header)
            return true
        }
        do throws(WireError) {
            guard let frame = try self.decoder.next(in: span, from: self.parsed) else { return false }
            self.parsed = frame.end
            self.received(frame, span.extracting(frame.payload))
            return true
        } catch {
            // What follows cannot be told apart any more.
            self.parsed = self.filled
            self.received(error)
            return false
        }
    }

    // MARK: writing

    /// Appends a method.
    func send(_ method: Method, on channel: UInt16 = 0) {
        // What the broker sends are short strings that came in one, or were cut to size.
        try? method.encodeFrame(channel: ChannelNumber(channel), into: &self.out)
        self.core.touch(self)
    }

    var hasRoom: Bool {
        if self.backlog < Self.deliveryBound { return true }
        self.isStarved = true
        return false
    }

    /// The end of a turn: merges confirms and writes what the socket takes.
    func finishTurn() {
        self.isTouched = false
        guard self.phase != .ended, !self.core.isFrozen else { return }
        for channel in self.core.inOrder(self.channels) {
            if channel.mail == nil { channel.finishCommit() } else { channel.passOnMail() }
            channel.flushConfirms()
        }
        self.write()
        guard self.phase != .ended else { return }
        if self.isFinishing, self.backlog == 0, !self.stream.hasOutput {
            self.isFinishing = false
            self.stream.finishWriting()
        }
        if self.isHeldBack, self.backlog < Self.replyBound {
            self.isHeldBack = false
            self.core.loop.enqueue(BrokerTimer { [self] in self.goOn() })
        }
        if self.isStarved, self.hasRoom {
            self.isStarved = false
            for channel in self.core.inOrder(self.channels) { channel.serveConsumers() }
        }
    }

    /// Writes what there is, or until the socket takes no more; with split writes, one piece.
    private func write() {
        guard self.pieceTimer == nil else { return }
        while true {
            while self.written < self.writing.count || self.stream.hasOutput {
                if self.core.pieceSize != nil, !self.isTaken { return self.writeSoon() }
                let end = min(self.writing.count, self.written + (self.core.pieceSize ?? self.writing.count))
                let result = self.writing.withUnsafeBytes {
                    self.stream.send(UnsafeRawBufferPointer(rebasing: $0[..<end]), from: &self.written)
                }
                if case .failed = result { return self.end() }
                guard self.stream.sent(result) else { return }
                if self.core.pieceSize != nil { return self.writeSoon() }
            }
            self.writing.removeAll(keepingCapacity: self.writing.capacity <= 2 << 20)
            self.written = 0
            guard self.out.count > 0 else { return }
            self.heartbeat?.wrote(now: self.core.now)
            swap(&self.out, &self.writing)
        }
    }

    /// Goes on writing after the client had time to read a piece.
    private func writeSoon() {
        self.pieceTimer = self.core.loop.schedule(
            BrokerTimer { [self] in
                self.pieceTimer = nil
                self.core.beginTurn()
                self.core.touch(self)
            },
            at: MonotonicTime.now + .milliseconds(1)
        )
    }

    // MARK: heartbeats, alarms, standing still

    func startHeartbeat(_ seconds: UInt16) {
        guard seconds > 0 else { return }
        // RabbitMQ waits for three intervals.
        let patience = UInt64(seconds) * 3_000_000_000
        self.heartbeat = HeartbeatSchedule(seconds: seconds, patience: patience, now: self.core.now)
        self.scheduleHeartbeat()
    }

    private func scheduleHeartbeat() {
        guard let deadline = self.heartbeat?.deadline else { return }
        self.heartbeatTimer = self.core.loop.schedule(
            BrokerTimer { [self] in self.heartbeatDue() },
            at: MonotonicTime(nanoseconds: deadline)
        )
    }

    private func heartbeatDue() {
        self.heartbeatTimer = nil
        guard self.phase != .ended, let heartbeat = self.heartbeat else { return }
        self.core.beginTurn()
        switch heartbeat.check(now: self.core.now) {
        case .none: break
        case .sendHeartbeat:
            if !self.core.isFrozen { self.out.appendHeartbeat() }
            self.heartbeat?.wrote(now: self.core.now)
            self.core.touch(self)
        case .peerDead:
            if !self.core.isFrozen { return self.end() }
            self.heartbeat?.read(now: self.core.now)
        }
        self.scheduleHeartbeat()
    }

    /// A publish came under an alarm: nothing is read until it is over.
    func block(_ reason: String) {
        guard !self.isBlocked else { return }
        self.isBlocked = true
        self.heartbeat?.pausedReading()
        if self.hasCapability("connection.blocked") { self.send(.connectionBlocked(.init(reason: reason))) }
    }

    func unblock() {
        guard self.isBlocked else { return }
        self.isBlocked = false
        self.heartbeat?.resumedReading(now: self.core.now)
        if self.hasCapability("connection.blocked") { self.send(.connectionUnblocked(.init())) }
        self.core.loop.enqueue(BrokerTimer { [self] in self.goOn() })
    }

    func thaw() {
        self.heartbeat?.read(now: MonotonicTime.now.nanoseconds)
        self.core.touch(self)
        self.goOn()
    }

    func hasCapability(_ name: String) -> Bool {
        self.clientProperties["capabilities"]?.tableValue?[name]?.boolValue ?? false
    }

    // MARK: the end

    /// Says why and waits, for a short time, for the client to answer or leave.
    func close(_ code: ReplyCode, _ text: String, _ method: MethodID?) {
        guard self.phase != .ended, self.phase != .closing else { return }
        self.dropChannels()
        self.phase = .closing
        self.unblock()
        let close = Connection.Close(
            replyCode: code,
            replyText: text,
            classID: method?.classID ?? 0,
            methodID: method?.methodID ?? 0
        )
        self.send(.connectionClose(close))
        self.setPhaseTimer(.seconds(2))
    }

    /// Sends no more than what is left; the client's end of the stream follows.
    func finish() {
        self.phase = .closing
        self.isFinishing = true
        self.core.touch(self)
        self.setPhaseTimer(.seconds(2))
    }

    // MARK: orders about a method

    /// Reads nothing for a time, and then goes on with `body`.
    func stall(for duration: Duration, _ body: @escaping () -> Void) {
        self.isStalled = true
        self.heartbeat?.pausedReading()
        self.core.loop.schedule(
            BrokerTimer { [self] in
                self.isStalled = false
                guard self.phase != .ended else { return }
                self.core.beginTurn()
                if !self.isBlocked { self.heartbeat?.resumedReading(now: self.core.now) }
                body()
                self.goOn()
            },
            at: MonotonicTime.now + duration
        )
    }

    /// Forgets what was said since `count` octets waited to be sent.
    func withholdAnswer(since count: Int) {
        self.out.truncate(to: min(count, self.out.count))
        self.isFinishing = false
    }

    /// Drops the link; `kept` octets of the answer, what was said since `count`, still reach the client.
    func drop(keeping kept: (Int) -> Int, since count: Int) {
        self.out.truncate(to: min(self.out.count, count + kept(max(0, self.out.count - count))))
        if let timer = self.pieceTimer.take() { self.core.loop.cancel(timer) }
        self.write()
        // Octets that the client sends meanwhile would turn the end into a reset, which destroys what was kept.
        self.end(lingering: .milliseconds(500))
    }

    /// Gives back what the channels hold, and drops what is the connection's own.
    func dropChannels() {
        for channel in self.core.inOrder(self.channels) { channel.end() }
        self.channels = [:]
        guard let host = self.host else { return }
        for queue in self.core.inOrder(host.queues) where queue.owner == ObjectIdentifier(self) { host.delete(queue) }
    }

    /// Drops the link.
    ///
    /// - Parameter time: How long the client may take to read what was sent.
    func end(lingering time: Duration = .zero) {
        guard self.phase != .ended else { return }
        self.core.beginTurn()
        self.dropChannels()
        self.phase = .ended
        self.core.connections[ObjectIdentifier(self)] = nil
        self.setPhaseTimer(nil)
        for timer in [self.heartbeatTimer.take(), self.pieceTimer.take()].compactMap(\.self) {
            self.core.loop.cancel(timer)
        }
        self.stream.close(lingering: time)
    }

    /// Drops the link as a crash does: the client sees a reset where the transport has one.
    func reset() {
        self.stream.reset()
        self.end()
    }

    /// The subject of the client's certificate (RFC 2253); nil without one, and before the handshake is done.
    var certificateSubject: String? { self.stream.session?.peerSubject }

    var peerAddress: String { self.stream.socket?.peerAddress?.description ?? "socket pair" }

    /// Whether the client has read all that was sent; over TCP nobody knows, and it is true.
    private var isTaken: Bool {
        switch self.stream.socket?.peerAddress {
        case .ipv4, .ipv6: true
        default: self.stream.undelivered == 0
        }
    }
}
