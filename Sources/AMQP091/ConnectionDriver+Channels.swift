// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule
import EpollNetworking
import Logging

// The life of a channel on its connection: open, requests and their replies, close, and the end from either side.
// A channel that ends fails everyone who waits on it, and every consumer, exactly once with the cause.

extension ConnectionDriver {
    func openChannel(timeout: Duration?) async throws(AMQPError) -> ChannelCore {
        var opened: ChannelCore?
        do throws(AMQPError) {
            _ = try await self.wait(deadline: self.deadline(timeout)) { state, token throws(AMQPError) in
                try state.requireOpen()
                guard let number = state.numbers.allocate() else {
                    throw AMQPError(
                        .noFreeChannel,
                        "all \(state.numbers.maximum) channels the broker allows are open",
                        isSafeToRetry: true
                    )
                }
                let core = ChannelCore(driver: self, number: number)
                opened = core
                let index = Int(number.rawValue)
                while state.channels.count <= index { state.channels.append(nil) }
                state.channels[index] = core
                state.counts.channel(1)
                _ = core.machine.open(token)
                // No arguments: encoding it cannot fail.
                try? Method.channelOpen(.init()).encodeFrame(channel: number, into: &state.fill)
                return state.scheduleFlush()
            }
        } catch {
            if let opened, error.scope == .operation { Task { try? await opened.close(timeout: nil) } }
            throw error
        }
        guard let opened else { throw Self.closedByUs }
        self.logger.debug("channel opened", metadata: ["amqp.channel": "\(opened.number.rawValue)"])
        return opened
    }

    /// A channel is gone: everyone who waits on it learns why.
    ///
    /// Loop thread.
    func channelEnded(_ core: ChannelCore, _ error: AMQPError, waiters: [UInt32], closers: [UInt32]) {
        self.logger.debug(
            "channel ended",
            metadata: ["amqp.channel": "\(core.number.rawValue)", "reason": "\(error)"]
        )
        self.settlePendingConfirms()
        // A get whose content was cut short waits too.
        let cutShort = core.assembling.map { $0.waiter == 0 ? [] : [$0.waiter] } ?? []
        core.assembling?.pieces?.fail(error)
        core.assembling = nil
        var resumptions: [Resumption] = []
        self.state.withLock { state in
            core.failure = error
            for token in waiters + cutShort + core.takeWaiters() {
                state.wake(token, .failed(error), into: &resumptions)
            }
            state.counts.giveUp(core.confirms.outstandingMessages)
            state.counts.channel(-1)
            core.endConfirms { state.wake($0, .failed(error), into: &resumptions) }
            let done = Method.channelCloseOk(.init())
            for token in closers { state.wake(token, .reply(done), into: &resumptions) }
            state.channels[Int(core.number.rawValue)] = nil
            state.numbers.release(core.number)
        }
        if self.channelCache.indices.contains(Int(core.number.rawValue)) {
            self.channelCache[Int(core.number.rawValue)] = nil
        }
        core.endConsumers(.failed(error))
        for resumption in resumptions { resumption.resume() }
    }
}

extension ChannelCore {
    /// Those who wait for something other than a reply, once the channel has ended; a consumer whose `consume-ok` does not
    /// come any more is let go of too: it holds the channel.
    ///
    /// Under the lock.
    func takeWaiters() -> [UInt32] {
        // An array made of an empty Deque writes its count, 0, into the empty array that all threads share.
        let tokens = self.drainWaiters + self.receipts.takeWaiters() + self.windowWaiters
        self.windowWaiters = []
        self.drainWaiters = []
        self.startingConsumers = [:]
        return tokens
    }

    func endConsumers(_ ending: ConsumerInbox.Ending) {
        let inboxes = Array(self.consumers.values)
        self.consumers = [:]
        for inbox in inboxes {
            inbox.handOver()
            inbox.finish(ending)
        }
    }

    /// Sends a request and waits for its reply; registering both and appending the frame is one step.
    ///
    /// - Parameters:
    ///   - method: The request.
    ///   - timeout: Time to wait for the reply.
    ///   - prepare: Runs under the lock once the reply is expected.
    ///   - before: Runs under the lock before the frame is appended; what it throws keeps the frame from being sent.
    /// - Returns: The reply.
    /// - Throws: What `before` throws or what cannot be encoded, and nothing was sent; or how the wait failed.
    nonisolated(nonsending) func request(
        _ method: Method,
        timeout: Duration?,
        prepare: (ChannelCore) -> Void = { _ in },
        before: (inout ConnectionState) throws(AMQPError) -> Void = { _ in }
    ) async throws(AMQPError) -> WaitResult {
        try await self.driver.wait(deadline: self.driver.deadline(timeout)) { state, token throws(AMQPError) in
            if let failure = self.failure { throw failure.withSafeRetry }
            try state.requireOpen()
            try before(&state)
            // What was acknowledged goes out before: the broker's answer may be to close the channel, and then it would
            // not count.
            if self.hasUnsentAcks { self.appendAcks(to: &state.fill) }
            let start = state.fill.count
            do throws(WireError) {
                try method.encodeFrame(channel: self.number, into: &state.fill)
            } catch {
                throw .invalidArgument(error, in: method)
            }
            let size = state.fill.count - start - 8
            guard size <= state.maximumPayload else {
                state.fill.truncate(to: start)
                throw .invalidArgument(WireError(.frameTooLarge(size: size, limit: state.maximumPayload)), in: method)
            }
            let replies = method.id.replies
            guard let reply = replies.first,
                self.machine.expect(reply, or: replies.dropFirst().first, waiter: token) != nil
            else {
                state.fill.truncate(to: start)
                throw Self.closing
            }
            prepare(self)
            return state.scheduleFlush()
        }
    }

    nonisolated(nonsending) func call(
        _ method: Method,
        timeout: Duration?,
        prepare: (ChannelCore) -> Void = { _ in },
        before: (inout ConnectionState) throws(AMQPError) -> Void = { _ in }
    ) async throws(AMQPError) -> Method {
        let result = try await self.request(method, timeout: timeout, prepare: prepare, before: before)
        guard case .reply(let reply) = result else {
            throw AMQPError(.protocolViolation, "no reply to \(method.id)", method: method.id)
        }
        return reply
    }

    nonisolated(nonsending) func close(timeout: Duration?) async throws(AMQPError) {
        do throws(AMQPError) {
            _ = try await self.driver.wait(deadline: self.driver.deadline(timeout)) { state, token throws(AMQPError) in
                if let failure = self.failure ?? state.failure { throw failure }
                self.appendAcks(to: &state.fill)
                switch self.withMachine({ $0.close(token) }) {
                case .send(let close):
                    // 200 and an empty text: encoding it cannot fail.
                    try? Method.channelClose(close).encodeFrame(channel: self.number, into: &state.fill)
                    return state.scheduleFlush()
                case .wait: return .none
                case .alreadyClosed:
                    state.readyWaiters.append(token)
                    return .wakeLoop
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
}
