// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// Settling on a channel. Acknowledgements are noted and leave with the next write; refusals are written at once.
// Not here: which tags are settled and what waits (SettlementLedger).

extension ChannelSession {
    func acknowledge(_ tag: UInt64, multiple: Bool, site: CallSite) throws(AMQPError) {
        let kick = try self.driver.state.withLock { state throws(AMQPError) -> Kick in
            guard !self.isClosing, !self.hasFailed, !state.hasFailed else { throw self.closed(state.failure) }
            guard let settled = self.settlements.acknowledge(tag, multiple: multiple) else {
                throw Self.alreadySettled
            }
            state.counts.acknowledge(settled.count)
            self.settlementSite = site
            guard settled.isFirst else { return .none }
            state.unsentAcks.append(self)
            return state.isPausing ? .none : state.scheduleFlush()
        }
        self.driver.perform(kick)
    }

    /// Refuses deliveries with `basic.nack`, or one with `basic.reject`: since RabbitMQ 4.3 only a rejection counts
    /// towards the delivery limit of a quorum queue, a nack says that the message was not processed.
    func refuse(
        _ tag: UInt64,
        multiple: Bool = false,
        requeue: Bool,
        isRejection: Bool = false,
        site: CallSite?
    ) throws(AMQPError) {
        let kick = try self.driver.state.withLock { state throws(AMQPError) -> Kick in
            guard !self.isClosing, !self.hasFailed, !state.hasFailed else { throw self.closed(state.failure) }
            let settlement = Settlement(tag: tag, multiple: multiple, requeue: requeue, isRejection: isRejection)
            guard let refused = self.settlements.refuse(settlement) else { throw Self.alreadySettled }
            state.counts.refuse(refused.count, requeue: requeue)
            self.settlementSite = site
            guard refused.isSent else { return .none }
            // Acknowledgements given before this call go out before it: a multiple must not take them along.
            if multiple { self.appendAcks(to: &state.fill) }
            self.append(settlement, to: &state.fill)
            return state.scheduleFlush()
        }
        self.driver.perform(kick)
    }

    /// Merges what was acknowledged into as few `basic.ack` as the tags allow.
    ///
    /// Under the lock.
    func appendAcks(to buffer: inout WireBuffer) {
        guard !self.hasFailed else { return self.settlements.unschedule() }
        self.settlements.drain { tag, multiple in
            // 21 octets: frame header, 60 80, tag, bit, frame end.
            buffer.append(1 as UInt8)
            buffer.appendUInt16(self.number.rawValue)
            buffer.appendUInt32(13)
            buffer.appendUInt32(60 << 16 | 80)
            buffer.appendUInt64(tag)
            buffer.append((multiple ? 1 : 0) as UInt8)
            buffer.append(0xCE as UInt8)
        }
    }

    /// Appends a `basic.nack` or a `basic.reject`.
    ///
    /// Under the lock.
    func append(_ refusal: Settlement, to buffer: inout WireBuffer) {
        let tag = DeliveryTag(rawValue: refusal.tag)
        let requeue = refusal.requeue ?? true
        let method: Method =
            refusal.isRejection
            ? .basicReject(.init(deliveryTag: tag, requeue: requeue))
            : .basicNack(.init(deliveryTag: tag, multiple: refusal.multiple, requeue: requeue))
        // A number and two bits: encoding it cannot fail.
        try? method.encodeFrame(channel: self.number, into: &buffer)
    }

    /// Gives back a delivery nobody here wants: its consumer or its caller has gone.
    func returnToQueue(_ tag: UInt64) {
        try? self.refuse(tag, multiple: false, requeue: true, site: nil)
    }

    /// Deliveries came.
    func count(_ batch: DeliveryBatch) {
        self.driver.state.withLock { $0.counts.consume(batch.count) }
    }

    /// Deliveries that need no acknowledgement use up tags, which must not stand in the way of merging the others.
    func markAutomatic(_ batch: DeliveryBatch) {
        self.driver.state.withLock { _ in
            for index in 0..<batch.count { _ = self.settlements.acks.markAutomatic(batch.records[index].tag) }
        }
    }

    /// Why nothing can be sent any more.
    private func closed(_ connectionFailure: AMQPError?) -> AMQPError {
        (self.failure ?? connectionFailure)?.withSafeRetry ?? Self.closing
    }

    /// The line of the application that most likely caused this close; nil unless it blames what is sent unanswered.
    ///
    /// Under the lock.
    func likelySite(of reason: ConnectionStateMachine.CloseReason) -> CallSite? {
        switch reason.method {
        case Basic.Publish.id: self.publishSites.likeliest(reason.text)
        case Basic.Ack.id, Basic.Nack.id, Basic.Reject.id: self.settlementSite
        default: nil
        }
    }

    /// After `channel.close` nothing may follow on the channel: RabbitMQ would close the connection (504).
    static let closing = AMQPError(
        .channelClosed,
        "the channel is being closed",
        scope: .channel,
        isSafeToRetry: true
    )

    private static let alreadySettled = AMQPError(.alreadySettled, isSafeToRetry: true)
}
