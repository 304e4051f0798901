// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// A channel with Options.disorderSeed: events of queues are put into ChannelMail and forwarded later, some in each turn.
// Without a seed `mail` is nil and none of this is called.

extension BrokerChannel {
    /// Forwards events of queues: a random number of them, or all.
    func passOnMail(all: Bool = false) {
        guard var portion = self.mail?.portion() else { return }
        if all { portion = .max }
        while portion > 0, let event = self.mail?.next(now: self.core.now) {
            portion -= 1
            self.passOn(event)
        }
        guard self.mail?.isEmpty == false else { return }
        self.passOnSoon()
    }

    private func passOnSoon() {
        guard !self.isMailDue, let pause = self.mail?.pause() else { return }
        self.isMailDue = true
        self.mailTimer = self.core.loop.schedule(
            BrokerTimer { [self] in
                self.isMailDue = false
                self.mailTimer = nil
                self.core.beginTurn()
                self.core.touch(self.connection)
            },
            at: MonotonicTime(nanoseconds: self.core.now) + .microseconds(pause)
        )
    }

    private func passOn(_ event: ChannelMail.Event) {
        switch event {
        case .deliver(let entry, let consumer): self.passOn(entry, to: consumer)
        case .consumeOk(let tag): self.send(.basicConsumeOk(.init(consumerTag: tag)))
        case .cancelOk(let tag): self.send(.basicCancelOk(.init(consumerTag: tag)))
        case .cancelled(let consumer):
            // The client may have cancelled it meanwhile.
            if self.consumers[consumer.tag] === consumer { self.tellCancelled(consumer) }
        case .late(let consumer):
            if self.consumers[consumer.tag] === consumer { self.tellLate(consumer) }
        case .settled(let tag, let isAccepted): self.disorderedConfirms.settled(tag, isAccepted: isAccepted)
        case .committed:
            self.openCommits -= 1
            if self.openCommits == 0 { self.finishCommit() }
        }
    }

    /// Sends confirms for which all queues have answered.
    func flushDisorderedConfirms() {
        guard !self.core.confirmOrder.areHeld else { return }
        for confirm in self.disorderedConfirms.take() {
            let tag = DeliveryTag(confirm.tag)
            self.send(
                confirm.isAccepted
                    ? .basicAck(.init(deliveryTag: tag, multiple: confirm.multiple))
                    : .basicNack(.init(deliveryTag: tag, multiple: confirm.multiple, requeue: false))
            )
        }
    }

    /// Ends the channel: events that were not forwarded were not delivered.
    func dropMail() {
        if let timer = self.mailTimer.take() { self.core.loop.cancel(timer) }
        for event in self.mail?.removeAll() ?? [] {
            guard case .deliver(let entry, let consumer) = event, !consumer.isAutomatic else { continue }
            consumer.unacknowledged -= 1
            consumer.queue.requeued([entry], isFailure: true)
        }
        self.pendingDeliveries = 0
    }
}
