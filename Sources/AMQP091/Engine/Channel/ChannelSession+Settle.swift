// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// Settling on a channel. Acknowledgements are noted and leave with the next write; refusals are written at once, after
// the acknowledgements given before them.
// Not here: which tags are settled and what waits (SettlementLedger).

extension ChannelSession {
    func acknowledge(_ delivery: AMQPDelivery, multiple: Bool, site: CallSite) throws(AMQPError) {
        let tag = delivery.record.tag
        let (kick, mayBeLate) = try self.driver.state.withLock { state throws(AMQPError) -> (Kick, Bool) in
            guard !self.isClosing, !self.hasFailed, !state.hasFailed else { throw self.closed(state.failure) }
            guard let settled = self.settlements.acknowledge(tag, multiple: multiple) else {
                throw Self.alreadySettled
            }
            state.counts.acknowledge(settled.count)
            self.settlementSite = site
            guard settled.isFirst else { return (.none, self.hasLateConsumers) }
            state.unsentAcks.append(self)
            return (state.isPausing ? .none : state.scheduleFlush(), self.hasLateConsumers)
        }
        self.driver.perform(kick)
        if mayBeLate { try self.checkLateness(of: delivery) }
    }

    /// As `refuse`, for a delivery that the application refuses.
    func refuse(
        _ delivery: AMQPDelivery,
        multiple: Bool = false,
        requeue: Bool,
        isRejection: Bool = false,
        site: CallSite
    ) throws(AMQPError) {
        let tag = delivery.record.tag
        let mayBeLate = try self.refuse(
            tag,
            multiple: multiple,
            requeue: requeue,
            isRejection: isRejection,
            site: site
        )
        if mayBeLate { try self.checkLateness(of: delivery) }
    }

    /// Fails for a delivery that the broker had taken back: it forgets the tag, and does nothing else.
    private func checkLateness(of delivery: AMQPDelivery) throws(AMQPError) {
        let consumerTag = delivery.consumerTag
        let late = self.driver.state.withLock { _ in self.lateConsumers[consumerTag] }
        if let late, delivery.record.tag <= late.lastTag { throw late.error }
    }

    /// Refuses deliveries with `basic.nack`, or one with `basic.reject`: since RabbitMQ 4.3 only a rejection counts
    /// towards the delivery limit of a quorum queue, a nack says that the message was not processed.
    ///
    /// - Returns: Whether the broker may have taken the delivery back before.
    @discardableResult
    func refuse(
        _ tag: UInt64,
        multiple: Bool = false,
        requeue: Bool,
        isRejection: Bool = false,
        site: CallSite?
    ) throws(AMQPError) -> Bool {
        let (kick, mayBeLate) = try self.driver.state.withLock { state throws(AMQPError) -> (Kick, Bool) in
            guard !self.isClosing, !self.hasFailed, !state.hasFailed else { throw self.closed(state.failure) }
            let start = state.fill.count
            let count: Int
            if multiple {
                count = self.settlements.refuse(upTo: tag, requeue: requeue) { self.append($0, to: &state.fill) }
            } else {
                let verdict: SettlementLedger.Verdict =
                    isRejection ? .reject(requeue: requeue) : .nack(requeue: requeue)
                count = self.settlements.refuse(tag, verdict) { self.append($0, to: &state.fill) } ? 1 : 0
            }
            guard count > 0 else { throw Self.alreadySettled }
            state.counts.refuse(count, requeue: requeue)
            self.settlementSite = site
            return (state.fill.count > start ? state.scheduleFlush() : .none, self.hasLateConsumers)
        }
        self.driver.perform(kick)
        return mayBeLate
    }

    /// Merges what was acknowledged into as few `basic.ack` as the tags allow.
    ///
    /// Under the lock.
    func appendAcks(to buffer: inout WireBuffer) {
        guard !self.hasFailed else { return self.settlements.unschedule() }
        self.settlements.drain { self.append($0, to: &buffer) }
    }

    /// Appends a `basic.ack`, `basic.nack` or `basic.reject`.
    ///
    /// Under the lock.
    func append(_ settlement: SettlementLedger.Frame, to buffer: inout WireBuffer) {
        let method: Method
        let tag = DeliveryTag(rawValue: settlement.tag)
        switch settlement.verdict {
        case .ack:
            // 21 octets: frame header, 60 80, tag, bit, frame end.
            buffer.append(1 as UInt8)
            buffer.appendUInt16(self.number.rawValue)
            buffer.appendUInt32(13)
            buffer.appendUInt32(60 << 16 | 80)
            buffer.appendUInt64(settlement.tag)
            buffer.append((settlement.multiple ? 1 : 0) as UInt8)
            buffer.append(0xCE as UInt8)
            return
        case .nack(let requeue):
            method = .basicNack(.init(deliveryTag: tag, multiple: settlement.multiple, requeue: requeue))
        case .reject(let requeue):
            method = .basicReject(.init(deliveryTag: tag, requeue: requeue))
        }
        // A number and two bits: encoding it cannot fail.
        try? method.encodeFrame(channel: self.number, into: &buffer)
    }

    /// Gives back a delivery nobody here wants: its consumer or its caller has gone.
    func returnToQueue(_ tag: UInt64) {
        _ = try? self.refuse(tag, requeue: true, site: nil)
    }

    /// Deliveries came.
    func count(_ batch: DeliveryBatch) {
        self.driver.state.withLock { $0.counts.consume(batch.count) }
    }

    /// Deliveries that need no acknowledgement use up tags, which must not stand in the way of merging the others.
    func markAutomatic(_ batch: DeliveryBatch) {
        self.driver.state.withLock { _ in
            for index in 0..<batch.count { self.settlements.markAutomatic(batch.records[index].tag) }
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
