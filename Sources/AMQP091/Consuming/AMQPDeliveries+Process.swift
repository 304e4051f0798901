// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import Logging

// process(maxConcurrency:): runs a handler per delivery, acknowledges when it returns, rejects when it throws, with bounded
// concurrency. Handlers are child tasks of the caller: cancelling it cancels them, and each is
// awaited and its delivery settled. Ending the consumer instead (AMQPChannel.cancel) lets them finish.
// A failure is a basic.reject, which counts towards a delivery limit; basic.nack returns unprocessed messages.

/// The treatment of a message whose handler throws.
public enum AMQPRequeuePolicy: Hashable, Sendable {
    /// The message is always requeued.
    ///
    /// Declare the queue `.quorum(deliveryLimit:deadLetter:)`, so that a message that always fails ends in the
    /// dead-letter queue. A classic queue redelivers it forever. A message that fails again is rejected after a
    /// delay: 100 ms to 2 s by the number of failures that a quorum queue counts, otherwise 1 s. During the delay it occupies
    /// a place in the prefetch, but no handler; the end of the consumer ends the delay.
    case always
    /// The message is dead-lettered at its first failure, or dropped if its queue has no dead-letter exchange.
    case never
}

extension AMQPDeliveries {
    /// Runs a handler for each delivery, up to `maxConcurrency` at a time; acknowledges when it returns and rejects
    /// (`basic.reject`) when it throws.
    ///
    /// With one at a time the order of the queue is kept. A handler may settle its delivery itself. Set the prefetch to
    /// `maxConcurrency` or more. When the calling task is cancelled, no more deliveries are taken and the handlers are
    /// cancelled and awaited; the message of a handler that throws then is requeued as unprocessed
    /// (`basic.nack`), regardless of `requeue`. Failures are logged: at `info` if the message is requeued, at
    /// `warning` with its message ID if it is dead-lettered or dropped.
    ///
    /// - Parameters:
    ///   - maxConcurrency: Maximum number of concurrent handlers, 1 or more.
    ///   - requeue: The treatment of a message whose handler throws; requeued by default.
    ///   - fileID: The caller's file, for ``AMQPError/callSite``.
    ///   - line: The caller's line.
    ///   - handler: The handler of one delivery.
    /// - Throws: ``AMQPError``: the reason why the consumer ended, or `.cancelled`; never the error of a handler.
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

    /// Runs the handlers; returns the reason why the consumer ended, after all of them have ended.
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
                    // The consumer may have been stopped while the delivery waited for a handler.
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

    /// Returns true if no handler may start for a delivery: its connection was lost, so that it is delivered again, or the
    /// consumer is being stopped, and it is requeued.
    private func putsBack(_ delivery: AMQPDelivery) -> Bool {
        guard let successor = self.successor, !delivery.batch.isAutomatic else { return false }
        guard delivery.batch.channel.isUsable else {
            successor.skipped(delivery)
            return true
        }
        guard successor.isStopped else { return false }
        if successor.ending == .returnsInOrder { return true }
        // Fails only if the channel has ended, and then the broker has requeued the message.
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

    /// As `run`; returns the error of the handler.
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
        // Fails if the handler has settled it, or the channel has ended: then the sequence ends with the reason.
        if !delivery.batch.isAutomatic { _ = try? delivery.ack(fileID: run.site.fileID, line: run.site.line) }
        return nil
    }
}

/// Shared state of the handlers of one call of `process`.
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
            // Settled by the handler, or the channel has ended: then the sequence ends with the reason.
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
    /// Number of earlier failures: 0 at the first delivery; nil for a redelivery by a queue that does not count them.
    fileprivate var earlierFailures: Int64? {
        guard self.redelivered else { return 0 }
        let properties = try? self.properties()
        if let count = properties?.deliveryCount { return count }
        // Since RabbitMQ 4.3 a quorum queue counts returns of unprocessed messages separately.
        return properties?.acquiredCount == nil ? nil : 0
    }
}
