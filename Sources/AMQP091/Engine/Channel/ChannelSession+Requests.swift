// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// Requests of a channel and its close. A request is encoded by its caller, which learns at once what cannot be encoded,
// and written by whoever finds that its turn has come: the caller, or the loop with the reply to the one before.
// Not here: whose turn it is (RequestQueue), what a reply does (ConnectionDriver+Frames).

extension ChannelSession {
    /// Sends a request when its turn has come and waits for its reply.
    ///
    /// - Parameters:
    ///   - request: The request.
    ///   - purpose: What it does to the channel.
    ///   - timeout: Time to wait for its turn and the reply; the configuration's `operationTimeout` by default.
    /// - Returns: The reply.
    /// - Throws: What cannot be encoded or sent, and nothing was written; or how the wait failed.
    @discardableResult
    nonisolated(nonsending) func call<R: Request>(
        _ request: R,
        for purpose: RequestPurpose = .plain,
        timeout: Duration?
    ) async throws(AMQPError) -> R.Reply {
        let kind = purpose.kind ?? .ordered(reply: R.replyID)
        let result = try await self.wait(forReplyTo: request.method, kind, purpose, timeout: timeout)
        guard case .reply(let method) = result, let reply = R.reply(method) else {
            throw AMQPError(.protocolViolation, "no reply to \(request.method.id)", method: request.method.id)
        }
        return reply
    }

    /// Takes one message from a queue.
    nonisolated(nonsending) func get(
        queue: String,
        isAutomatic: Bool,
        timeout: Duration?
    ) async throws(AMQPError) -> AMQPDelivery? {
        let result = try await self.wait(
            forReplyTo: .basicGet(.init(queue: queue, noAck: isAutomatic)),
            .ordered(reply: Basic.GetOk.id, or: Basic.GetEmpty.id),
            .get(queue: queue, isAutomatic: isAutomatic),
            timeout: timeout
        )
        guard case .message(let delivery) = result else { return nil }
        return delivery
    }

    private nonisolated(nonsending) func wait(
        forReplyTo method: Method,
        _ kind: ChannelMachine.Requests.Kind,
        _ purpose: RequestPurpose,
        timeout: Duration?
    ) async throws(AMQPError) -> WaitResult {
        var place: ChannelMachine.Requests.Ticket?
        var ownToken: UInt32 = 0
        do throws(AMQPError) {
            let deadline = self.driver.deadline(timeout)
            return try await self.driver.wait(deadline: deadline) { state, token throws(AMQPError) in
                if let failure = self.failure { throw failure.withSafeRetry }
                try state.requireOpen()
                guard !self.isClosing else { throw Self.closing }
                if let refusal = self.refusal(of: purpose, isNew: true) { throw refusal }
                place = try self.enqueue(method, kind, purpose, waiter: token, &state)
                ownToken = token
                return state.scheduleFlush()
            }
        } catch {
            guard ownToken != 0 else { throw error }
            throw self.gaveUp(place, ownToken, purpose, error)
        }
    }

    /// Sends a request, or has it wait for its turn.
    ///
    /// Under the lock.
    ///
    /// - Returns: Its place among those that wait; nil when it was sent.
    func enqueue(
        _ method: Method,
        _ kind: ChannelMachine.Requests.Kind,
        _ purpose: RequestPurpose,
        waiter: UInt32?,
        _ state: inout ConnectionState
    ) throws(AMQPError) -> ChannelMachine.Requests.Ticket? {
        // Acknowledgements go out before: the broker's answer may be to close the channel, and then they would not count.
        if self.settlements.isScheduled { self.appendAcks(to: &state.fill) }
        let start = state.fill.count
        do throws(WireError) {
            try method.encodeFrame(
                channel: self.number,
                into: &state.fill,
                maximumFrameSize: state.maximumPayload + Frame.overhead
            )
        } catch {
            state.fill.truncate(to: start)
            throw .invalidArgument(error, in: method)
        }
        if case .consume(let inbox) = purpose { self.consumerTags.insert(inbox.consumerTag) }
        if self.machine.requests.maySend(kind) {
            self.machine.requests.send(kind, waiter: waiter, context: ChannelRequest(purpose: purpose))
            self.sent(purpose)
            return nil
        }
        let frame = state.fill.withUnsafeBytes { Array($0[start...]) }
        state.fill.truncate(to: start)
        return self.machine.requests.wait(
            kind,
            waiter: waiter,
            context: ChannelRequest(purpose: purpose, frame: frame)
        )
    }

    /// Writes the requests whose turn has come.
    ///
    /// Under the lock, after anything that ended the turn of another.
    func sendWaitingRequests(_ state: inout ConnectionState) -> Kick {
        guard !self.isClosing, !self.hasFailed, !state.isClosing, !state.hasFailed else { return .none }
        var kick = Kick.none
        while let request = self.machine.requests.next(isGone: { state.waiters.isTombstone($0) }) {
            let purpose = request.context.purpose
            if case .cancel(let inbox) = purpose, inbox.isFinished || inbox.isCancelledByBroker {
                // It ended while its cancel waited; another consumer may have its tag by now.
                self.machine.requests.drop(request)
                kick = state.resumeSoon(
                    request.waiter,
                    .reply(.basicCancelOk(.init(consumerTag: inbox.consumerTag)))
                )
                continue
            }
            if let refusal = self.refusal(of: purpose, isNew: false) {
                self.machine.requests.drop(request)
                kick = state.resumeSoon(request.waiter, .failed(refusal))
                continue
            }
            if self.settlements.isScheduled { self.appendAcks(to: &state.fill) }
            state.fill.append(octets: request.context.frame.span.bytes)
            self.sent(purpose)
            kick = state.scheduleFlush()
        }
        return kick
    }

    /// Why a request must not be sent: the broker would close the channel, or the connection.
    ///
    /// Under the lock.
    private func refusal(of purpose: RequestPurpose, isNew: Bool) -> AMQPError? {
        switch purpose {
        case .consume(let inbox) where isNew && self.consumerTags.contains(inbox.consumerTag):
            AMQPError(
                .invalidArgument,
                "consumerTag \(inbox.consumerTag) is in use on channel \(self.number.rawValue)",
                isSafeToRetry: true
            )
        case .enableConfirms where self.isTransactional: Self.hasTransactions
        case .beginTransaction where self.confirms.isOn: Self.hasConfirms
        default: nil
        }
    }

    /// A request was written.
    ///
    /// Under the lock.
    private func sent(_ purpose: RequestPurpose) {
        switch purpose {
        case .consume(let inbox): self.startingConsumers[inbox.consumerTag] = inbox
        case .recover: self.settlements.recovering()
        case .beginTransaction:
            self.isTransactional = true
            self.settlements.selecting()
        case .commit:
            self.isInTransaction = false
            self.settlements.committing()
            self.publishHold.insert(.commit)
        case .rollBack: self.settlements.rollingBack()
        case .enableConfirms(let window, let octets):
            // The broker counts the publishes behind this method, not those behind its answer.
            self.confirms.enable(windowMessages: window, windowOctets: octets)
        case .cancel(let inbox): inbox.beginCancel()
        case .plain, .get: break
        }
    }

    /// The caller of a request gives up, or was told why there will be no reply.
    private func gaveUp(
        _ place: ChannelMachine.Requests.Ticket?,
        _ token: UInt32,
        _ purpose: RequestPurpose,
        _ error: AMQPError
    ) -> AMQPError {
        guard error.code == .timedOut || error.code == .cancelled else { return error }
        let isWithdrawn = self.driver.state.withLock { state -> Bool in
            guard let place, self.machine.requests.withdraw(place) != nil else { return false }
            if case .consume(let inbox) = purpose { self.consumerTags.remove(inbox.consumerTag) }
            // Its deadline may have passed before the reply that would have been its turn.
            if state.waiters.isTombstone(token) { _ = state.waiters.finish(token) }
            return true
        }
        if isWithdrawn {
            let text = "\(error.replyText): the request was not sent, another one of its channel was not answered"
            return AMQPError(error.code, text, isSafeToRetry: true)
        }
        // The consumer may start all the same: nobody will read it.
        if case .consume(let inbox) = purpose { inbox.abandon() }
        return error
    }

    /// Closes the channel: `channel.close`, and waits for `channel.close-ok`.
    nonisolated(nonsending) func close(timeout: Duration?) async throws(AMQPError) {
        do throws(AMQPError) {
            _ = try await self.driver.wait(deadline: self.driver.deadline(timeout)) { state, token throws(AMQPError) in
                if let failure = self.failure ?? state.failure { throw failure }
                self.appendAcks(to: &state.fill)
                switch self.withMachine({ $0.close(token) }) {
                case .send(let close):
                    for request in self.machine.requests.takeWaiting() {
                        _ = state.resumeSoon(request.waiter, .failed(Self.closing))
                    }
                    // 200 and an empty text: encoding it cannot fail.
                    try? Method.channelClose(close).encodeFrame(channel: self.number, into: &state.fill)
                    return state.scheduleFlush()
                case .wait: return .none
                case .alreadyClosed: return state.resumeSoon(token, .room)
                }
            }
        } catch {
            // It is closed: that is what was asked for.
            guard error.code != .channelClosed, error.code != .connectionClosed else { return }
            throw error
        }
    }

    /// Closes in order even when the calling task is cancelled.
    nonisolated(nonsending) func closeShielded() async {
        await Task { try? await self.close(timeout: nil) }.value
    }

    static let hasTransactions = AMQPError(
        .invalidArgument,
        "the channel has run a transaction; a channel has confirms or transactions, not both",
        isSafeToRetry: true
    )

    static let hasConfirms = AMQPError(
        .invalidArgument,
        "the channel has confirms; a channel has confirms or transactions, not both",
        isSafeToRetry: true
    )
}

extension RequestPurpose {
    /// How the request is answered; nil in the order of requests.
    fileprivate var kind: ChannelMachine.Requests.Kind? {
        switch self {
        case .consume(let inbox): .consume(tag: inbox.consumerTag)
        case .cancel(let inbox): .cancel(tag: inbox.consumerTag)
        case .commit: .exclusive(reply: Tx.CommitOk.id)
        case .plain, .get, .enableConfirms, .recover, .beginTransaction, .rollBack: nil
        }
    }
}
