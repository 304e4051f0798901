// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule
import EpollConcurrency
import EpollNetworking

// Publishing on a channel: encodes on the caller's thread under the connection's short lock, and waits for room and for
// confirms. Not here: what is noted of a publish (ChannelState+Publish), receipts (ChannelSession+Receipts).

extension ChannelSession {
    /// What one attempt to publish came to.
    enum PublishAttempt {
        case done(CallerStep)
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
        case suspend
    }

    /// Publishes if there is room; on the caller's thread, without suspending.
    ///
    /// - Parameters:
    ///   - body: The body's octets.
    ///   - destination: The exchange and routing key to publish to.
    ///   - mandatory: True to have the broker return a message that is routed to no queue.
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
            try self.driver.state.withChannels { state, channels throws(AMQPError) in
                try self.publish(
                    &state,
                    &channels,
                    body: octets,
                    destination: destination,
                    mandatory: mandatory,
                    properties: properties,
                    site: site,
                    token: 0
                )
            }
        }
        guard case .done(let next) = attempt else { return .waitForRoom }
        self.driver.perform(next)
        return next == .writeAndSuspend ? .suspend : .done
    }

    /// Octets at which a task on the loop's own thread writes, instead of filling the buffer until it has to wait.
    private static let muchToWrite = 128 << 10

    /// Appends one publish, as `ChannelState.publish` does, and says who writes it.
    @inline(__always)
    func publish(
        _ state: inout ConnectionState,
        _ channels: inout ChannelTable,
        body: UnsafeRawBufferPointer,
        destination: AMQPDestination,
        mandatory: Bool,
        properties: BasicProperties,
        site: CallSite,
        token: UInt32
    ) throws(AMQPError) -> PublishAttempt {
        let appended = try channels[self.slot].publish(
            &state,
            body: body,
            destination: destination,
            mandatory: mandatory,
            properties: properties,
            site: site,
            token: token
        )
        switch appended {
        case .windowFull: return .windowFull
        case .noRoom: return .noRoom
        case .alone where state.outbound.isIdle && state.unsentAcks.isEmpty:
            // A lone publish is written by its caller: waking the loop would cost more than the write.
            return .done(self.driver.writer.takeForCaller(&state, &channels, .write))
        case .alone, .behindOthers: break
        }
        if state.outbound.fill.count >= ChannelSession.muchToWrite, state.outbound.writer == .nobody,
            self.driver.loop.isInLoop
        {
            return .done(self.driver.writer.takeForCaller(&state, &channels, .writeAndSuspend))
        }
        return .done(state.outbound.scheduleFlush())
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
        if step == .suspend { try? await self.waitForRoom(deadline: deadline, toPublish: false) }
    }

    /// Suspends until there may be room for a publish.
    nonisolated(nonsending) func waitForRoom(deadline: UInt64, toPublish: Bool = true) async throws(AMQPError) {
        var ownToken: UInt32 = 0
        var place: ChannelState.RoomPlace?
        do {
            _ = try await self.wait(deadline: deadline) { channel, state, token throws(AMQPError) in
                ownToken = token
                try channel.requireOpen(state)
                if channel.confirms.hasRoom {
                    if state.hasRoom, channel.publishHold.isEmpty {
                        // Room came between the attempt and this lock.
                        return state.resumeSoon(token, .room)
                    }
                    place = channel.waitForRoom(token, &state)
                } else {
                    place = channel.waitForWindow(token)
                }
                return state.outbound.fill.count > 0 ? state.outbound.scheduleFlush() : .none
            }
        } catch {
            throw self.gaveUpRoom(ownToken, place, error, toPublish: toPublish)
        }
    }

    /// A publisher stops waiting for room: its place in the queue is given up, and the error says what it waited for.
    func gaveUpRoom(
        _ token: UInt32,
        _ place: ChannelState.RoomPlace?,
        _ error: AMQPError,
        toPublish: Bool = true
    ) -> AMQPError {
        // Whatever ended the wait, nothing of the publish was written.
        guard error.code == .timedOut || error.code == .cancelled else { return error.withSafeRetry }
        let reason = self.withLock { channel, state -> String in
            if toPublish { state.counts.failToPublish() }
            let reason = channel.causeOfWait(state)
            if state.waiters.isTombstone(token) {
                channel.stopWaiting(at: place, &state)
                _ = state.waiters.finish(token)
            }
            return reason
        }
        return AMQPError(error.code, "\(error.replyText): \(reason)", isSafeToRetry: true)
    }

    /// Publishes, and waits for the broker's word.
    ///
    /// The wait is prepared behind the publish, while the broker is at it: until then the publish is one with a receipt.
    @inline(__always)
    nonisolated(nonsending) func publishAndConfirmUntraced(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        timeout: Duration?
    ) async throws(AMQPError) {
        if Task.isCancelled {
            self.driver.state.withLock { $0.counts.failToPublish() }
            throw ConnectionSession.cancelled(safe: true)
        }
        let attempt = try self.tryEnqueueUntraced(message, to: destination, mandatory: mandatory, site: site)
        let deadline = self.driver.deadline(timeout)
        let sequence: UInt64
        switch attempt {
        case .done(let number): sequence = number
        case .noRoom:
            sequence = try await self.enqueueUntraced(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: deadline
            )
        }
        let outcome: AMQPPublishOutcome
        do throws(AMQPError) {
            let result = try await self.wait(deadline: deadline) { channel, state, token throws(AMQPError) in
                if channel.hasFailed || state.hasFailed, let failure = channel.failure ?? state.failure {
                    throw failure
                }
                if channel.confirms.ring.setToken(token, of: sequence) { return .none }
                // The broker was faster.
                return state.resumeSoon(token, .room)
            }
            if case .outcome(.confirmed) = result { return }
            outcome =
                if case .outcome(let refusal) = result { AMQPPublishOutcome(refusal) } else {
                    self.knownOutcome(of: sequence) ?? .unknown(ConnectionSession.cancelled(safe: false))
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
            let deadline = self.driver.deadline(timeout)
            _ = try await self.wait(deadline: deadline) { channel, state, token throws(AMQPError) in
                if let failure = channel.failure { throw failure }
                try state.requireOpen()
                ownToken = token
                ticket = channel.confirms.waitUntilDrained(token)
                return ticket == nil ? state.resumeSoon(token, .room) : state.outbound.scheduleFlush()
            }
        } catch {
            let token = ownToken
            self.withLock { channel, state in
                guard state.waiters.isTombstone(token) else { return }
                if let ticket { channel.confirms.stopWaitingUntilDrained(ticket) }
                _ = state.waiters.finish(token)
            }
            throw error
        }
        let failures = self.withLock { channel, _ in channel.confirms.endings.takeFailures() }
        if let failures, let error = AMQPError(failures.first) { throw error.firstOf(failures.count) }
    }
}
