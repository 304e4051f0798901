// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire
import EpollNetworking

// Publishing. A publish is encoded on the caller's thread under the connection's short lock and returns without
// suspending; it waits only for the confirm window, for room in the write buffer, or while the broker blocks publishers.
//
//   publish             back-pressure only; refusals are kept for waitForConfirms
//   publishAndConfirm   waits for the outcome of this one
//   waitForConfirms     waits until nothing is unconfirmed, and throws what was refused in between

extension AMQPChannel {
    /// Turns publisher confirms on: `confirm.select` (85, 10).
    ///
    /// - Parameters:
    ///   - window: Publishes unconfirmed at which the next one waits, 1...4194304.
    ///   - windowOctets: Octets of bodies unconfirmed at which the next one waits.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``; after a refusal by the broker the channel is closed.
    public func enableConfirms(
        window: Int = 1024,
        windowOctets: Int = 64 << 20,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        guard 1...(1 << 22) ~= window, windowOctets > 0 else {
            throw AMQPError(
                .invalidArgument,
                "the confirm window is 1 to \(1 << 22) messages and at least one octet",
                isSafeToRetry: true
            )
        }
        _ = try await self.core.call(
            .confirmSelect(.init()),
            timeout: timeout,
            before: { _ throws(AMQPError) in
                guard !self.core.isTransactional else {
                    throw AMQPError(
                        .invalidArgument,
                        "the channel has run a transaction; a channel has confirms or transactions, not both",
                        isSafeToRetry: true
                    )
                }
            }
        )
        self.core.driver.state.withLock { _ in
            self.core.windowMessages = window
            self.core.windowOctets = windowOctets
            if !self.core.hasConfirms { self.core.confirms = ConfirmRing(capacity: min(window, 4096)) }
            self.core.hasConfirms = true
        }
    }

    /// Publishes a message: `basic.publish` (60, 40).
    ///
    /// Returns as soon as the message has a place in the write buffer; waits while the confirm window or the buffer is
    /// full or the broker blocks publishers. With confirms on, what the broker refuses is kept for
    /// ``waitForConfirms(timeout:)``.
    ///
    /// - Parameters:
    ///   - message: Body and properties.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
    ///   - timeout: Time to wait for room; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Throws: ``AMQPError``: `.invalidArgument` and the channel goes on; `.timedOut` or `.cancelled`, nothing was
    ///   sent and the channel goes on; `.channelClosed` or `.connectionClosed`.
    @inlinable
    public func publish(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async throws(AMQPError) {
        let step = try self.core.publishAtOnce(
            message.body.bytes,
            to: destination,
            mandatory: mandatory,
            properties: message.properties,
            site: CallSite(fileID, line)
        )
        if step == .done { return }
        try await self.core.publish(
            message.body.bytes,
            to: destination,
            mandatory: mandatory,
            properties: message.properties,
            site: CallSite(fileID, line),
            timeout: timeout,
            after: step
        )
    }

    /// Publishes octets the caller keeps, with no copy but the one to the wire.
    ///
    /// Otherwise as ``publish(_:to:mandatory:timeout:fileID:line:)``.
    ///
    /// - Parameters:
    ///   - body: The octets; read before this returns, not kept.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
    ///   - properties: The properties; none by default.
    ///   - timeout: Time to wait for room; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Throws: ``AMQPError`` as ``publish(_:to:mandatory:timeout:fileID:line:)``.
    @inlinable
    public func publish(
        _ body: RawSpan,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        properties: BasicProperties = BasicProperties(),
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async throws(AMQPError) {
        let step = try self.core.publishAtOnce(
            body,
            to: destination,
            mandatory: mandatory,
            properties: properties,
            site: CallSite(fileID, line)
        )
        if step == .done { return }
        try await self.core.publish(
            body,
            to: destination,
            mandatory: mandatory,
            properties: properties,
            site: CallSite(fileID, line),
            timeout: timeout,
            after: step
        )
    }

    /// Publishes a message and waits for the broker's word on it.
    ///
    /// - Parameters:
    ///   - message: Body and properties.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
    ///   - timeout: Time to wait for room and the confirm together; the configuration's `operationTimeout` by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    /// - Throws: ``AMQPError``: `.nacked`; `.returned` with code and text; `.unknownOutcome` when the message was
    ///   written and no confirm came; with `isSafeToRetry` when nothing was written.
    public func publishAndConfirm(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool = false,
        timeout: Duration? = nil,
        fileID: StaticString = #fileID,
        line: UInt32 = #line
    ) async throws(AMQPError) {
        try await self.core.publishAndConfirm(
            message,
            to: destination,
            mandatory: mandatory,
            site: CallSite(fileID, line),
            timeout: timeout
        )
    }

    /// Waits until the broker has confirmed all that was published on this channel.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: the first refusal since the last call of this (`.nacked` or `.returned`), with the
    ///   count of refusals in its text; `.timedOut`; `.channelClosed` or `.connectionClosed`, after which the outcome
    ///   of what was unconfirmed is unknown.
    public func waitForConfirms(timeout: Duration? = nil) async throws(AMQPError) {
        try await self.core.waitForConfirms(timeout: timeout)
    }
}

extension ChannelCore {
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
        do {
            _ = try await self.driver.wait(deadline: deadline) { state, token throws(AMQPError) in
                ownToken = token
                if let failure = self.failure { throw failure.withSafeRetry }
                try state.requireOpen()
                if self.hasWindowRoom {
                    if state.hasRoom, !self.isFlowStopped {
                        // Room came between the attempt and this lock: be woken at once.
                        state.readyWaiters.append(token)
                        return .wakeLoop
                    }
                    state.roomWaiters.append(token)
                } else {
                    self.windowWaiters.append(token)
                }
                return state.fill.count > 0 ? state.scheduleFlush() : .none
            }
        } catch {
            throw self.gaveUpRoom(ownToken, error, toPublish: toPublish)
        }
    }

    /// A publisher stops waiting for room: its place in the queue is given up, and the error says what it waited for.
    func gaveUpRoom(_ token: UInt32, _ error: AMQPError, toPublish: Bool = true) -> AMQPError {
        // Whatever ended the wait, nothing of the publish was written.
        guard error.code == .timedOut || error.code == .cancelled else { return error.withSafeRetry }
        let reason = self.driver.state.withLock { state -> String in
            if toPublish { state.counts.failToPublish() }
            let text =
                if let reason = state.blockedReason {
                    "the broker blocks publishers: \(reason)"
                } else if self.isStoppedByBroker {
                    "the broker stopped publishers on this channel (channel.flow)"
                } else if !self.hasWindowRoom {
                    "the confirm window is full"
                } else {
                    "the write buffer is full"
                }
            if state.waiters.isTombstone(token) {
                state.roomWaiters.removeAll { $0 == token }
                self.windowWaiters.removeAll { $0 == token }
                _ = state.waiters.finish(token)
            }
            return text
        }
        return AMQPError(error.code, "\(error.replyText): \(reason)", isSafeToRetry: true)
    }

    /// Whether the confirm window takes another publish.
    ///
    /// Under the lock.
    @inline(__always)
    var hasWindowRoom: Bool {
        guard self.hasConfirms else { return true }
        let outstanding = self.confirms.outstandingMessages
        return outstanding < self.windowMessages && !self.confirms.isFull
            && (self.confirms.outstandingOctets < self.windowOctets || outstanding == 0)
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
                if self.confirms.setToken(token, of: sequence) { return .none }
                // The broker was faster.
                state.readyWaiters.append(token)
                return .wakeLoop
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
        do throws(AMQPError) {
            _ = try await self.driver.wait(deadline: self.driver.deadline(timeout)) { state, token throws(AMQPError) in
                if let failure = self.failure { throw failure }
                try state.requireOpen()
                ownToken = token
                if self.confirms.outstandingMessages == 0 {
                    state.readyWaiters.append(token)
                    return .wakeLoop
                }
                self.drainWaiters.append(token)
                return state.scheduleFlush()
            }
        } catch {
            let token = ownToken
            self.driver.state.withLock { state in
                guard state.waiters.isTombstone(token) else { return }
                self.drainWaiters.removeAll { $0 == token }
                _ = state.waiters.finish(token)
            }
            throw error
        }
        let (failure, count) = self.driver.state.withLock { _ in
            defer {
                self.firstFailure = nil
                self.failedCount = 0
            }
            return (self.firstFailure, self.failedCount)
        }
        if let failure {
            throw failure.firstOf(count)
        }
    }
}

extension AMQPError {
    /// This refusal as the first of so many.
    func firstOf(_ count: Int) -> AMQPError {
        AMQPError(
            self.code,
            count == 1 ? self.replyText : "\(self.replyText) (the first of \(count))",
            replyCode: self.replyCode,
            method: self.method,
            origin: self.origin
        )
    }

    /// The error of a publish the broker did not take; nil when it was confirmed.
    init?(_ outcome: PublishOutcome) {
        switch outcome {
        case .confirmed: return nil
        case .nacked: self.init(.nacked, method: Basic.Nack.id, origin: .broker)
        case .returned(let code, let text):
            self.init(.returned, text, replyCode: code, method: Basic.Return.id, origin: .broker)
        }
    }

    static func unexpectedReply(_ reply: Method) -> AMQPError {
        AMQPError(.protocolViolation, "the broker answered with \(reply.id)", method: reply.id)
    }
}
