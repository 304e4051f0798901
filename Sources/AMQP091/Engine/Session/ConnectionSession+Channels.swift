// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule
import EpollConcurrency
import EpollNetworking
import Logging

// Methods of a connection: opening a channel, handing over a secret, and those that the loop sends by itself.
// Not here: the end of a channel (FrameDispatcher), its requests (ChannelSession+Requests).

extension ConnectionSession {
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

    /// Resumes the waiter of a token, unless it gave up.
    func finish(_ token: UInt32?, _ result: WaitResult) {
        guard let token else { return }
        self.state.withLock { $0.waiters.finish(token) }?.resume(returning: result)
    }

    /// Appends a method the loop itself has to send.
    func send(_ method: Method, on core: ChannelSession?) {
        let next = self.state.withLock { state -> CallerStep in
            // The loop sends short methods whose strings were cut to size: encoding them cannot fail.
            try? method.encodeFrame(channel: core?.number ?? ChannelNumber(rawValue: 0), into: &state.outbound.fill)
            return state.outbound.scheduleFlush()
        }
        self.perform(next)
    }

    /// `connection.update-secret`, until the deadline.
    func updateSecret(_ secret: String, reason: String, _ deadline: UInt64) async throws(AMQPError) {
        let update = Method.connectionUpdateSecret(.init(newSecret: Array(secret.utf8), reason: reason))
        _ = try await self.wait(deadline: deadline) { state, _, token throws(AMQPError) in
            try state.requireOpen()
            let start = state.outbound.fill.count
            do throws(WireError) {
                try update.encodeFrame(
                    channel: ChannelNumber(rawValue: 0),
                    into: &state.outbound.fill,
                    maximumFrameSize: state.maximumPayload + 8
                )
            } catch {
                state.outbound.fill.truncate(to: start)
                throw .invalidArgument(error, in: update)
            }
            state.secretWaiters.append(token)
            return state.outbound.scheduleFlush()
        }
        self.state.withLock { $0.updatedSecret = secret }
    }

    /// `connection.update-secret-ok`: the oldest call is answered.
    func secretUpdated() {
        let waiter = self.state.withLock { state in
            state.secretWaiters.popFirst().flatMap { state.waiters.finish($0) }
        }
        waiter?.resume(returning: .reply(.connectionUpdateSecretOk(.init())))
    }
}
