// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Requests of a channel and its close. A request is encoded by its caller, which learns at once what cannot be encoded,
// and written by whoever finds that its turn has come: the caller, or the loop with the reply to the one before.
// Not here: how it is queued and written (ChannelState+Requests), what a reply does (FrameDispatcher).

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
            return try await self.wait(deadline: deadline) { channel, state, token throws(AMQPError) in
                try channel.requireOpen(state)
                if let refusal = channel.refusal(of: purpose, isNew: true) { throw refusal }
                place = try channel.enqueue(method, kind, purpose, waiter: token, &state)
                ownToken = token
                return state.outbound.scheduleFlush()
            }
        } catch {
            guard ownToken != 0 else { throw error }
            throw self.gaveUp(place, ownToken, purpose, error)
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
        if self.withLock({ channel, state in channel.withdraw(place, token, purpose, &state) }) {
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
            let deadline = self.driver.deadline(timeout)
            _ = try await self.wait(deadline: deadline) { channel, state, token throws(AMQPError) in
                if let failure = channel.failure ?? state.failure { throw failure }
                return channel.close(token, &state)
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
