// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking
import Logging

// The life of a channel on its connection: open, requests and their replies, close, and the end from either side.
// A channel that ends fails everyone who waits on it, and every consumer, exactly once with the cause.

extension ConnectionDriver {
    func openChannel(timeout: Duration?) async throws(AMQPError) -> ChannelSession {
        var opened: ChannelSession?
        do throws(AMQPError) {
            _ = try await self.wait(deadline: self.deadline(timeout)) { state, channels, token throws(AMQPError) in
                try state.requireOpen()
                guard let number = state.numbers.allocate() else {
                    throw AMQPError(
                        .noFreeChannel,
                        "all \(state.numbers.maximum) channels the broker allows are open",
                        isSafeToRetry: true
                    )
                }
                let slot = self.state.addChannel(number, to: &channels)
                let core = ChannelSession(driver: self, number: number, slot: slot)
                opened = core
                let index = Int(number.rawValue)
                while state.sessions.count <= index { state.sessions.append(nil) }
                state.sessions[index] = core
                state.counts.channel(1)
                channels[slot].open(token, &state)
                return state.outbound.scheduleFlush()
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
    func channelEnded(
        _ core: ChannelSession,
        _ error: AMQPError,
        _ unanswered: ChannelMachine.Requests.Unanswered,
        closers: [UInt32]
    ) {
        self.logger.debug(
            "channel ended",
            metadata: ["amqp.channel": "\(core.number.rawValue)", "reason": "\(error)"]
        )
        self.settlePendingConfirms()
        // A get whose content was cut short waits too.
        let cutShort = core.assembling?.get?.waiter.map { [$0] } ?? []
        core.assembling?.pieces?.fail(error)
        core.assembling = nil
        var resumptions: [Resumption] = []
        core.withLock { channel, state in
            channel.failure = error
            for token in unanswered.sent.compactMap(\.waiter) + cutShort + channel.takeWaiters(&state) {
                state.wake(token, .failed(error), into: &resumptions)
            }
            for token in unanswered.waiting.compactMap(\.waiter) {
                state.wake(token, .failed(error.withSafeRetry), into: &resumptions)
            }
            state.counts.giveUp(channel.confirms.ring.outstandingMessages)
            state.counts.channel(-1)
            channel.confirms.end { state.wake($0, .failed(error), into: &resumptions) }
            let done = Method.channelCloseOk(.init())
            for token in closers { state.wake(token, .reply(done), into: &resumptions) }
            state.sessions[Int(core.number.rawValue)] = nil
            state.numbers.release(core.number)
        }
        if self.channelCache.indices.contains(Int(core.number.rawValue)) {
            self.channelCache[Int(core.number.rawValue)] = nil
        }
        core.endConsumers(.failed(error))
        for resumption in resumptions { resumption.resume() }
        core.withLock { channel, _ in channel.onEnd.take() }?()
    }
}
