// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Logging

// process(maxConcurrency:): the loop most services write: a handler per delivery, acknowledged when it returns, refused
// when it throws, so many at a time. Handlers are child tasks of the caller: cancelling it cancels them, and each is
// waited for and its delivery settled. Ending the consumer instead (AMQPChannel.cancel) lets them finish.

/// What becomes of a message whose handler throws.
public enum AMQPRequeuePolicy: Hashable, Sendable {
    /// It goes back to its queue every time.
    ///
    /// A message that always fails comes again for ever, unless it is a quorum queue's with a delivery limit.
    case always
    /// It goes back to its queue once; a redelivered one is dropped or dead-lettered.
    case once
    /// It is dropped or dead-lettered.
    case never

    func requeues(_ delivery: AMQPDelivery) -> Bool {
        switch self {
        case .always: true
        case .once: !delivery.redelivered
        case .never: false
        }
    }
}

extension AMQPDeliveries {
    /// Runs a handler for each delivery, up to `maxConcurrency` of them at a time; acknowledges what it returns from and
    /// refuses what it throws on.
    ///
    /// With one at a time the order of the queue holds. A handler may settle its delivery itself. Set the prefetch to
    /// `maxConcurrency` or more. When the calling task is cancelled no more deliveries are taken, the handlers are
    /// cancelled with it and waited for; a handler that throws then puts its message back, whatever `requeue` says.
    ///
    /// - Parameters:
    ///   - maxConcurrency: Handlers at a time, 1 or more.
    ///   - requeue: What becomes of a message whose handler throws.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    ///   - handler: Processes one delivery.
    /// - Throws: ``AMQPError``: the reason why no more deliveries come, or `.cancelled`; never what a handler throws.
    ///   Returns when the application cancelled the consumer. In every case all handlers have ended.
    public func process(
        maxConcurrency: Int = 1,
        requeue: AMQPRequeuePolicy = .always,
        fileID: StaticString = #fileID,
        line: UInt32 = #line,
        _ handler: @escaping @Sendable (AMQPDelivery) async throws -> Void
    ) async throws(AMQPError) {
        guard maxConcurrency >= 1 else {
            throw AMQPError(
                .invalidArgument,
                "maxConcurrency is \(maxConcurrency); it is at least 1",
                isSafeToRetry: true
            )
        }
        let site = CallSite(fileID, line)
        guard maxConcurrency > 1 else {
            for try await delivery in self {
                if !self.putsBack(delivery) { await self.run(handler, delivery, requeue, site) }
            }
            return
        }
        let reason = await withTaskGroup(of: Void.self) { group -> AMQPError? in
            var running = 0
            do throws(AMQPError) {
                for try await delivery in self {
                    if self.putsBack(delivery) { continue }
                    if running == maxConcurrency {
                        await group.next()
                        running -= 1
                    }
                    // It may have waited for its turn while the consumer was stopped.
                    if self.putsBack(delivery) { continue }
                    running += 1
                    group.addTask { await self.run(handler, delivery, requeue, site) }
                }
                return nil
            } catch {
                return error
            }
        }
        if let reason { throw reason }
    }

    /// Whether no handler is to begin with a delivery: its connection is gone, so that it comes again, or the consumer is
    /// being stopped, and it is put back.
    private func putsBack(_ delivery: AMQPDelivery) -> Bool {
        guard let successor = self.successor, !delivery.batch.isAutomatic else { return false }
        guard delivery.batch.channel.isUsable else {
            successor.skipped(delivery)
            return true
        }
        guard successor.isStopped else { return false }
        if successor.ending == .returnsInOrder { return true }
        // It fails only when the channel is gone, and then the broker has put it back itself.
        _ = try? delivery.nack(requeue: true)
        return true
    }

    /// Runs the handler and settles the delivery, unless the handler has.
    private func run(
        _ handler: @Sendable (AMQPDelivery) async throws -> Void,
        _ delivery: AMQPDelivery,
        _ requeue: AMQPRequeuePolicy,
        _ site: CallSite
    ) async {
        let observation = delivery.batch.channel.driver.observation
        guard observation.isWatching else {
            _ = await self.runHandler(handler, delivery, requeue, site)
            return
        }
        let watch = observation.start(.process, delivery.facts)
        var failure: (any Error)?
        try? await watch.run { failure = await self.runHandler(handler, delivery, requeue, site) }
        watch.end(failure)
    }

    /// As `run`; answers what the handler threw.
    private func runHandler(
        _ handler: @Sendable (AMQPDelivery) async throws -> Void,
        _ delivery: AMQPDelivery,
        _ requeue: AMQPRequeuePolicy,
        _ site: CallSite
    ) async -> (any Error)? {
        var failure: (any Error)?
        do {
            try await handler(delivery)
        } catch {
            failure = error
        }
        guard !delivery.batch.isAutomatic else { return failure }
        do throws(AMQPError) {
            if let failure {
                let isCancelled = Task.isCancelled
                let putsBack = isCancelled || requeue.requeues(delivery)
                self.inbox.channel.driver.logger.info(
                    "a handler failed",
                    metadata: [
                        "amqp.channel": "\(delivery.batch.channel.number.rawValue)",
                        "amqp.queue": "\(delivery.batch.queue)",
                        "amqp.routing_key": "\(delivery.routingKey)",
                        "amqp.delivery_tag": "\(delivery.deliveryTag.rawValue)",
                        "amqp.requeue": "\(putsBack)",
                        "error": "\(failure)",
                    ]
                )
                // A failure counts towards a delivery limit; what a cancelled handler gave up was not processed.
                if isCancelled {
                    try delivery.nack(requeue: true, fileID: site.fileID, line: site.line)
                } else {
                    try delivery.reject(requeue: putsBack, fileID: site.fileID, line: site.line)
                }
            } else {
                try delivery.ack(fileID: site.fileID, line: site.line)
            }
        } catch {
            // Settled by the handler, or the channel is gone: then the sequence ends with the reason.
        }
        return failure
    }
}
