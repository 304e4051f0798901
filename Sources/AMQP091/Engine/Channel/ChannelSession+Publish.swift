// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule
import EpollNetworking

// Publishing on a channel: encodes on the caller's thread under the connection's short lock, and waits for room and for
// confirms. Not here: what becomes of a publish (ConfirmTracker), receipts (ChannelSession+Receipts).

extension ChannelSession {
    /// What one attempt to publish came to.
    enum PublishAttempt {
        case done(Kick)
        /// No room: wait in the window's queue or the connection's.
        case windowFull
        case noRoom
    }

    /// What the caller of one publish does next.
    @usableFromInline
    enum PublishStep {
        /// Go on: the publish is on its way.
        case done
        /// Suspend until there is room, and try again.
        case waitForRoom
        /// Nothing was done: publish with a span.
        case trace
        /// The publish is on its way; suspend once all the same, because this thread serves the socket too.
        case breathe
    }

    /// Publishes if there is room; on the caller's thread, without suspending.
    ///
    /// - Parameters:
    ///   - body: The body's octets.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
    ///   - properties: The properties.
    ///   - site: The line that publishes.
    /// - Returns: What to do next.
    /// - Throws: What cannot be encoded, or that the channel is closed; nothing was appended.
    @usableFromInline
    func publishAtOnce(
        _ body: RawSpan,
        to destination: AMQPDestination,
        mandatory: Bool,
        properties: BasicProperties,
        site: CallSite
    ) throws(AMQPError) -> PublishStep {
        if self.isTracing { return .trace }
        return try self.publishNow(body, to: destination, mandatory: mandatory, properties: properties, site: site)
    }

    /// As `publishAtOnce`, without a span.
    @inline(__always)
    func publishNow(
        _ body: RawSpan,
        to destination: AMQPDestination,
        mandatory: Bool,
        properties: BasicProperties,
        site: CallSite
    ) throws(AMQPError) -> PublishStep {
        let attempt = try body.withUnsafeBytes { octets throws(AMQPError) in
            try self.driver.state.withLock { state throws(AMQPError) in
                try self.publish(
                    &state,
                    body: octets,
                    destination: destination,
                    mandatory: mandatory,
                    properties: properties,
                    site: site,
                    token: 0
                )
            }
        }
        guard case .done(let kick) = attempt else { return .waitForRoom }
        self.driver.perform(kick)
        return kick == .writeAndBreathe ? .breathe : .done
    }

    /// Octets at which a task on the loop's own thread writes, instead of filling the buffer until it has to wait.
    private static let muchToWrite = 128 << 10

    /// Numbers, registers and appends one publish, in one step; or says what it has to wait for.
    ///
    /// - Parameters:
    ///   - state: The connection's state, whose lock is held.
    ///   - body: The body's octets.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
    ///   - properties: The properties.
    ///   - site: The line that publishes.
    ///   - token: The waiter of its confirm, 0 for none.
    /// - Returns: Whether it is done, or what to wait for.
    /// - Throws: What cannot be encoded, or that the channel is closed; nothing was appended.
    @inline(__always)
    func publish(
        _ state: inout ConnectionState,
        body: UnsafeRawBufferPointer,
        destination: AMQPDestination,
        mandatory: Bool,
        properties: BasicProperties,
        site: CallSite,
        token: UInt32
    ) throws(AMQPError) -> PublishAttempt {
        guard !self.isClosing, !self.hasFailed, !state.hasFailed, !state.isClosing else {
            state.counts.failToPublish()
            if let failure = self.failure { throw failure.withSafeRetry }
            try state.requireOpen()
            throw ChannelSession.closing
        }
        guard state.fill.count < state.writeBufferSize, state.blockedReason == nil, self.publishHold.isEmpty else {
            return .noRoom
        }
        guard self.confirms.hasRoom else { return .windowFull }
        let isLone = self.confirms.isOn && state.fill.isEmpty && self.confirms.ring.outstandingMessages == 0
        do {
            try state.fill.appendPublish(
                channel: self.number.rawValue,
                exchange: destination.exchange,
                routingKey: destination.routingKey,
                routingKeyOctets: destination.octets,
                mandatory: mandatory,
                properties: properties,
                body: body,
                maximumPayload: state.maximumPayload
            )
        } catch {
            state.counts.failToPublish()
            throw .invalidArgument(error, publishingTo: destination, properties)
        }
        state.counts.publish(withConfirm: self.confirms.isOn)
        self.publishSites.note(site, exchange: destination.exchange)
        if self.confirms.isOn {
            let sequence = self.confirms.ring.append(octets: body.count, token: token)
            self.publishRuns.note(
                sequence,
                exchange: destination.exchange,
                properties: properties,
                site: site,
                lowest: self.confirms.ring.lowest
            )
            if mandatory {
                let mark = MandatoryPublishes.Mark(
                    exchange: destination.exchange,
                    routingKey: destination.routingKey,
                    bodyHash: OctetHash.of(body)
                )
                self.confirms.ring.markMandatory(sequence, mark, properties)
            }
        }
        // A lone publish is written by its caller: waking the loop would cost more than the write.
        if isLone, state.writer == .nobody, !state.isFlushScheduled, state.unsentAcks.isEmpty {
            return .done(self.driver.takeWriter(&state, .write))
        }
        if state.fill.count >= ChannelSession.muchToWrite, state.writer == .nobody, self.driver.loop.isInLoop {
            return .done(self.driver.takeWriter(&state, .writeAndBreathe))
        }
        return .done(state.scheduleFlush())
    }
}

extension ChannelSession {
    /// Goes on with a publish that could not end at once.
    @usableFromInline
    nonisolated(nonsending) func publish(
        _ body: RawSpan,
        to destination: AMQPDestination,
        mandatory: Bool,
        properties: BasicProperties,
        site: CallSite,
        timeout: Duration?,
        after step: PublishStep
    ) async throws(AMQPError) {
        if step == .trace {
            return try await self.publishTraced(
                body,
                to: destination,
                mandatory: mandatory,
                properties: properties,
                site: site,
                timeout: timeout
            )
        }
        var step = step
        let deadline = self.driver.deadline(timeout)
        while step == .waitForRoom {
            try await self.waitForRoom(deadline: deadline)
            step = try self.publishNow(
                body,
                to: destination,
                mandatory: mandatory,
                properties: properties,
                site: site
            )
        }
        // The message is on its way: that the wait failed is for the next publish to find out.
        if step == .breathe { try? await self.waitForRoom(deadline: deadline, toPublish: false) }
    }

    /// Suspends until there may be room for a publish.
    nonisolated(nonsending) func waitForRoom(deadline: UInt64, toPublish: Bool = true) async throws(AMQPError) {
        var ownToken: UInt32 = 0
        var place: RoomPlace?
        do {
            _ = try await self.driver.wait(deadline: deadline) { state, token throws(AMQPError) in
                ownToken = token
                if let failure = self.failure { throw failure.withSafeRetry }
                try state.requireOpen()
                if self.confirms.hasRoom {
                    if state.hasRoom, self.publishHold.isEmpty {
                        // Room came between the attempt and this lock.
                        return state.resumeSoon(token, .room)
                    }
                    place = self.waitForRoom(token, &state)
                } else {
                    place = .window(self.confirms.waitForRoom(token))
                }
                return state.fill.count > 0 ? state.scheduleFlush() : .none
            }
        } catch {
            throw self.gaveUpRoom(ownToken, place, error, toPublish: toPublish)
        }
    }

    /// Where a publisher waits for room, so that it can leave.
    enum RoomPlace {
        case window(WaitingLine<UInt32>.Ticket)
        case hold(WaitingLine<UInt32>.Ticket)
        case connection(WaitingLine<(token: UInt32, channel: ChannelNumber)>.Ticket)
    }

    /// Waits until the channel's hold ends, or else for the connection's write buffer.
    ///
    /// Under the lock.
    func waitForRoom(_ token: UInt32, _ state: inout ConnectionState) -> RoomPlace {
        guard self.publishHold.isEmpty else { return .hold(self.heldPublishers.append(token)) }
        return .connection(state.roomWaiters.append((token, self.number)))
    }

    /// A publisher stops waiting for room: its place in the queue is given up, and the error says what it waited for.
    func gaveUpRoom(
        _ token: UInt32,
        _ place: RoomPlace?,
        _ error: AMQPError,
        toPublish: Bool = true
    ) -> AMQPError {
        // Whatever ended the wait, nothing of the publish was written.
        guard error.code == .timedOut || error.code == .cancelled else { return error.withSafeRetry }
        let reason = self.driver.state.withLock { state -> String in
            if toPublish { state.counts.failToPublish() }
            let text =
                if let reason = state.blockedReason {
                    "the broker blocks publishers: \(reason)"
                } else if self.publishHold.contains(.brokerFlow) {
                    "the broker stopped publishers on this channel (channel.flow)"
                } else if !self.confirms.hasRoom {
                    "the confirm window is full"
                } else {
                    "the write buffer is full"
                }
            if state.waiters.isTombstone(token) {
                switch place {
                case .window(let ticket)?: self.confirms.stopWaitingForRoom(ticket)
                case .hold(let ticket)?: _ = self.heldPublishers.remove(ticket)
                case .connection(let ticket)?: _ = state.roomWaiters.remove(ticket)
                case nil: break
                }
                _ = state.waiters.finish(token)
            }
            return text
        }
        return AMQPError(error.code, "\(error.replyText): \(reason)", isSafeToRetry: true)
    }

    /// Publishes, and waits for the broker's word.
    ///
    /// The wait is prepared behind the publish, while the broker is at it: until then the publish is one with a receipt.
    @inline(__always)
    nonisolated(nonsending) func publishAndConfirmUnwatched(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        timeout: Duration?
    ) async throws(AMQPError) {
        if Task.isCancelled {
            self.driver.state.withLock { $0.counts.failToPublish() }
            throw ConnectionDriver.cancelled(safe: true)
        }
        let attempt = try self.tryEnqueueUnwatched(message, to: destination, mandatory: mandatory, site: site)
        let deadline = self.driver.deadline(timeout)
        let sequence: UInt64
        switch attempt {
        case .done(let number): sequence = number
        case .noRoom:
            sequence = try await self.enqueueUnwatched(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: deadline
            )
        }
        let outcome: AMQPPublishOutcome
        do throws(AMQPError) {
            let result = try await self.driver.wait(deadline: deadline) { state, token throws(AMQPError) in
                if self.hasFailed || state.hasFailed, let failure = self.failure ?? state.failure { throw failure }
                if self.confirms.ring.setToken(token, of: sequence) { return .none }
                // The broker was faster.
                return state.resumeSoon(token, .room)
            }
            if case .outcome(.confirmed) = result { return }
            outcome =
                if case .outcome(let refusal) = result { AMQPPublishOutcome(refusal) } else {
                    self.knownOutcome(of: sequence) ?? .unknown(ConnectionDriver.cancelled(safe: false))
                }
        } catch {
            outcome = self.knownOutcome(of: sequence) ?? .unknown(error)
        }
        if let error = outcome.error { throw error }
    }

    nonisolated(nonsending) func waitForConfirms(timeout: Duration?) async throws(AMQPError) {
        var ownToken: UInt32 = 0
        var ticket: WaitingLine<UInt32>.Ticket?
        do throws(AMQPError) {
            _ = try await self.driver.wait(deadline: self.driver.deadline(timeout)) { state, token throws(AMQPError) in
                if let failure = self.failure { throw failure }
                try state.requireOpen()
                ownToken = token
                ticket = self.confirms.waitUntilDrained(token)
                return ticket == nil ? state.resumeSoon(token, .room) : state.scheduleFlush()
            }
        } catch {
            let token = ownToken
            self.driver.state.withLock { state in
                guard state.waiters.isTombstone(token) else { return }
                if let ticket { self.confirms.stopWaitingUntilDrained(ticket) }
                _ = state.waiters.finish(token)
            }
            throw error
        }
        let failures = self.driver.state.withLock { _ in self.confirms.endings.takeFailures() }
        if let failures, let error = AMQPError(failures.first) { throw error.firstOf(failures.count) }
    }

    /// Settles publishes and collects the tasks to wake.
    ///
    /// Under the lock.
    func settle(
        _ confirm: ConfirmRecord,
        _ state: inout ConnectionState,
        into resumptions: inout [Resumption]
    ) throws(ConfirmRing.Violation) {
        guard !self.hasFailed, self.confirms.isOn else { return }
        let settled = try self.confirms.settle(tag: confirm.tag, multiple: confirm.multiple, isAck: confirm.isAck) {
            state.wake($0, WaitResult($1), into: &resumptions)
        }
        state.counts.settle(settled.count, nacked: settled.nacked)
    }
}
