// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Requests of the RPC client on a channel: a publish whose outcome is a reply, found by its correlation id.

extension ChannelSession {
    nonisolated(nonsending) func call(
        _ request: AMQPMessage,
        to destination: AMQPDestination,
        site: CallSite,
        deadline: UInt64
    ) async throws(AMQPError) -> AMQPDelivery {
        var request = request
        while true {
            var ownToken: UInt32 = 0
            var sequence: UInt64?
            var place: ChannelState.RoomPlace?
            let result: WaitResult
            do throws(AMQPError) {
                result = try await self.driver.wait(deadline: deadline) { state, channels, token throws(AMQPError) in
                    ownToken = token
                    let next = channels[self.slot].confirms.ring.next
                    request.properties.correlationID = String(next)
                    let attempt = try request.body.bytes.withUnsafeBytes { octets throws(AMQPError) in
                        try self.publish(
                            &state,
                            &channels,
                            body: octets,
                            destination: destination,
                            mandatory: true,
                            properties: request.properties,
                            site: site,
                            token: Self.receiptToken
                        )
                    }
                    switch attempt {
                    case .done(let step):
                        sequence = next
                        channels[self.slot].confirms.endings.receipts.expectReply(to: next, token: token)
                        return step
                    case .windowFull: place = channels[self.slot].waitForWindow(token)
                    case .noRoom: place = channels[self.slot].waitForRoom(token, &state)
                    }
                    return .none
                }
            } catch {
                guard let sequence else { throw self.gaveUpRoom(ownToken, place, error.withSafeRetry) }
                self.gaveUpReply(ownToken, to: sequence)
                // Another call's mistake has closed the channel, or this one's.
                let isJudged = self.withLock { channel, _ in channel.verdict != nil }
                switch isJudged ? self.knownOutcome(of: sequence) : nil {
                case .refused(let refusal)?: throw refusal
                case .notSent(let reason)?: throw reason
                default: throw error
                }
            }
            switch result {
            case .message(let reply?): return reply
            case .outcome(let outcome): throw AMQPError(outcome) ?? Self.noReply
            case .room: continue
            default: throw Self.noReply
            }
        }
    }

    private func gaveUpReply(_ token: UInt32, to sequence: UInt64) {
        self.withLock { channel, state in
            guard state.waiters.isTombstone(token) else { return }
            channel.confirms.endings.receipts.forget(token, of: sequence)
            _ = state.waiters.finish(token)
        }
    }

    /// A reply came: its correlation id names the publish it answers.
    ///
    /// One nobody waits for is dropped.
    func received(reply: AMQPDelivery) {
        guard let text = try? reply.properties().correlationID, let own = UInt64(text) else { return }
        #if DELIBERATE_FAULTS
            let sequence = DeliberateFault.happens(.replyToAnotherCall) ? own + 1 : own
        #else
            let sequence = own
        #endif
        let waiter = self.withLock { channel, state in
            channel.confirms.endings.receipts.replied(to: sequence).flatMap { state.waiters.finish($0) }
        }
        waiter?.resume(returning: reply.bodyError.map { .failed($0) } ?? .message(reply))
    }

    private static let noReply = AMQPError(.protocolViolation, "a call ended without a reply")
}
