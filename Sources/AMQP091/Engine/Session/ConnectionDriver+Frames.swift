// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking
import Logging

// What a frame means: deliveries go to inboxes, confirms are collected, replies wake waiters, contents that came in
// pieces are put together. Loop thread only. Everything the peer sends is judged by a machine; what a machine calls a
// violation closes the connection with the reply code it names.

extension ConnectionDriver {
    // MARK: deliveries in one piece

    /// The batch of the consumer a delivery found whole in the chunk is for; nil when nobody takes it.
    ///
    /// The connection may be gone afterwards.
    func batch(for record: DeliveryRecord, in chunk: InboundChunk, channel number: UInt16) -> DeliveryBatch? {
        guard let core = self.core(number) else {
            _ = self.receivedOnUnknownChannel(number)
            return nil
        }
        guard !core.isAssembling else {
            self.violated(.unexpectedFrame, "a method inside a content")
            return nil
        }
        guard let inbox = core.consumer(taggedAt: Int(record.arguments), in: chunk) else {
            core.returnToQueue(record.tag)
            return nil
        }
        self.touch(inbox)
        let (batch, isFull) = inbox.batch(for: chunk)
        // The bound counts within a long read too.
        if isFull { self.isPaused = true }
        return batch
    }

    /// Has what the inbox got handed over at the end of this read.
    private func touch(_ inbox: ConsumerInbox) {
        if !self.touchedInboxes.contains(where: { $0 === inbox }) { self.touchedInboxes.append(inbox) }
    }

    /// The channel of this number, if it is in use.
    @inline(__always)
    func core(_ number: UInt16) -> ChannelSession? {
        let index = Int(number)
        if index < self.channelCache.count, let core = self.channelCache[index] { return core }
        return self.findCore(index)
    }

    private func findCore(_ index: Int) -> ChannelSession? {
        guard index > 0,
            let core = self.state.withLock({ $0.sessions.indices.contains(index) ? $0.sessions[index] : nil })
        else { return nil }
        while self.channelCache.count <= index { self.channelCache.append(nil) }
        self.channelCache[index] = core
        return core
    }

    /// A frame for a channel that is not in use: dropped when it was just closed, else a violation.
    private func receivedOnUnknownChannel(_ number: UInt16) -> Bool {
        let standing = self.state.withLock { $0.numbers.standing(of: ChannelNumber(rawValue: number)) }
        if case .unknown = standing {
            self.violated(.channelError, "a frame on channel \(number), which is not open")
            return false
        }
        return true
    }

    // MARK: any other frame

    func received(_ frame: DecodedFrame, in octets: RawSpan, chunk: InboundChunk) throws(WireError) {
        let number = frame.channel.rawValue
        let payload = octets.extracting(frame.payload)
        switch frame.type {
        case .heartbeat: return
        case .method where number == 0:
            self.perform(self.machine.received(try Method.decode(payload)))
        case .method:
            guard let core = self.core(number) else {
                _ = self.receivedOnUnknownChannel(number)
                return
            }
            guard !core.isAssembling || Self.isChannelClose(payload) else {
                return self.violated(.unexpectedFrame, "a method inside a content")
            }
            try self.received(Method.decode(payload), octets: payload, on: core)
        case .header, .body:
            guard number > 0, let core = self.core(number) else {
                if number == 0 { return self.violated(.unexpectedFrame, "a content on channel 0") }
                _ = self.receivedOnUnknownChannel(number)
                return
            }
            try self.receivedContent(frame, payload, in: chunk, on: core)
        }
    }

    private static func isChannelClose(_ payload: RawSpan) -> Bool {
        payload.byteCount >= 4
            && payload.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt32.self).bigEndian == 20 << 16 | 40
    }

    /// Keeps a confirm for the end of this read; false where none may come, which is judged as of any other frame.
    func keep(_ confirm: ConfirmRecord) -> Bool {
        guard let core = self.core(confirm.channel), !core.isAssembling else { return false }
        self.pendingConfirms.append(PendingConfirm(channel: core.slot, confirm: confirm))
        return true
    }

    /// Settles what was collected, under one lock, and wakes whom it concerns.
    func settlePendingConfirms() {
        guard !self.pendingConfirms.isEmpty else { return }
        // Taken out while it is used: a wake-up may bring more confirms.
        var resumptions: [Resumption] = []
        swap(&resumptions, &self.confirmResumptions)
        var violation: String?
        self.state.withChannels { state, channels in
            self.pendingConfirms.drain { pending in
                do {
                    try channels[pending.channel].settle(pending.confirm, &state, into: &resumptions)
                } catch {
                    violation = "a confirm for delivery tag \(pending.confirm.tag), which was not published"
                }
            }
        }
        resumptions.drain { $0.resume() }
        swap(&resumptions, &self.confirmResumptions)
        if let violation { self.violated(.commandInvalid, violation) }
    }

    private func received(_ method: Method, octets: RawSpan, on core: ChannelSession) throws(WireError) {
        // Confirms that came before this method are settled before it: a return or a close must not overtake them.
        self.settlePendingConfirms()
        switch core.withLock({ channel, _ in channel.received(method) }) {
        case .ignore: break
        case .replied(let request, let reply): self.replied(reply, to: request, octets, on: core)
        case .pass(let method):
            switch method {
            case .basicDeliver, .basicReturn: self.beginContent(method, octets, on: core)
            default: self.violated(.commandInvalid, "\(method.id) was not expected")
            }
        case .flow(let active): core.receivedFlow(active)
        case .cancelledByBroker(let tag): self.cancelledByBroker(tag, on: core)
        case .closedByBroker(let reason, let unanswered):
            let error = core.withLock { channel, _ in channel.failure } ?? AMQPError(channelClosed: reason, site: nil)
            self.send(.channelCloseOk(.init()), on: core)
            self.channelEnded(core, error, unanswered, closers: [])
        case .sendCloseOk: self.send(.channelCloseOk(.init()), on: core)
        case .closed(let closers, let unanswered):
            let error = AMQPError(.channelClosed, "the channel was closed", scope: .channel)
            self.channelEnded(core, error, unanswered, closers: closers)
        case .violation(let code, let text): self.violated(code, text)
        }
    }

    /// What the reply means for the channel; here and not when the waiting task wakes.
    private func replied(
        _ reply: Method,
        to request: ChannelMachine.Requests.Request,
        _ octets: RawSpan,
        on core: ChannelSession
    ) {
        switch request.context.purpose {
        case .get:
            if case .basicGetOk = reply {
                self.beginContent(reply, octets, on: core, get: request)
            } else {
                self.finish(request.waiter, .message(nil))
            }
        case .consume(let inbox): core.consumerStarted(inbox, token: request.waiter, reply)
        case .cancel(let inbox): core.consumerCancelled(inbox)
        case .recover: core.recovered()
        case .commit: core.committed()
        case .rollBack: core.rolledBack()
        case .plain, .beginTransaction, .enableConfirms: break
        }
        let kick = core.withLock { channel, state in channel.sendWaitingRequests(&state) }
        self.perform(kick)
        switch request.context.purpose {
        case .get, .consume: break
        default: self.finish(request.waiter, .reply(reply))
        }
    }

    func finish(_ token: UInt32?, _ result: WaitResult) {
        guard let token else { return }
        self.state.withLock { $0.waiters.finish(token) }?.resume(returning: result)
    }

    /// Appends a method the loop itself has to send.
    func send(_ method: Method, on core: ChannelSession?) {
        let kick = self.state.withLock { state -> Kick in
            // What the loop sends are short answers whose strings were cut to size: encoding them cannot fail.
            try? method.encodeFrame(channel: core?.number ?? ChannelNumber(rawValue: 0), into: &state.outbound.fill)
            return state.outbound.scheduleFlush()
        }
        self.perform(kick)
    }

    // MARK: contents in pieces

    private func beginContent(
        _ method: Method,
        _ octets: RawSpan,
        on core: ChannelSession,
        get: ChannelMachine.Requests.Request? = nil
    ) {
        // Of a return nothing is kept but a hash, so no body is too large.
        let isReturn = if case .basicReturn = method { true } else { false }
        var assembler = ContentAssembler(
            maximumBodySize: isReturn ? .max : UInt64(self.configuration.maximumBodySize)
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

    private func receivedContent(
        _ frame: DecodedFrame,
        _ payload: RawSpan,
        in chunk: InboundChunk,
        on core: ChannelSession
    ) throws(WireError) {
        guard var content = core.assembling else {
            let isClosing = core.withLock { channel, _ in channel.isClosing }
            if !isClosing { self.violated(.unexpectedFrame, "a content without its method") }
            return
        }
        core.assembling = nil
        let action: ContentAssembler.Action
        if frame.type == .header {
            // The properties are decoded by whoever asks for them: ones that cannot be are no reason to end the connection.
            let bodySize = try ContentHeader.bodySize(of: payload)
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
                    if pieces.append(piece) { self.isPaused = true }
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
            // Whoever reads the body while it arrives is told with the end of the connection.
            core.assembling = content
            self.violated(code, text)
        }
    }

    /// Hands over a delivery whose body does not lie in one piece, to be read while it arrives; nil for other contents.
    private func beginPieces(of content: AssemblingContent, count: Int, on core: ChannelSession) -> BodyPieces? {
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

    private func completed(_ content: AssemblingContent, on core: ChannelSession) {
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
            let tooLarge = content.skippedSize.map { AMQPError.bodyTooLarge($0, of: self.configuration) }
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
            let waiter = content.get?.waiter.flatMap { token in self.state.withLock { $0.waiters.finish(token) } }
            if let waiter {
                if let tooLarge, self.configuration.oversizedDeliveries == .reject {
                    self.reject(delivery, tooLarge, on: core)
                    waiter.resume(returning: .failed(tooLarge))
                } else {
                    waiter.resume(returning: .message(delivery))
                }
            } else if !isAutomatic {
                // Whoever asked has gone: the message goes back.
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
    private func skipped(_ content: AssemblingContent, _ deliver: Basic.Deliver, on core: ChannelSession) {
        let tag = deliver.deliveryTag.rawValue
        guard let inbox = core.consumer(tagged: deliver.consumerTag) else { return core.returnToQueue(tag) }
        let error = AMQPError.bodyTooLarge(content.skippedSize ?? 0, of: self.configuration)
        let (chunk, record) = content.chunk(tag: tag)
        let batch = DeliveryBatch(
            record,
            in: chunk,
            queue: inbox.queue,
            channel: core,
            isAutomatic: inbox.isAutomatic,
            bodyError: error
        )
        guard self.configuration.oversizedDeliveries == .reject, !core.reportsOversizedBodies else {
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
        self.logger.warning(
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
