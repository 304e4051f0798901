// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule
import EpollConcurrency
import EpollNetworking
import Logging

// The life of a connection: connect and log in, heartbeats, close, and the end from any cause.
// Not here: the life of a channel (ConnectionSession+Channels).
// Every end goes through `terminate`, which fails every waiter and every consumer exactly once with the cause.

// MARK: connecting

extension ConnectionSession {
    /// Logs in over a connected transport, which it takes over also when it throws.
    static func login(
        over transport: any ByteTransport & Sendable,
        named address: String,
        _ configuration: AMQPClientConfiguration,
        tls: (context: TLSContext, host: String)? = nil,
        server: AMQPServerAddress? = nil,
        loop: EventLoop,
        deadline: MonotonicTime,
        logger: Logger
    ) async throws(AMQPError) -> ConnectionSession {
        var logger = logger
        logger[metadataKey: "server.address"] = "\(address)"
        if !configuration.connectionName.isEmpty {
            logger[metadataKey: "messaging.client.id"] = "\(configuration.connectionName)"
        }
        let driver: ConnectionSession
        do throws(AMQPError) {
            driver = try ConnectionSession(
                transport: transport,
                loop: loop,
                configuration: configuration,
                tls: tls,
                server: server,
                logger: logger
            )
        } catch {
            transport.close()
            throw error
        }
        let result = await withCancellableSuspension(
            onCancel: { driver.terminateSoon(Self.cancelled(safe: true)) },
            { (waiter: Suspension<Result<Void, AMQPError>>) in
                let accepted = loop.execute { driver.start(waiter, deadline: deadline) }
                if !accepted { waiter.resume(returning: .failure(Self.loopStopped)) }
            }
        )
        if case .failure(let error) = result {
            throw error.code == .timedOut
                ? AMQPError(.timedOut, "\(address) took the connection but did not finish the AMQP login in time")
                : error
        }
        CredentialRefresher(session: driver).start()
        logger.debug("connected")
        return driver
    }

    private static let loopStopped = AMQPError(.connectFailed, "the event loop has been shut down", isSafeToRetry: true)

    /// Registers the socket and says hello.
    ///
    /// Loop thread.
    private func start(_ waiter: Suspension<Result<Void, AMQPError>>, deadline: MonotonicTime) {
        guard !self.isTerminated else { return waiter.resume(returning: .failure(Self.cancelled(safe: true))) }
        self.openWaiter = waiter
        self.timers.handshake.set(deadline, of: self)
        do throws(SystemError) {
            try self.stream.start(self)
        } catch {
            return self.terminate(self.linkLost(error))
        }
        self.state.withLock { state in
            for octet in Frame.protocolHeader { state.outbound.fill.append(octet) }
            _ = state.outbound.scheduleFlush()
        }
        self.runOnLoop()
    }

    /// Performs what the machine of channel 0 answered.
    ///
    /// Loop thread.
    func perform(_ action: ConnectionStateMachine.Action) {
        switch action {
        case .ignore: break
        case .secretUpdated: self.secretUpdated()
        case .sendStartOk(let startOk):
            self.state.withLock { $0.serverProperties = self.machine.serverProperties }
            self.sendLogin(.connectionStartOk(startOk))
        case .sendTuneOkAndOpen(let tuneOk, let open, let negotiated):
            self.use(negotiated)
            self.sendLogin(.connectionTuneOk(tuneOk))
            self.sendLogin(.connectionOpen(open))
        case .opened: self.opened()
        case .blocked(let reason):
            self.blocked(reason.isEmpty ? "no reason given" : reason)
            self.limitSilenceOfKernel(false)
            self.logger.info("the broker blocks publishers", metadata: ["reason": "\(reason)"])
        case .unblocked:
            self.limitSilenceOfKernel(true)
            self.unblocked()
        case .fail(let failure): self.terminate(AMQPError(failure))
        case .sendCloseOkAndClose(let reason):
            self.end(AMQPError(reason, isLoggingIn: self.openWaiter != nil), saying: .connectionCloseOk(.init()))
        case .sendCloseOk: self.send(.connectionCloseOk(.init()), on: nil)
        case .closed: self.terminate(Self.closedByUs)
        case .violation(let close):
            self.end(.protocolViolation(close.replyCode, close.replyText), saying: .connectionClose(close))
        }
    }

    /// Gives the method behind which nothing may follow to the socket, as far as it takes it, and ends.
    private func end(_ error: AMQPError, saying last: Method) {
        self.settleConfirms()
        // A confirm may have ended the connection.
        guard !self.isTerminated else { return }
        self.state.withChannels { state, channels in
            // Later calls fail with this error.
            state.failure = error
            state.appendUnsentAcks(&channels)
            // Texts were cut to size: encoding it cannot fail.
            try? last.encodeFrame(channel: ChannelNumber(rawValue: 0), into: &state.outbound.fill)
        }
        self.flush()
        // Octets that the broker has sent meanwhile would turn the end into a reset, which destroys this method.
        self.terminate(error, afterLastMethod: .milliseconds(500))
    }

    /// The peer sent what it must not: tells it why, and ends.
    func violated(_ code: ReplyCode, _ text: String) {
        self.perform(self.machine.violate(code, text))
    }

    func violated(_ error: WireError) {
        if case .protocolMismatch(let octets) = error.kind {
            return self.terminate(
                AMQPError(
                    .connectFailed,
                    "the broker speaks AMQP \(octets[5])-\(octets[6])-\(octets[7]), not 0-9-1",
                    scope: .connection
                )
            )
        }
        if self.machine.phase == .awaitingStart {
            return self.terminate(
                AMQPError(
                    .connectFailed,
                    "the peer does not speak AMQP 0-9-1: is this the port of a web server or another service?",
                    scope: .connection
                )
            )
        }
        self.violated(error.replyCode, "\(error)")
    }

    private func sendLogin(_ method: Method) {
        do {
            let (next, size) = try self.state.withLock { state throws(WireError) -> (CallerStep, Int) in
                let start = state.outbound.fill.count
                try method.encodeFrame(channel: ChannelNumber(rawValue: 0), into: &state.outbound.fill)
                return (state.outbound.scheduleFlush(), state.outbound.fill.count - start)
            }
            if method.id == Connection.StartOk.id { self.loginSize = size }
            self.perform(next)
        } catch {
            self.terminate(.invalidArgument(error))
        }
    }

    private func use(_ negotiated: TuneNegotiation.Negotiated) {
        self.inbound.maximumFrameSize = Int(negotiated.frameMaximum)
        self.logger.debug(
            "tuned",
            metadata: [
                "amqp.channel_max": "\(negotiated.channelMaximum)",
                "amqp.frame_max": "\(negotiated.frameMaximum)",
                "amqp.heartbeat": "\(negotiated.heartbeat)",
            ]
        )
        self.state.withLock { state in
            state.maximumPayload = Int(negotiated.frameMaximum) - 8
            state.numbers = ChannelNumbers(maximum: negotiated.channelMaximum)
        }
        if negotiated.heartbeat > 0 {
            self.heartbeat = HeartbeatSchedule(seconds: negotiated.heartbeat, now: MonotonicTime.now.nanoseconds)
            self.heartbeatTick()
        }
    }

    private func opened() {
        self.timers.handshake.cancel()
        self.observation.metrics?.connected()
        LateDeliveryWatch(session: self).schedule()
        self.openWaiter?.resume(returning: .success(()))
        self.openWaiter = nil
    }

    private func unblocked() {
        var resumptions: [Resumption] = []
        self.state.withLock { state in
            state.blockedReason = nil
            state.takeRoomWaiters(into: &resumptions)
            state.takeUnblockedWaiters(into: &resumptions)
        }
        self.logger.info("the broker lets publishers go on")
        self.blockedStates.emit(nil)
        for resumption in resumptions { resumption.resume() }
    }

    /// Sends a heartbeat when it is time to, and gives the peer up when it was silent too long.
    ///
    /// Loop thread.
    func heartbeatTick() {
        guard !self.isTerminated, let schedule = self.heartbeat else { return }
        let now = MonotonicTime.now
        switch schedule.check(now: now.nanoseconds) {
        case .none: break
        case .sendHeartbeat:
            let next = self.state.withLock { state -> CallerStep in
                state.outbound.fill.appendHeartbeat()
                return state.outbound.scheduleFlush()
            }
            self.heartbeat?.wrote(now: now.nanoseconds)
            self.perform(next)
        case .peerDead:
            return self.terminate(
                AMQPError(
                    .connectionClosed,
                    "the broker was silent for more than one and a half heartbeat intervals",
                    scope: .connection
                )
            )
        }
        guard let deadline = self.heartbeat?.deadline else { return }
        self.timers.heartbeat.set(MonotonicTime(nanoseconds: deadline), of: self)
    }
}

// MARK: closing

extension ConnectionSession {
    /// The application released the connection without closing it.
    static let released = AMQPError(
        .connectionClosed,
        "the AMQPConnection was released without close(): keep a reference to it while its channels are in use",
        scope: .connection
    )

    static let closedByUs = AMQPError(.connectionClosed, "the connection was closed", scope: .connection)

    func close(timeout: Duration) async throws(AMQPError) {
        let deadline = MonotonicTime.now.advanced(by: timeout)
        let result = await withCancellableSuspension(
            onCancel: { self.terminateSoon(Self.closedByUs) },
            { (waiter: Suspension<Result<Void, AMQPError>>) in
                let accepted = self.loop.execute { self.startClose(waiter, deadline: deadline) }
                if !accepted { waiter.resume(returning: .success(())) }
            }
        )
        try result.get()
    }

    private func startClose(_ waiter: Suspension<Result<Void, AMQPError>>, deadline: MonotonicTime) {
        guard !self.isTerminated else { return waiter.resume(returning: .success(())) }
        self.closeWaiters.append(waiter)
        switch self.machine.close() {
        case .send(let close):
            let next = self.state.withChannels { state, channels -> CallerStep in
                state.isClosing = true
                state.appendUnsentAcks(&channels)
                // 200 and an empty text: encoding it cannot fail.
                let method = Method.connectionClose(close)
                try? method.encodeFrame(channel: ChannelNumber(rawValue: 0), into: &state.outbound.fill)
                return state.outbound.scheduleFlush()
            }
            self.timers.handshake.set(deadline, of: self)
            self.perform(next)
        case .wait: break
        case .alreadyClosed: self.terminate(Self.closedByUs)
        }
    }

    func abort() {
        self.terminateSoon(Self.closedByUs)
    }

    /// Takes the kernel's limit away while the broker has said that it does not read, and sets it again afterwards.
    ///
    /// The limit counts a closed window too, although the peer answers every probe of it: an alarm that lasts longer would
    /// cost the connection. The broker's heartbeats tell meanwhile whether it is alive.
    private func limitSilenceOfKernel(_ isOn: Bool) {
        guard let socket = self.socket else { return }
        // Not every socket has it.
        try? SocketOptions(self.configuration).setUserTimeout(of: socket, isOn: isOn)
    }

    /// Closes the socket at once; everybody who waits is told this.
    func drop(_ error: AMQPError) { self.terminateSoon(error) }

    /// The application has released the connection without closing it.
    func abandon() {
        let hasEnded = self.state.withLock { $0.hasFailed }
        guard !hasEnded else { return }
        self.logger.debug("a connection was let go without being closed")
        self.terminateSoon(Self.released)
    }

    /// Any thread.
    private func terminateSoon(_ error: AMQPError) {
        self.loop.execute { self.terminate(error) }
    }
}
