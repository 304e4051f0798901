// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// The calls of a channel with tracing and metrics: with a span, timed, or neither, and then without any overhead.
// A publish's span is injected into the headers of its message. Not here: spans and timers
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

    /// Publishes with a span that ends when the message is in the write buffer.
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

    /// Publishes with a span that ends with the confirm.
    @inline(__always)
    nonisolated(nonsending) func publishAndConfirm(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        timeout: Duration?
    ) async throws(AMQPError) {
        guard self.driver.observation.isWatching else {
            return try await self.publishAndConfirmUntraced(
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
            try await self.publishAndConfirmUntraced(
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

    /// Publishes with a receipt; the span ends when the message is in the write buffer.
    nonisolated(nonsending) func enqueue(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        deadline: UInt64,
        token: UInt32 = ChannelSession.receiptToken
    ) async throws(AMQPError) -> UInt64 {
        guard self.isTracing else {
            return try await self.enqueueUntraced(
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
            let sequence = try await self.enqueueUntraced(
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

    /// Like `enqueue`, if there is room now.
    func tryEnqueue(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        token: UInt32 = ChannelSession.receiptToken
    ) throws(AMQPError) -> EnqueueAttempt {
        guard self.isTracing else {
            return try self.tryEnqueueUntraced(
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
            let attempt = try self.tryEnqueueUntraced(
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

    /// Returns the observation of a whole batch; nil without tracing and metrics.
    ///
    /// Its span is injected into every message of the batch, and ends with the last confirm.
    func watchBatch(of count: Int, to destination: AMQPDestination) -> OperationWatch? {
        guard self.driver.observation.isWatching else { return nil }
        return self.watchPublish(destination, BasicProperties(), bodySize: 0, batchCount: count)
    }

    /// Observes `basic.get` and its message.
    nonisolated(nonsending) func tracedGet(
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
    /// The data for spans.
    var facts: MessageFacts {
        MessageFacts(
            MessagingDestination(exchange: self.exchange, routingKey: self.routingKey, queue: self.batch.queue),
            properties: try? self.properties(),
            bodySize: self.body.count,
            deliveryTag: self.record.tag
        )
    }

    /// Settles with a span if tracing is enabled.
    @inline(__always)
    func tracedSettle(_ operation: MessagingOperation, _ settle: () throws(AMQPError) -> Void) throws(AMQPError) {
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

    /// Runs `body` in a span (`process`) that is related to the publisher's, and times it.
    ///
    /// ``AMQPDeliveries/process(maxConcurrency:requeue:fileID:line:_:)`` does this itself; use this in other
    /// loops. Without a tracer and a metrics system it only runs `body`.
    ///
    /// - Parameter body: Processes the delivery.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`, which the span records.
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
