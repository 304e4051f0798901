// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Settling on a channel. Acknowledgements are noted and leave with the next write; refusals are written at once, after
// the acknowledgements given before them.
// Not here: which tags are settled and what waits (SettlementLedger), what is appended (ChannelState+Requests).

extension ChannelSession {
    func acknowledge(_ delivery: AMQPDelivery, multiple: Bool, site: CallSite) throws(AMQPError) {
        #if DELIBERATE_FAULTS
            if DeliberateFault.happens(.acknowledgementDropped) { return }
            let tag = delivery.record.tag + (DeliberateFault.happens(.acknowledgementTooFar) ? 1 : 0)
        #else
            let tag = delivery.record.tag
        #endif
        let (next, mayBeLate) = try self.withLock { channel, state throws(AMQPError) -> (CallerStep, Bool) in
            try channel.requireOpen(state)
            guard let settled = channel.settlements.acknowledge(tag, multiple: multiple) else {
                throw Self.alreadySettled
            }
            state.counts.acknowledge(settled.count)
            channel.settlementSite = site
            guard settled.isFirst else { return (.none, channel.hasLateConsumers) }
            state.unsentAcks.append(self.slot)
            return (state.isPausing ? .none : state.outbound.scheduleFlush(), channel.hasLateConsumers)
        }
        self.driver.perform(next)
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
        let late = self.withLock { channel, _ in channel.lateConsumers[consumerTag] }
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
        let (next, mayBeLate) = try self.withLock { channel, state throws(AMQPError) -> (CallerStep, Bool) in
            try channel.requireOpen(state)
            let start = state.outbound.fill.count
            let count = channel.refuse(
                tag,
                multiple: multiple,
                requeue: requeue,
                isRejection: isRejection,
                to: &state.outbound.fill
            )
            guard count > 0 else { throw Self.alreadySettled }
            state.counts.refuse(count, requeue: requeue)
            channel.settlementSite = site
            let next = state.outbound.fill.count > start ? state.outbound.scheduleFlush() : .none
            return (next, channel.hasLateConsumers)
        }
        self.driver.perform(next)
        return mayBeLate
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
        self.withLock { channel, _ in
            for index in 0..<batch.count { channel.settlements.markAutomatic(batch.records[index].tag) }
        }
    }

    private static let alreadySettled = AMQPError(.alreadySettled, isSafeToRetry: true)
}
