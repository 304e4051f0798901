// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Consumers of a channel. A consumer is registered when `consume-ok` is decoded on the loop, or its first delivery if
// that comes before, so no delivery is missed. A consumer tag is in use from the call of consume until the broker has
// forgotten it: a second basic.consume with the tag would close the connection (530).
// A consumer whose caller gave up before `consume-ok` is cancelled when that comes, not before: RabbitMQ 3.10 crashes on
// a cancel that overtakes it. Its deliveries are kept as tags only and go back to the queue with `cancel-ok`: returned at
// once, they would be delivered to it again and again.

extension ChannelSession {
    nonisolated(nonsending) func startConsumer(
        queue: String,
        consumerTag: String?,
        isAutomatic: Bool,
        exclusive: Bool,
        arguments: FieldTable,
        timeout: Duration?
    ) async throws(AMQPError) -> ConsumerInbox {
        if consumerTag == "" {
            throw AMQPError(.invalidArgument, "consumerTag is empty; it is 1 to 255 octets", isSafeToRetry: true)
        }
        let inbox = ConsumerInbox(
            consumerTag: consumerTag ?? self.withLock { channel, _ in channel.nextConsumerTag() },
            queue: queue,
            isAutomatic: isAutomatic,
            channel: self,
            bound: self.driver.configuration.consumerBufferSize,
            isRecovering: self.isOfClient
        )
        let consume = Basic.Consume(
            queue: queue,
            consumerTag: inbox.consumerTag,
            noAck: isAutomatic,
            exclusive: exclusive,
            arguments: arguments
        )
        try await self.call(consume, for: .consume(inbox), timeout: timeout)
        return inbox
    }

    nonisolated(nonsending) func cancel(_ inbox: ConsumerInbox, timeout: Duration?) async throws(AMQPError) {
        guard inbox.channel === self else {
            throw AMQPError(.invalidArgument, "the deliveries came on another channel", isSafeToRetry: true)
        }
        // Of one that the broker has cancelled, another consumer may have the tag.
        guard !inbox.isFinished, !inbox.isCancelledByBroker else { return }
        try await self.call(Basic.Cancel(consumerTag: inbox.consumerTag), for: .cancel(inbox), timeout: timeout)
    }

    /// As `cancel`, also when the calling task is cancelled: leaving a scope must not leave its consumer behind.
    nonisolated(nonsending) func cancelShielded(_ inbox: ConsumerInbox, timeout: Duration?) async throws(AMQPError) {
        let outcome: Result<Void, AMQPError>
        if Task.isCancelled {
            outcome = await Task { await self.cancelOutcome(inbox, timeout: timeout) }.value
        } else {
            outcome = await self.cancelOutcome(inbox, timeout: timeout)
        }
        guard case .failure(let error) = outcome else { return }
        // Nothing was sent, and the scope is over: it is sent when its turn comes.
        if error.isSafeToRetry { self.cancelUnattended(inbox) }
        throw error
    }

    private nonisolated(nonsending) func cancelOutcome(
        _ inbox: ConsumerInbox,
        timeout: Duration?
    ) async -> Result<Void, AMQPError> {
        do throws(AMQPError) {
            return .success(try await self.cancel(inbox, timeout: timeout))
        } catch {
            return .failure(error)
        }
    }

    /// Cancels a consumer that nobody reads; what it got goes back with `cancel-ok`.
    ///
    /// Any thread.
    func cancelUnattended(_ inbox: ConsumerInbox) {
        inbox.abandon()
        let next = self.withLock { channel, state -> CallerStep in
            guard channel.maySend(state), !inbox.isFinished, !inbox.isCancelledByBroker else { return .none }
            let tag = inbox.consumerTag
            // The broker has taken the tag, so it can be encoded.
            _ = try? channel.enqueue(
                .basicCancel(.init(consumerTag: tag)),
                .cancel(tag: tag),
                .cancel(inbox),
                waiter: nil,
                &state
            )
            return state.outbound.scheduleFlush()
        }
        self.driver.perform(next)
    }

    /// The consumer's scope is over: what nobody has read goes back to its queue.
    func returnUnread(_ inbox: ConsumerInbox) {
        let tags = inbox.takeUnread()
        guard !inbox.isAutomatic else { return }
        for tag in tags { self.returnToQueue(tag) }
    }

    // MARK: loop thread

    /// The consumer of a delivery, also where the delivery came before its `consume-ok`.
    func consumer(tagged tag: String) -> ConsumerInbox? {
        if let inbox = self.consumers[tag] { return inbox }
        guard let inbox = self.withLock({ channel, _ in channel.startingConsumers[tag] }) else { return nil }
        self.consumers[tag] = inbox
        return inbox
    }

    /// `basic.consume-ok`, whose caller has the waiter `token`.
    func consumerStarted(_ inbox: ConsumerInbox, token: UInt32?, _ reply: Method) {
        let tag = inbox.consumerTag
        let (waiter, isCancelled) = self.withLock { channel, state -> (Waiter?, Bool) in
            channel.startingConsumers[tag] = nil
            // The broker cancelled it before it started.
            let isCancelled = inbox.isCancelledByBroker
            if isCancelled { channel.consumerTags.remove(tag) }
            return (token.flatMap { state.waiters.finish($0) }, isCancelled)
        }
        if !isCancelled { self.consumers[tag] = inbox }
        if let waiter { waiter.resume(returning: .reply(reply)) } else { self.cancelUnattended(inbox) }
    }

    /// `basic.cancel-ok`.
    func consumerCancelled(_ inbox: ConsumerInbox) {
        let tag = inbox.consumerTag
        self.withLock { channel, _ in _ = channel.consumerTags.remove(tag) }
        if self.consumers[tag] === inbox { self.consumers[tag] = nil }
        inbox.handOver()
        inbox.finish(.cancelledByApplication)
        for tag in inbox.takeOverflow() { self.returnToQueue(tag) }
        if inbox.isAbandoned { self.returnUnread(inbox) }
    }

    /// The broker sent `basic.cancel`: removes the consumer, whose sequence the caller ends.
    func consumerCancelledByBroker(_ tag: String) -> ConsumerInbox? {
        let starting = self.withLock { channel, _ -> ConsumerInbox? in
            let starting = channel.startingConsumers.removeValue(forKey: tag)
            (starting ?? self.consumers[tag])?.cancelledByBroker()
            // The answer to our own request for the tag is still to come.
            if starting == nil, !channel.machine.requests.isCancelling(tag) { channel.consumerTags.remove(tag) }
            return starting
        }
        guard let inbox = self.consumers.removeValue(forKey: tag) ?? starting else { return nil }
        // Deliveries before the cancel, perhaps of the same read, come before the end.
        inbox.handOver()
        return inbox
    }

    func endConsumers(_ ending: ConsumerInbox.Ending) {
        let inboxes = self.consumers.sorted { $0.key < $1.key }.map(\.value)
        self.consumers = [:]
        for inbox in inboxes {
            inbox.handOver()
            inbox.finish(ending)
        }
    }
}
