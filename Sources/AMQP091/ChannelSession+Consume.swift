// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// Consumers of a channel, and basic.get. A consumer is registered when `consume-ok` is decoded on the loop, so a delivery
// that came in the same read is not missed.

extension ChannelSession {
    nonisolated(nonsending) func startConsumer(
        queue: String,
        consumerTag: String?,
        isAutomatic: Bool,
        exclusive: Bool,
        arguments: FieldTable,
        timeout: Duration?
    ) async throws(AMQPError) -> ConsumerInbox {
        let isSucceeded = self.isRecovered
        if consumerTag == "" {
            throw AMQPError(.invalidArgument, "consumerTag is empty; it is 1 to 255 octets", isSafeToRetry: true)
        }
        let inbox = self.driver.state.withLock { _ in
            if consumerTag == nil { self.nextConsumer += 1 }
            return ConsumerInbox(
                consumerTag: consumerTag ?? "amqp091-\(self.number.rawValue)-\(self.nextConsumer)",
                queue: queue,
                isAutomatic: isAutomatic,
                channel: self,
                bound: self.driver.configuration.consumerBufferSize,
                isSucceeded: isSucceeded
            )
        }
        let consume = Basic.Consume(
            queue: queue,
            consumerTag: inbox.consumerTag,
            noAck: isAutomatic,
            exclusive: exclusive,
            arguments: arguments
        )
        do {
            _ = try await self.call(
                .basicConsume(consume),
                timeout: timeout,
                prepare: { core in
                    core.startingConsumers[inbox.consumerTag] = inbox
                    core.consumerTags.insert(inbox.consumerTag)
                },
                before: { _ throws(AMQPError) in
                    // RabbitMQ would close the whole connection (530).
                    guard !self.consumerTags.contains(inbox.consumerTag) else {
                        throw AMQPError(
                            .invalidArgument,
                            "consumerTag \(inbox.consumerTag) is in use on channel \(self.number.rawValue)",
                            isSafeToRetry: true
                        )
                    }
                }
            )
        } catch {
            // The consumer may start all the same: whoever gave up waiting must not leave it running unread.
            if !error.isSafeToRetry, error.scope == .operation { self.abandon(inbox) }
            throw error
        }
        return inbox
    }

    nonisolated(nonsending) func cancel(_ inbox: ConsumerInbox, timeout: Duration?) async throws(AMQPError) {
        guard !inbox.isFinished else { return }
        _ = try await self.call(.basicCancel(.init(consumerTag: inbox.consumerTag)), timeout: timeout)
    }

    /// As `cancel`, also when the calling task is cancelled: leaving a scope must not leave its consumer behind.
    nonisolated(nonsending) func cancelShielded(_ inbox: ConsumerInbox, timeout: Duration?) async throws(AMQPError) {
        guard Task.isCancelled else { return try await self.cancel(inbox, timeout: timeout) }
        let outcome = await Task { () async -> Result<Void, AMQPError> in
            do throws(AMQPError) { return .success(try await self.cancel(inbox, timeout: timeout)) } catch {
                return .failure(error)
            }
        }.value
        try outcome.get()
    }

    /// The consumer's scope is over: what nobody has read goes back to its queue.
    func returnUnread(_ inbox: ConsumerInbox) {
        let tags = inbox.takeUnread()
        guard !inbox.isAutomatic else { return }
        for tag in tags { self.returnToQueue(tag) }
    }

    /// Cancels a consumer nobody waits for any more.
    private func abandon(_ inbox: ConsumerInbox) {
        Task { try? await self.cancel(inbox, timeout: nil) }
    }

    nonisolated(nonsending) func get(
        queue: String,
        isAutomatic: Bool,
        timeout: Duration?
    ) async throws(AMQPError) -> AMQPDelivery? {
        let get = Method.basicGet(.init(queue: queue, noAck: isAutomatic))
        let result = try await self.request(get, timeout: timeout) { $0.expectedGets.append((queue, isAutomatic)) }
        guard case .message(let delivery) = result else { return nil }
        return delivery
    }

    /// Loop thread.
    func removeConsumer(_ tag: String) -> ConsumerInbox? {
        self.driver.state.withLock { _ in _ = self.consumerTags.remove(tag) }
        return self.consumers.removeValue(forKey: tag)
    }
}
