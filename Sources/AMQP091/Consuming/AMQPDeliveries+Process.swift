// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import Logging

// process(maxConcurrency:): the loop most services write: a handler per delivery, acknowledged when it returns, rejected
// when it throws, so many at a time. Handlers are child tasks of the caller: cancelling it cancels them, and each is
// waited for and its delivery settled. Ending the consumer instead (AMQPChannel.cancel) lets them finish.
// A failure is a basic.reject, which counts towards a delivery limit; basic.nack returns what was not processed.

/// What happens to a message whose handler throws.
public enum AMQPRequeuePolicy: Hashable, Sendable {
    /// It returns to its queue every time.
    ///
    /// Declare the queue `.quorum(deliveryLimit:deadLetter:)`, so that a message that always fails ends in the
    /// dead-letter queue. A classic queue delivers it for ever. A message that fails again is rejected only after a
    /// delay: from 100 ms up to 2 s for the failures that a quorum queue counts, else 1 s. Until then it keeps its place
    /// in the prefetch, and no handler's place; the end of the consumer ends the delay.
    case always
    /// It is dead-lettered, or dropped where its queue has no dead-letter exchange: at the first failure.
    case never
}

extension AMQPDeliveries {
    /// Runs a handler for each delivery, up to `maxConcurrency` of them at a time; acknowledges what it returns from and
    /// rejects (`basic.reject`) what it throws on.
    ///
    /// With one at a time the order of the queue holds. A handler may settle its delivery itself. Set the prefetch to
    /// `maxConcurrency` or more. When the calling task is cancelled no more deliveries are taken, the handlers are
    /// cancelled with it and waited for; the message of a handler that throws then returns to its queue unprocessed
    /// (`basic.nack`), whatever `requeue` says. A failure is logged: at `info` when the message returns to its queue, at
    /// `warning` with its message-id when it is dead-lettered or dropped.
    ///
    /// - Parameters:
    ///   - maxConcurrency: Handlers at a time, 1 or more.
    ///   - requeue: What happens to a message whose handler throws; by default it returns to its queue.
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
        let run = ProcessRun(requeue: requeue, site: CallSite(fileID, line))
        let reason = await self.handle(maxConcurrency, handler, run)
        await run.rejections.finish()
        if let reason { throw reason }
    }

    /// Runs the handlers; answers why no more deliveries come, once all of them have ended.
    private nonisolated(nonsending) func handle(
        _ maxConcurrency: Int,
        _ handler: @escaping @Sendable (AMQPDelivery) async throws -> Void,
        _ run: ProcessRun
    ) async -> AMQPError? {
        guard maxConcurrency > 1 else {
            do throws(AMQPError) {
                for try await delivery in self {
                    if !self.putsBack(delivery) { await self.run(handler, delivery, run) }
                }
                return nil
            } catch {
                return error
            }
        }
        return await withTaskGroup(of: Void.self) { group -> AMQPError? in
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
                    group.addTask { await self.run(handler, delivery, run) }
                }
                return nil
            } catch {
                return error
            }
        }
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
        _ run: ProcessRun
    ) async {
        let observation = delivery.batch.channel.driver.observation
        guard observation.isWatching else {
            _ = await self.runHandler(handler, delivery, run)
            return
        }
        let watch = observation.start(.process, delivery.facts)
        var failure: (any Error)?
        try? await watch.run { failure = await self.runHandler(handler, delivery, run) }
        watch.end(failure)
    }

    /// As `run`; answers what the handler threw.
    private func runHandler(
        _ handler: @Sendable (AMQPDelivery) async throws -> Void,
        _ delivery: AMQPDelivery,
        _ run: ProcessRun
    ) async -> (any Error)? {
        do {
            try await handler(delivery)
        } catch {
            await run.failed(delivery, error)
            return error
        }
        // It fails when the handler has settled it, or the channel is gone: then the sequence ends with the reason.
        if !delivery.batch.isAutomatic { _ = try? delivery.ack(fileID: run.site.fileID, line: run.site.line) }
        return nil
    }
}

/// What the handlers of one call of `process` have in common.
private struct ProcessRun: Sendable {
    let requeue: AMQPRequeuePolicy
    let site: CallSite
    let rejections = DelayedRejections()

    /// Settles a delivery whose handler threw.
    nonisolated(nonsending) func failed(_ delivery: AMQPDelivery, _ failure: any Error) async {
        guard !delivery.batch.isAutomatic else {
            return self.log(.warning, "a handler failed; its message was acknowledged automatically", delivery, failure)
        }
        let site = self.site
        let isCancelled = Task.isCancelled
        if self.requeue == .always, !isCancelled {
            let delay = RetryDelay.delay(failures: delivery.earlierFailures)
            guard delay == .zero else {
                self.log(.info, "a handler failed; its message returns to the queue", delivery, failure, after: delay)
                return await self.rejections.add(delivery, after: delay, site: site)
            }
        }
        do throws(AMQPError) {
            let settlement =
                isCancelled
                ? try delivery.nack(requeue: true, fileID: site.fileID, line: site.line)
                : try delivery.reject(requeue: self.requeue == .always, fileID: site.fileID, line: site.line)
            if isCancelled || self.requeue == .always || settlement == .stale {
                self.log(.info, "a handler failed; its message returns to the queue", delivery, failure)
            } else {
                self.log(.warning, "a handler failed; its message is dead-lettered or dropped", delivery, failure)
            }
        } catch {
            // Settled by the handler, or the channel is gone: then the sequence ends with the reason.
            self.log(.info, "a handler failed", delivery, failure)
        }
    }

    private func log(
        _ level: Logger.Level,
        _ message: Logger.Message,
        _ delivery: AMQPDelivery,
        _ failure: any Error,
        after delay: Duration? = nil
    ) {
        let logger = delivery.batch.channel.driver.logger
        guard logger.logLevel <= level else { return }
        var metadata: Logger.Metadata = [
            "amqp.channel": "\(delivery.batch.channel.number.rawValue)",
            "amqp.queue": "\(delivery.batch.queue)",
            "amqp.routing_key": "\(delivery.routingKey)",
            "amqp.delivery_tag": "\(delivery.deliveryTag.rawValue)",
            "error": "\(failure)",
        ]
        if let id = (try? delivery.properties())?.messageID { metadata["amqp.message_id"] = "\(id)" }
        if let delay { metadata["delay"] = "\(delay)" }
        logger.log(level: level, message, metadata: metadata)
    }
}

extension AMQPDelivery {
    /// How often processing has failed before: 0 at the first delivery; nil when it is redelivered by a queue that does
    /// not count.
    fileprivate var earlierFailures: Int64? {
        guard self.redelivered else { return 0 }
        let properties = try? self.properties()
        if let count = properties?.deliveryCount { return count }
        // Since RabbitMQ 4.3 a quorum queue counts returns of unprocessed messages apart.
        return properties?.acquiredCount == nil ? nil : 0
    }
}
