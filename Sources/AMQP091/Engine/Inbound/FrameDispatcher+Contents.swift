// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Logging

// Contents that do not lie in one piece in one read: put together, handed over while they arrive, or read past. Loop
// thread only. Not here: the order of the frames (ContentAssembler), the octets kept meanwhile (AssemblingContent).

extension FrameDispatcher {
    /// A method was received whose content follows.
    func beginContent(
        _ method: Method,
        _ octets: RawSpan,
        on core: ChannelSession,
        get: ChannelMachine.Requests.Request? = nil
    ) {
        // Only a hash is kept of a returned body, so none is too large.
        let isReturn = if case .basicReturn = method { true } else { false }
        var assembler = ContentAssembler(
            maximumBodySize: isReturn ? .max : UInt64(core.driver.configuration.maximumBodySize)
        )
        _ = assembler.receivedMethod(method.id, carriesContent: true)
        core.assembling = AssemblingContent(
            assembler: assembler,
            method: method,
            arguments: octets.withUnsafeBytes { Array($0.dropFirst(4)) },
            get: get,
            returnedBody: isReturn ? OctetHash() : nil
        )
    }

    /// A header or body frame.
    mutating func receivedContent(
        _ frame: DecodedFrame,
        _ payload: RawSpan,
        in chunk: InboundChunk,
        on core: ChannelSession
    ) throws(FrameFault) {
        guard var content = core.assembling else {
            let isClosing = core.withLock { channel, _ in channel.isClosing }
            guard isClosing else { throw .violation(.unexpectedFrame, "a content without its method") }
            return
        }
        core.assembling = nil
        let action: ContentAssembler.Action
        if frame.type == .header {
            // The properties are decoded by whoever asks for them: ones that cannot be are no reason to end the connection.
            let bodySize = try Self.bodySize(of: payload)
            content.properties = payload.withUnsafeBytes { Array($0.dropFirst(12)) }
            action = content.assembler.receivedHeader(bodySize: bodySize)
            if case .skip = action {
                content.skippedSize = bodySize
            } else if case .more = action {
                content.pieces = self.beginPieces(of: content, count: Int(clamping: bodySize), on: core)
                if content.pieces == nil, content.returnedBody == nil {
                    content.body.reserveCapacity(min(Int(clamping: bodySize), 1 << 20))
                }
            }
        } else {
            action = content.assembler.receivedBody(count: payload.byteCount)
            if content.skippedSize != nil {
                // Read past: nothing of it is kept.
            } else if let pieces = content.pieces {
                let isFit = if case .violation = action { false } else { true }
                if isFit, payload.byteCount > 0 {
                    let offset = UInt32(frame.payload.lowerBound)
                    let piece = AMQPDeliveryBody(chunk: chunk, offset: offset, count: UInt32(payload.byteCount))
                    if pieces.append(piece) { self.hasFullConsumer = true }
                }
            } else if content.returnedBody != nil {
                payload.withUnsafeBytes { content.returnedBody?.append($0) }
            } else {
                payload.withUnsafeBytes { content.body.append(contentsOf: $0) }
            }
        }
        switch action {
        case .more, .skip: core.assembling = content
        case .complete: self.completed(content, on: core)
        case .violation(let code, let text):
            // A reader of the body learns it with the end of the connection.
            core.assembling = content
            throw .violation(code, text)
        }
    }

    private static func bodySize(of payload: RawSpan) throws(FrameFault) -> UInt64 {
        do throws(WireError) { return try ContentHeader.bodySize(of: payload) } catch { throw .undecodable(error) }
    }

    /// Hands over a delivery whose body does not lie in one piece, to be read while it arrives; nil for other contents.
    private mutating func beginPieces(
        of content: AssemblingContent,
        count: Int,
        on core: ChannelSession
    ) -> BodyPieces? {
        guard case .basicDeliver(let deliver) = content.method, let inbox = core.consumer(tagged: deliver.consumerTag)
        else { return nil }
        let pieces = BodyPieces(count: count, for: inbox)
        let (chunk, record) = content.chunk(tag: deliver.deliveryTag.rawValue)
        inbox.append(
            DeliveryBatch(
                record,
                in: chunk,
                queue: inbox.queue,
                channel: core,
                isAutomatic: inbox.isAutomatic,
                pieces: pieces
            )
        )
        self.touch(inbox)
        return pieces
    }

    private mutating func completed(_ content: AssemblingContent, on core: ChannelSession) {
        if let pieces = content.pieces { return pieces.complete() }
        switch content.method {
        case .basicDeliver(let deliver) where content.skippedSize != nil: self.skipped(content, deliver, on: core)
        case .basicDeliver(let deliver):
            let (chunk, record) = content.chunk(tag: deliver.deliveryTag.rawValue)
            guard let inbox = core.consumer(tagged: deliver.consumerTag) else {
                return core.returnToQueue(deliver.deliveryTag.rawValue)
            }
            self.touch(inbox)
            inbox.batch(for: chunk).batch.append(record)
        case .basicGetOk(let ok):
            let (chunk, record) = content.getChunk(tag: ok.deliveryTag.rawValue)
            let tooLarge = content.skippedSize.map { AMQPError.bodyTooLarge($0, of: core.driver.configuration) }
            guard case .get(let queue, let isAutomatic)? = content.get?.context.purpose else { return }
            core.withLock { channel, state in
                state.counts.get()
                if isAutomatic { channel.settlements.markAutomatic(ok.deliveryTag.rawValue) }
            }
            core.lastDeliveryTag = max(core.lastDeliveryTag, ok.deliveryTag.rawValue)
            let batch = DeliveryBatch(
                record,
                in: chunk,
                queue: queue,
                channel: core,
                isAutomatic: isAutomatic,
                messageCount: ok.messageCount,
                bodyError: tooLarge
            )
            let delivery = AMQPDelivery(batch: batch, record: record)
            let waiter = content.get?.waiter.flatMap { token in core.driver.state.withLock { $0.waiters.finish(token) }
            }
            if let waiter {
                if let tooLarge, core.driver.configuration.oversizedDeliveries == .reject {
                    self.reject(delivery, tooLarge, on: core)
                    waiter.resume(returning: .failed(tooLarge))
                } else {
                    waiter.resume(returning: .message(delivery))
                }
            } else if !isAutomatic {
                // The caller has gone: the message is requeued.
                core.returnToQueue(ok.deliveryTag.rawValue)
            }
        case .basicReturn(let returned):
            core.withLock { channel, state in
                state.counts.returned()
                let mark = MandatoryPublishes.Mark(
                    exchange: returned.exchange,
                    routingKey: returned.routingKey,
                    bodyHash: (content.returnedBody ?? OctetHash()).value
                )
                _ = channel.confirms.ring.receivedReturn(
                    mark,
                    ReturnedProperties(content.decodedProperties),
                    code: returned.replyCode,
                    text: returned.replyText
                )
            }
        default: break
        }
    }

    /// A delivery came whose body is larger than the limit, and was read past.
    private mutating func skipped(_ content: AssemblingContent, _ deliver: Basic.Deliver, on core: ChannelSession) {
        let tag = deliver.deliveryTag.rawValue
        guard let inbox = core.consumer(tagged: deliver.consumerTag) else { return core.returnToQueue(tag) }
        let error = AMQPError.bodyTooLarge(content.skippedSize ?? 0, of: core.driver.configuration)
        let (chunk, record) = content.chunk(tag: tag)
        let batch = DeliveryBatch(
            record,
            in: chunk,
            queue: inbox.queue,
            channel: core,
            isAutomatic: inbox.isAutomatic,
            bodyError: error
        )
        guard core.driver.configuration.oversizedDeliveries == .reject, !core.reportsOversizedBodies else {
            inbox.append(batch)
            return self.touch(inbox)
        }
        // Behind what came before it, so that tags are seen in their order.
        inbox.handOver()
        core.lastDeliveryTag = max(core.lastDeliveryTag, tag)
        if inbox.isAutomatic { core.withLock { channel, _ in channel.settlements.markAutomatic(tag) } }
        self.reject(AMQPDelivery(batch: batch, record: record), error, on: core)
    }

    /// Drops or dead-letters a message nobody here can take.
    private func reject(_ delivery: AMQPDelivery, _ reason: AMQPError, on core: ChannelSession) {
        core.driver.logger.warning(
            "delivery rejected: its body is larger than maximumBodySize",
            metadata: [
                "amqp.channel": "\(core.number.rawValue)",
                "amqp.queue": "\(delivery.batch.queue)",
                "amqp.routing_key": "\(delivery.routingKey)",
                "amqp.delivery_tag": "\(delivery.deliveryTag.rawValue)",
                "messaging.message.id": "\((try? delivery.properties())?.messageID ?? "")",
                "error": "\(reason)",
            ]
        )
        guard !delivery.batch.isAutomatic else { return }
        _ = try? core.refuse(delivery.deliveryTag.rawValue, requeue: false, isRejection: true, site: nil)
    }
}
