// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import SystemPackage

// From the stream to frames: has the reader find deliveries and other frames where they lie (InboundReader), the dispatcher
// handle them (FrameDispatcher), and the gate say whether to read on (ReadGate). Loop thread only.
// Not here: the socket's events (StreamEngine).

extension ConnectionSession {
    /// Any thread: a consumer caught up.
    func resumeReading() {
        self.loop.enqueue(self)
    }

    func streamWritable() {
        self.observation.metrics?.touch(self)
        self.flush()
    }

    func streamRoom() -> UnsafeMutableRawBufferPointer? {
        self.observation.metrics?.touch(self)
        return self.mayRead() ? self.inbound.roomToRead() : nil
    }

    func streamReceived(_ count: Int) {
        self.inbound.commit(count)
        self.octetsRead += count
        self.observation.metrics?.received(octets: count)
        self.heartbeat?.read(now: self.loop.turnTime.nanoseconds)
        let alreadyParsed = self.inbound.parsed
        self.parse()
        if let frameTrace {
            let base = self.inbound.chunk.base + alreadyParsed
            let count = self.inbound.parsed - alreadyParsed
            frameTrace.show(.received, UnsafeRawBufferPointer(start: base, count: count))
        }
    }

    func streamRested(hasEmptied: Bool) { self.finishRead(hasEmptied: hasEmptied) }

    func streamEnded(_ end: StreamEnd) {
        switch end {
        case .failed(let error): self.terminate(self.linkLost(error))
        case .loopStopped:
            let isLoggingIn = self.openWaiter != nil
            self.terminate(
                AMQPError(
                    isLoggingIn ? .connectFailed : .connectionClosed,
                    "the event loop has been shut down",
                    scope: .connection,
                    isSafeToRetry: isLoggingIn
                )
            )
        case .endOfStream:
            let inFrame = self.inbound.isInFrame
            self.terminate(
                AMQPError(
                    .connectionClosed,
                    inFrame ? "the peer ended the link in the middle of a frame" : "the peer ended the link",
                    scope: .connection
                )
            )
        }
    }

    /// Why the link broke: TLS says more than the system's error.
    func linkLost(_ error: SystemError) -> AMQPError {
        let isLoggingIn = self.openWaiter != nil
        guard let failure = self.stream.failure else {
            return AMQPError(
                .connectionClosed,
                "the link to the broker was lost: \(error)",
                scope: .connection,
                origin: .transport(errno: error.errno.rawValue)
            )
        }
        return AMQPError(
            isLoggingIn ? .connectFailed : .connectionClosed,
            failure.description,
            scope: .connection,
            isSafeToRetry: isLoggingIn
        )
    }

    /// Finds what stands in the octets read, and has it handled.
    private func parse() {
        self.handle { (driver) throws(FrameFault) in try driver.dispatch() }
    }

    private func dispatch() throws(FrameFault) {
        let chunk = self.inbound.chunk
        let octets = RawSpan(_unsafeBytes: UnsafeRawBufferPointer(start: chunk.base, count: self.inbound.filled))
        // Deliveries come in runs for one consumer: while channel and consumer tag stay the same, so does the batch.
        var batch: DeliveryBatch?
        var batchChannel: UInt16 = 0
        var batchTag: UInt32 = 0
        var deliveries = 0
        defer { self.deliveriesRead += deliveries }
        while true {
            let frame: DecodedFrame
            switch try self.next(in: octets) {
            case .delivery(let record, let channel):
                deliveries += 1
                if let batch, channel == batchChannel, !batch.isFull,
                    chunk.hasSameShortString(at: batchTag, as: record.arguments)
                {
                    batch.append(record)
                    continue
                }
                batch = try self.dispatcher.batch(for: record, in: chunk, channel: channel, self)
                batchChannel = channel
                batchTag = record.arguments
                batch?.append(record)
                continue
            case .confirm(let confirm):
                if self.dispatcher.keep(confirm, self) { continue }
                guard let found = try self.frameOfConfirm(in: octets) else { return }
                frame = found
            case .frame(let found): frame = found
            case .more: return
            }
            // It may end the consumer.
            batch = nil
            guard let method = try self.dispatcher.received(frame, in: octets, chunk: chunk, self) else { continue }
            self.perform(self.machine.received(method))
            if self.isTerminated { return }
        }
    }

    @inline(__always)
    private func next(in octets: RawSpan) throws(FrameFault) -> InboundReader.Found {
        do throws(WireError) { return try self.inbound.next(in: octets) } catch { throw .undecodable(error) }
    }

    private func frameOfConfirm(in octets: RawSpan) throws(FrameFault) -> DecodedFrame? {
        do throws(WireError) { return try self.inbound.frameOfConfirm(in: octets) } catch { throw .undecodable(error) }
    }

    /// Settles the confirms read so far; one of them may end the connection.
    func settleConfirms() {
        self.handle { (driver) throws(FrameFault) in try driver.dispatcher.settleConfirms(driver) }
    }

    /// The end of one read: everything it brought is handed over, and every waiter it answers is woken.
    ///
    /// - Parameter hasEmptied: Whether it left nothing in the socket.
    private func finishRead(hasEmptied: Bool) {
        self.handle { (driver) throws(FrameFault) in try driver.dispatcher.finishRead(driver) }
        if self.dispatcher.takeFull() { self.gate.hold() }
        self.coalesce(hasEmptied: hasEmptied)
    }

    /// Closes the connection for a fault of the peer.
    private func handle(_ body: (ConnectionSession) throws(FrameFault) -> Void) {
        do throws(FrameFault) {
            try body(self)
        } catch {
            switch error {
            case .undecodable(let error): self.violated(error)
            case .violation(let code, let text): self.violated(code, text)
            }
        }
    }

    /// Decides whether the next read waits a little, so that several deliveries come with it.
    private func coalesce(hasEmptied: Bool) {
        guard self.coalescing != nil, !self.isTerminated else { return }
        let now = self.loop.turnTime.nanoseconds
        if hasEmptied, !self.gate.isHeld, !self.stream.isPeerOver {
            self.coalescing?.read(
                deliveries: self.deliveriesRead,
                octets: self.octetsRead,
                isAwaited: self.state.withLock { $0.waiters.count > 0 },
                now: now
            )
        } else {
            self.coalescing?.stop(now: now)
        }
        self.deliveriesRead = 0
        self.octetsRead = 0
        switch self.gate.rested(isPausing: self.coalescing?.isPausing ?? false) {
        case .none: break
        case .reportEvents:
            self.hideEvents(false)
            self.flush()
        case .hideEvents:
            self.hideEvents(true)
            self.pause()
        case .pause: self.pause()
        }
    }

    /// Reads at the end of a pause.
    private func pause() {
        guard !self.timers.coalescing.isSet else { return }
        self.timers.coalescing.set(self.loop.turnTime.advanced(by: self.configuration.deliveryCoalescing), of: self)
    }

    private func hideEvents(_ hides: Bool) {
        self.stream.setReportsReadable(!hides)
        self.state.withLock { $0.isPausing = hides }
    }

    /// Whether the next octets are to be read: not while consumers are far behind.
    ///
    /// A peer that has ended the link is read to its end, behind which no more can come than the kernel holds.
    private func mayRead() -> Bool {
        if self.dispatcher.takeFull() { self.gate.hold() }
        guard self.gate.isHeld, !self.stream.isPeerOver else { return true }
        let (open, hasWaiters) = self.state.withChannels { state, channels in
            // Nothing of a channel that is being closed is worth waiting for.
            (state.sessions.compactMap { $0 }.filter { !channels[$0.slot].isClosing }, state.waiters.count > 0)
        }
        let full = open.flatMap { $0.consumers.values.filter { $0.isFull } }
        let backlog: ReadGate.Backlog =
            full.isEmpty ? .none : full.contains { $0.isOverfull } ? .excessive : .full
        if self.gate.mayRead(backlog, isAwaited: hasWaiters) {
            self.heartbeat?.resumedReading(now: MonotonicTime.now.nanoseconds)
            return true
        }
        // The broker's silence is of our own making now.
        self.heartbeat?.pausedReading()
        return false
    }
}
