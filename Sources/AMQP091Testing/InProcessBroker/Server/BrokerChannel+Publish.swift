// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Publishing: assembles, checks and routes a content, and returns or confirms it. Both halves of a channel's last publish,
// the route and the properties, are cached: most publishes repeat them, and then need no lookup and no decoding.

/// The cached route of one exchange and routing key.
final class PublishRoute {
    let octets: [UInt8]
    let exchange: BrokerExchange
    let routingKey: String
    /// The version of the virtual host in which the exchange was found.
    let foundAt: UInt64
    /// The queues for `traits`, valid while `version` is the virtual host's.
    var queues: [BrokerQueue] = []
    var traits: MessageTraits?
    var version = UInt64.max

    init(octets: [UInt8], exchange: BrokerExchange, routingKey: String, foundAt: UInt64) {
        self.octets = octets
        self.exchange = exchange
        self.routingKey = routingKey
        self.foundAt = foundAt
    }
}

/// A publish that arrives in several frames.
struct AssemblingPublish {
    let route: [UInt8]
    let bits: UInt8
    var properties: [UInt8]?
    var bodySize = 0
    /// The body so far; octets above the limit are not kept.
    var received = 0
    var body: [UInt8] = []
}

extension BrokerChannel {
    var takesPublish: Bool { !self.isClosing && self.assembling == nil }

    var contentMethod: MethodID { Basic.Publish.id }

    // MARK: contents in pieces

    func begin(_ publish: Basic.Publish) throws(Refusal) {
        let names = [publish.exchange, publish.routingKey].map { Array($0.utf8.prefix(255)) }
        self.assembling = AssemblingPublish(
            route: names.flatMap { [UInt8($0.count)] + $0 },
            bits: (publish.mandatory ? 1 : 0) | (publish.immediate ? 2 : 0)
        )
    }

    func receivedContent(_ type: FrameType, _ payload: RawSpan) throws(Refusal) {
        if self.isClosing { return }
        guard var content = self.assembling else {
            throw Refusal(.unexpectedFrame, "expected method frame, got non method frame instead")
        }
        self.assembling = nil
        if type == .header {
            guard content.properties == nil else {
                throw Refusal(.unexpectedFrame, "expected content body, got non content body frame instead")
            }
            try self.receivedHeader(payload, &content)
        } else {
            guard content.properties != nil else {
                throw Refusal(
                    .unexpectedFrame,
                    "expected content header for class 60, got non content header frame instead"
                )
            }
            guard payload.byteCount <= content.bodySize - content.received else {
                throw Refusal(.unexpectedFrame, "a content body is longer than its header said")
            }
            content.received += payload.byteCount
            if content.bodySize <= self.core.options.maximumMessageSize {
                payload.withUnsafeBytes { content.body.append(contentsOf: $0) }
            }
        }
        guard content.received == content.bodySize, let properties = content.properties else {
            self.assembling = content
            return
        }
        try self.checkSize(content.bodySize)
        guard let order = self.contentOrder.take() else { return self.publish(content, properties) }
        // The reply to a publish is its confirm, which otherwise waits for the end of the turn.
        self.flushConfirms()
        self.connection.obey(order) {
            self.publish(content, properties)
            self.passOnMail(all: true)
            self.flushConfirms()
        }
    }

    private func publish(_ content: AssemblingPublish, _ properties: [UInt8]) {
        content.route.withUnsafeBytes { route in
            properties.withUnsafeBytes { properties in
                content.body.withUnsafeBytes { body in
                    self.publish(route: route, bits: content.bits, properties: properties, body: body)
                }
            }
        }
    }

    private func receivedHeader(_ payload: RawSpan, _ content: inout AssemblingPublish) throws(Refusal) {
        let classID = payload.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt16.self).bigEndian
        guard classID == 60 else {
            throw Refusal(
                .unexpectedFrame,
                "expected content header for class 60, got one for class \(classID) instead"
            )
        }
        let size = payload.unsafeLoadUnaligned(fromByteOffset: 4, as: UInt64.self).bigEndian
        if let maximum = self.core.version.maximumContentSize, size > UInt64(maximum) {
            throw Refusal(.frameError, "content body size \(size) exceeds maximum allowed size \(maximum)")
        }
        content.bodySize = Int(clamping: size)
        content.properties = payload.withUnsafeBytes { Array($0.dropFirst(12)) }
        content.body.reserveCapacity(min(content.bodySize, 1 << 20))
    }

    /// RabbitMQ checks the size when it has the whole body.
    private func checkSize(_ size: Int) throws(Refusal) {
        let limit = self.core.options.maximumMessageSize
        guard size <= limit else {
            throw Refusal(.preconditionFailed, "message size \(size) is larger than configured max size \(limit)")
        }
    }

    // MARK: a whole publish

    func publish(
        route octets: UnsafeRawBufferPointer,
        bits: UInt8,
        properties: UnsafeRawBufferPointer,
        body: UnsafeRawBufferPointer
    ) {
        do throws(Refusal) {
            guard !self.isCommitting else { throw Self.committing }
            try self.checkSize(body.count)
            guard bits & 2 == 0 else { throw Refusal(.notImplemented, "immediate=true") }
            let route = try self.publishRoute(octets)
            let traits = try self.traits(of: properties)
            let message = try self.message(octets, properties, body, route, traits)
            let isMandatory = bits & 1 != 0
            if self.transaction != nil {
                self.transaction?.publishes.append((message, route, traits, isMandatory))
                self.transaction?.octets += message.size
                self.host.usedOctets += message.size
            } else {
                self.route(message, route, traits, mandatory: isMandatory)
            }
        } catch {
            self.connection.refuse(error, Basic.Publish.id, self.number)
        }
        if let alarm = self.core.alarm { self.connection.block(alarm) }
    }

    private func publishRoute(_ octets: UnsafeRawBufferPointer) throws(Refusal) -> PublishRoute {
        if let last = self.lastRoute, last.octets.count == octets.count,
            last.octets.withUnsafeBytes({ $0.elementsEqual(octets) }),
            last.foundAt == self.host.topologyVersion
        {
            return last
        }
        let first = Int(octets[0])
        let name = String(decoding: octets[1..<(1 + first)], as: UTF8.self)
        let key = String(decoding: octets[(2 + first)...], as: UTF8.self)
        let route = PublishRoute(
            octets: Array(octets),
            exchange: try self.host.exchange(toPublish: name),
            routingKey: key,
            foundAt: self.host.topologyVersion
        )
        self.lastRoute = route
        return route
    }

    /// Nil for a message without properties.
    private func traits(of octets: UnsafeRawBufferPointer) throws(Refusal) -> MessageTraits? {
        if octets.count == 2, octets[0] == 0, octets[1] == 0 { return nil }
        if let last = self.lastTraits, last.octets.count == octets.count,
            last.octets.withUnsafeBytes({ $0.elementsEqual(octets) })
        {
            return last.traits
        }
        let properties: BasicProperties
        do throws(WireError) {
            var reader = WireReader(RawSpan(_unsafeBytes: octets))
            properties = try BasicProperties(from: &reader)
            try reader.expectEnd()
        } catch {
            throw Refusal(.syntaxError, "the properties of a message cannot be decoded: \(error)")
        }
        let traits = try MessageTraits(properties, user: self.connection.user, version: self.core.version)
        self.lastTraits = (Array(octets), traits)
        return traits
    }

    private func message(
        _ octets: UnsafeRawBufferPointer,
        _ properties: UnsafeRawBufferPointer,
        _ body: UnsafeRawBufferPointer,
        _ route: PublishRoute,
        _ traits: MessageTraits?
    ) throws(Refusal) -> Message {
        let message = Message.make(
            route: octets,
            properties: properties,
            body: body,
            priority: traits?.priority,
            timeToLive: traits?.timeToLive
        )
        let isReply = traits?.properties.replyTo == VirtualHost.replyQueue
        guard let traits, traits.hasBlindCopies || traits.isReordered || isReply else { return message }
        var changed = traits.properties
        changed.headers?["BCC"] = nil
        if isReply {
            guard let consumer = self.replyConsumer else {
                throw Refusal(.preconditionFailed, "fast reply consumer does not exist")
            }
            changed.replyTo = consumer.queue.name
        }
        return message.with(
            exchange: route.exchange.name,
            routingKey: route.routingKey,
            properties: changed,
            timeToLive: traits.timeToLive
        ) ?? message
    }

    /// Enqueues a message in its queues, and confirms or returns it.
    func route(_ message: Message, _ route: PublishRoute, _ traits: MessageTraits?, mandatory: Bool) {
        if self.core.confirmOrder.nacks > 0, self.published != nil {
            self.core.confirmOrder.nacks -= 1
            return self.confirm(isAccepted: false, [])
        }
        if self.core.confirmOrder.returns > 0, mandatory {
            self.core.confirmOrder.returns -= 1
            self.returnMessage(message, route)
            return self.confirm(isAccepted: true, [])
        }
        if route.version != self.host.topologyVersion || route.traits !== traits {
            route.queues = self.host.route(
                route.exchange,
                keys: [route.routingKey] + (traits?.extraKeys ?? []),
                headers: traits?.headers ?? FieldTable()
            )
            // A random route is valid for one message.
            route.version = route.exchange.kind == .localRandom ? .max : self.host.topologyVersion
            route.traits = traits
        }
        var isAccepted = true
        for queue in route.queues where !queue.publish(message) { isAccepted = false }
        if route.queues.isEmpty, !self.deliverReply(message, route), mandatory { self.returnMessage(message, route) }
        self.confirm(isAccepted: isAccepted, route.queues)
    }

    /// Sends a direct reply to its channel without a queue; returns true if the channel exists.
    private func deliverReply(_ message: Message, _ route: PublishRoute) -> Bool {
        guard route.exchange.name.isEmpty, let consumer = self.host.replyConsumers[route.routingKey] else {
            return false
        }
        // A client that does not read its replies loses them, as a closed one does with RabbitMQ.
        if consumer.sink.hasRoom(for: consumer) {
            consumer.sink.deliver(QueueEntry(message: message, sequence: 0, expires: .max), to: consumer)
        }
        return true
    }

    private func returnMessage(_ message: Message, _ route: PublishRoute) {
        self.connection.out.appendReturn(of: message, channel: self.number)
        self.core.touch(self.connection)
        self.connection.out.appendContent(
            of: message,
            channel: self.number,
            maximumPayload: self.connection.maximumPayload
        )
    }

    // MARK: confirms

    private func confirm(isAccepted: Bool, _ queues: [BrokerQueue]) {
        guard let published = self.published else { return }
        self.published = published + 1
        if self.mail != nil { return self.confirmLater(published + 1, isAccepted: isAccepted, queues) }
        if isAccepted { self.core.touch(self.connection) } else { self.heldNacks.append(published + 1) }
        if !isAccepted { self.core.touch(self.connection) }
    }

    /// Every queue confirms separately; the channel does if there is none.
    private func confirmLater(_ tag: UInt64, isAccepted: Bool, _ queues: [BrokerQueue]) {
        self.disorderedConfirms.published(tag, queues: max(1, queues.count))
        let due = (MonotonicTime(nanoseconds: self.core.now) + self.core.confirmOrder.delay).nanoseconds
        for queue in queues { self.mail?.append(.settled(tag, isAccepted: isAccepted), from: queue, due: due) }
        if queues.isEmpty { self.mail?.append(.settled(tag, isAccepted: isAccepted), from: nil, due: due) }
        self.core.touch(self.connection)
    }

    /// Confirms new publishes, in as few methods as possible.
    func flushConfirms() {
        if self.mail != nil { return self.flushDisorderedConfirms() }
        guard var last = self.published, last > self.confirmed, !self.core.confirmOrder.areHeld else { return }
        if self.core.confirmOrder.delay > .zero {
            guard let due = self.delayed(last) else { return }
            last = due
        } else {
            self.delayedConfirms.removeAll()
        }
        let nacks = self.heldNacks.prefix { $0 <= last }
        for nack in nacks {
            self.acknowledge(upTo: nack - 1)
            self.confirmed = nack
            self.send(.basicNack(.init(deliveryTag: DeliveryTag(nack), multiple: false, requeue: false)))
        }
        self.heldNacks.removeFirst(nacks.count)
        self.acknowledge(upTo: last)
    }

    /// The last publish whose delayed confirm is due; nil if none is.
    private func delayed(_ last: UInt64) -> UInt64? {
        let now = self.core.now
        if last > self.delayedConfirms.last?.upTo ?? self.confirmed {
            let due = MonotonicTime(nanoseconds: now) + self.core.confirmOrder.delay
            self.delayedConfirms.append((last, due.nanoseconds))
            let connection = self.connection
            self.core.loop.schedule(
                BrokerTimer {
                    connection.core.beginTurn()
                    connection.core.touch(connection)
                },
                at: due
            )
        }
        var due: UInt64?
        while let first = self.delayedConfirms.first, first.due <= now {
            due = first.upTo
            self.delayedConfirms.removeFirst()
        }
        return due
    }

    private func acknowledge(upTo tag: UInt64) {
        guard tag > self.confirmed else { return }
        self.send(.basicAck(.init(deliveryTag: DeliveryTag(tag), multiple: tag > self.confirmed + 1)))
        self.confirmed = tag
    }
}
