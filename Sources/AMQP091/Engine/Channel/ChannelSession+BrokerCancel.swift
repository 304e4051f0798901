// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// A basic.cancel that the broker sends (60, 30). Its queue was deleted, its rights were lost, or, since RabbitMQ 4.3, one of
// its deliveries was not acknowledged in time; the method does not say which. 4.3.0 to 4.3.6 keep a consumer that timed
// out until the client cancels it too: it would count as a consumer, be active on a queue with a single active consumer,
// and get deliveries nobody reads. So every such cancel is answered with basic.cancel (nowait), which is legal on every
// version and does nothing where the consumer is gone. A client-sent basic.cancel-ok is not: 4.3.7 announces that it takes
// one, earlier versions close the connection.

extension ChannelSession {
    /// The broker cancelled a consumer.
    ///
    /// Loop thread.
    func cancelledByBroker(_ tag: String) {
        self.driver.perform(self.withLock { channel, state in channel.answerCancel(of: tag, &state) })
        guard let inbox = self.consumerCancelledByBroker(tag) else { return }
        guard !inbox.isAutomatic, self.hasUnsettledDeliveries, let version = self.driver.serverVersion, version >= .v4_3
        else {
            self.finishCancelled(inbox, .consumerCancelled)
            if inbox.isAbandoned { self.returnUnread(inbox) }
            return
        }
        self.withLock { channel, state in
            channel.becameLate(inbox, lastTag: self.lastDeliveryTag, .takenBack, state)
        }
        // Only the queue itself can tell: a deleted one is not there any more.
        Task { await self.endAfterCancel(inbox) }
    }

    /// Ends a consumer whose queue may be gone; if its application is busy, the client has to look after the queue.
    private func finishCancelled(_ inbox: ConsumerInbox, _ reason: AMQPError) {
        if self.isOfClient, !inbox.hasWaitingReader { self.driver.unwatchedQueues.emit(inbox.queue) }
        inbox.finish(.failed(reason))
    }

    /// When to ask for the queue: the deletion of a queue may take so long after its consumers were cancelled.
    private static let deletionTimes: [Duration] = [.zero, .seconds(1)]

    /// Ends a consumer that the broker cancelled while it had unsettled deliveries.
    private func endAfterCancel(_ inbox: ConsumerInbox) async {
        let timeout = min(self.driver.configuration.operationTimeout, .seconds(5))
        do throws(AMQPError) {
            try await ScratchChannel.with(self.driver, timeout: timeout) { scratch throws(AMQPError) in
                // A queue that is being deleted is there for some milliseconds after it has cancelled its consumers.
                for delay in Self.deletionTimes {
                    if delay > .zero { try? await self.driver.loop.sleep(for: delay) }
                    _ = try await scratch.ask { channel, timeout throws(AMQPError) in
                        try await channel.inspectQueue(inbox.queue, timeout: timeout)
                    }
                }
            }
        } catch {
            let isMissing = error.replyCode == .notFound
            let lost = self.withLock { channel, state -> AMQPError? in
                // Without this answer a settlement may be too late: it throws.
                if isMissing { channel.lateConsumers[inbox.consumerTag] = nil }
                return state.failure
            }
            let reason = lost ?? (isMissing ? .consumerCancelled : .consumerCancelled(unanswered: error))
            self.finishCancelled(inbox, reason)
            if inbox.isAbandoned { self.returnUnread(inbox) }
            return
        }
        self.withLock { channel, _ in channel.lateConsumers[inbox.consumerTag]?.error = .lateSettlement }
        // A channel that belongs to one recovering consumer ends with it, so that settling what came on it says `.stale`.
        if self.isOfClient { await self.closeShielded() }
        inbox.finish(.failed(.consumerTimedOut))
    }
}

extension AMQPError {
    fileprivate static let consumerCancelled = AMQPError(
        .consumerCancelled,
        "the broker cancelled the consumer: its queue was deleted or is not available",
        method: Basic.Cancel.id,
        origin: .broker
    )

    /// Neither a deletion nor a timeout is certain: the queue could not be asked for.
    fileprivate static func consumerCancelled(unanswered error: AMQPError) -> AMQPError {
        AMQPError(
            .consumerCancelled,
            "the broker cancelled the consumer; the reason is unknown, because asking for its queue failed: "
                + "\(error.replyText)",
            method: Basic.Cancel.id,
            origin: .broker
        )
    }

    fileprivate static let takenBack = AMQPError(
        .consumerCancelled,
        "the broker cancelled the consumer before this settlement, which has no effect",
        method: Basic.Cancel.id,
        origin: .broker
    )

    fileprivate static let lateSettlement = AMQPError(
        .acknowledgementTimedOut,
        "the delivery was not settled within the queue's consumer timeout: the settlement has no effect, and the message "
            + "is delivered again",
        method: Basic.Cancel.id,
        origin: .broker
    )

    fileprivate static let consumerTimedOut = AMQPError(
        .acknowledgementTimedOut,
        "the broker cancelled the consumer: a delivery was not acknowledged within the queue's consumer timeout, "
            + "and what was not acknowledged is delivered again",
        method: Basic.Cancel.id,
        origin: .broker
    )
}
