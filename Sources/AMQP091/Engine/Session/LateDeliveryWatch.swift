// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Logging

// LateDeliveryWatch: warns before the broker closes a channel, or since RabbitMQ 4.3 cancels a consumer, because a delivery is not settled in
// time. A timer looks at every channel; consuming itself notes nothing for it. Since 4.3 only quorum queues have such a
// limit: a channel whose consumers read queues that were declared on this connection as others is left out. The type of
// a queue declared elsewhere is not known. Loop thread only.

struct LateDeliveryWatch {
    let session: ConnectionSession

    private var limit: UInt64? {
        guard let timeout = self.session.configuration.acknowledgementTimeout else { return nil }
        return (MonotonicTime(nanoseconds: 0) + timeout).nanoseconds
    }

    /// Sets the timer, if the configuration has a limit.
    func schedule() {
        guard let limit = self.limit else { return }
        let moment = MonotonicTime.now + .nanoseconds(Int64(clamping: SettlementWatch.interval(limit: limit)))
        self.session.timers.settlement.set(moment, of: self.session)
    }

    /// The timer's work: looks, warns, and comes again.
    func look() {
        guard !self.session.isTerminated, let limit = self.limit else { return }
        let now = MonotonicTime.now.nanoseconds
        let cores = self.session.state.withChannels { state, channels in
            state.sessions.compactMap { core in core.map { ($0, channels[$0.slot].settlements.oldestOpen) } }
        }
        let isForQuorumQueues = self.session.serverVersion.map { $0 >= .v4_3 } ?? false
        for (core, oldest) in cores {
            if isForQuorumQueues, !self.mayTimeOut(core) { continue }
            var watch = core.settlementWatch ?? SettlementWatch(limit: limit)
            let age = watch.look(oldest: oldest <= core.lastDeliveryTag ? oldest : nil, now: now)
            core.settlementWatch = watch
            guard let age else { continue }
            let late = AMQPLateDelivery(
                channel: core.number,
                deliveryTag: DeliveryTag(rawValue: oldest),
                age: .nanoseconds(Int64(clamping: age)),
                limit: self.session.configuration.acknowledgementTimeout ?? .zero
            )
            self.session.lateDeliveries.emit(late)
            self.session.logger.warning(
                isForQuorumQueues
                    ? "a delivery is not settled; if its queue is a quorum queue, the broker will cancel its consumer"
                    : "a delivery is not settled; the broker will close its channel",
                metadata: [
                    "amqp.channel": "\(core.number.rawValue)",
                    "amqp.delivery_tag": "\(oldest)",
                    "age": "\(late.age)",
                    "limit": "\(late.limit)",
                ]
            )
        }
        self.schedule()
    }

    /// Whether a consumer of the channel may read a quorum queue.
    private func mayTimeOut(_ core: ChannelSession) -> Bool {
        let others = self.session.state.withLock { $0.queuesWithoutTimeout }
        return core.consumers.values.contains { !$0.isAutomatic && !others.contains($0.queue) }
    }
}
