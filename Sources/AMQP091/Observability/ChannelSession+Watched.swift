// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// The calls of a channel as somebody watches them: with a span, with a clock, or with neither, and then these go the
// ordinary way at once. A publish's span goes into the headers of its message. Not here: what a watch does
// (OperationWatch), handlers of deliveries (AMQPDeliveries+Process).

extension ChannelSession {
    func watchPublish(
        _ destination: AMQPDestination,
        _ properties: BasicProperties,
        bodySize: Int,
        batchCount: Int? = nil
    ) -> OperationWatch {
        let place = MessagingDestination(exchange: destination.exchange, routingKey: destination.routingKey, queue: "")
        let facts = MessageFacts(place, properties: properties, bodySize: bodySize, batchCount: batchCount)
        return self.driver.observation.start(.publish, facts)
    }

    /// A publish with a span that lasts until the message has its place in the write buffer.
    nonisolated(nonsending) func publishTraced(
        _ body: RawSpan,
        to destination: AMQPDestination,
        mandatory: Bool,
        properties: BasicProperties,
        site: CallSite,
        timeout: Duration?
    ) async throws(AMQPError) {
        let watch = self.watchPublish(destination, properties, bodySize: body.byteCount)
        var properties = properties
        watch.inject(into: &properties)
        do throws(AMQPError) {
            let step = try self.publishNow(
                body,
                to: destination,
                mandatory: mandatory,
                properties: properties,
                site: site
            )
            if step != .done {
                try await self.publish(
                    body,
                    to: destination,
                    mandatory: mandatory,
                    properties: properties,
                    site: site,
                    timeout: timeout,
                    after: step
                )
            }
            watch.end(isTimed: false)
        } catch {
            watch.end(error, isTimed: false)
            throw error
        }
    }

    /// A publish that lasts until the broker's word on it.
    @inline(__always)
    nonisolated(nonsending) func publishAndConfirm(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        timeout: Duration?
    ) async throws(AMQPError) {
        guard self.driver.observation.isWatching else {
            return try await self.publishAndConfirmUnwatched(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                timeout: timeout
            )
        }
        let watch = self.watchPublish(destination, message.properties, bodySize: message.body.count)
        var message = message
        watch.inject(into: &message.properties)
        do throws(AMQPError) {
            try await self.publishAndConfirmUnwatched(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                timeout: timeout
            )
            watch.end()
        } catch {
            watch.end(error)
            throw error
        }
    }

    /// A publish with a receipt; its span lasts until the message has its place in the write buffer.
    nonisolated(nonsending) func enqueue(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        deadline: UInt64,
        token: UInt32 = ChannelSession.receiptToken
    ) async throws(AMQPError) -> UInt64 {
        guard self.isTracing else {
            return try await self.enqueueUnwatched(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: deadline,
                token: token
            )
        }
        let watch = self.watchPublish(destination, message.properties, bodySize: message.body.count)
        var message = message
        watch.inject(into: &message.properties)
        do throws(AMQPError) {
            let sequence = try await self.enqueueUnwatched(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                deadline: deadline,
                token: token
            )
            watch.end(isTimed: false)
            return sequence
        } catch {
            watch.end(error, isTimed: false)
            throw error
        }
    }

    /// As `enqueue`, if there is room now.
    func tryEnqueue(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        token: UInt32 = ChannelSession.receiptToken
    ) throws(AMQPError) -> EnqueueAttempt {
        guard self.isTracing else {
            return try self.tryEnqueueUnwatched(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                token: token
            )
        }
        let watch = self.watchPublish(destination, message.properties, bodySize: message.body.count)
        var message = message
        watch.inject(into: &message.properties)
        do throws(AMQPError) {
            let attempt = try self.tryEnqueueUnwatched(
                message,
                to: destination,
                mandatory: mandatory,
                site: site,
                token: token
            )
            watch.end(isTimed: false)
            return attempt
        } catch {
            watch.end(error, isTimed: false)
            throw error
        }
    }

    /// The watch of a whole batch; nil where none is wanted.
    ///
    /// Its span goes into the headers of every message of the batch, and lasts until the last confirm.
    func watchBatch(of count: Int, to destination: AMQPDestination) -> OperationWatch? {
        guard self.driver.observation.isWatching else { return nil }
        return self.watchPublish(destination, BasicProperties(), bodySize: 0, batchCount: count)
    }

    /// `basic.get`, and what it brought.
    nonisolated(nonsending) func watchedGet(
        queue: String,
        isAutomatic: Bool,
        timeout: Duration?
    ) async throws(AMQPError) -> AMQPDelivery? {
        guard self.driver.observation.isWatching else {
            return try await self.get(queue: queue, isAutomatic: isAutomatic, timeout: timeout)
        }
        let asked = MessageFacts(MessagingDestination(exchange: "", routingKey: "", queue: queue))
        let watch = self.driver.observation.start(.receive, asked)
        do throws(AMQPError) {
            let delivery = try await self.get(queue: queue, isAutomatic: isAutomatic, timeout: timeout)
            if let delivery { watch.got(delivery.facts) }
            watch.end()
            return delivery
        } catch {
            watch.end(error)
            throw error
        }
    }
}

extension AMQPDelivery {
    /// What is known of it.
    var facts: MessageFacts {
        MessageFacts(
            MessagingDestination(exchange: self.exchange, routingKey: self.routingKey, queue: self.batch.queue),
            properties: try? self.properties(),
            bodySize: self.body.count,
            deliveryTag: self.record.tag
        )
    }

    /// Settles with a span of its own, where there are spans.
    func watchedSettle(_ operation: MessagingOperation, _ settle: () throws(AMQPError) -> Void) throws(AMQPError) {
        guard self.batch.channel.isTracing else { return try settle() }
        let watch = self.batch.channel.driver.observation.start(operation, self.facts)
        do throws(AMQPError) {
            try settle()
            watch.end(isTimed: false)
        } catch {
            watch.end(error, isTimed: false)
            throw error
        }
    }

    /// Runs what becomes of the delivery in a span (`process`) that belongs to its publisher's, and times it.
    ///
    /// ``AMQPDeliveries/process(maxConcurrency:requeue:fileID:line:_:)`` does so by itself; this is for loops of one's
    /// own. Without a tracer and a metrics system it runs `body` and nothing else.
    ///
    /// - Parameter body: Processes the delivery.
    /// - Returns: What `body` returns.
    /// - Throws: What `body` throws; the span says so.
    @discardableResult
    public func withSpan<Result>(
        _ body: nonisolated(nonsending) () async throws -> Result
    ) async throws -> Result {
        let observation = self.batch.channel.driver.observation
        guard observation.isWatching else { return try await body() }
        let watch = observation.start(.process, self.facts)
        do {
            let result = try await watch.run(body)
            watch.end()
            return result
        } catch {
            watch.end(error)
            throw error
        }
    }
}
