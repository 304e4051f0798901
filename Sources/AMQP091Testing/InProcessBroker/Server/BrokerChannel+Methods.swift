// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Methods on an open channel, and their replies.

extension BrokerChannel {
    func received(_ method: Method) throws(Refusal) {
        if self.isClosing {
            switch method {
            case .channelClose: self.send(.channelCloseOk(.init()))
            case .channelCloseOk: self.connection.channels[self.number] = nil
            default: break
            }
            return
        }
        if self.assembling != nil, !Self.isClose(method) {
            throw Refusal(
                .unexpectedFrame,
                "expected content header for class 60, got non content header frame instead"
            )
        }
        if self.isCommitting, method.id != Channel.Close.id { throw Self.committing }
        switch method {
        case .channelOpen: throw Refusal(.channelError, "second 'channel.open' seen")
        case .channelClose:
            self.flushConfirms()
            self.end()
            self.send(.channelCloseOk(.init()))
            self.connection.channels[self.number] = nil
        case .channelFlow(let flow):
            guard flow.active else { throw Refusal(.notImplemented, "active=false") }
            self.send(.channelFlowOk(.init(active: true)))
        case .exchangeDeclare, .exchangeDelete, .exchangeBind, .exchangeUnbind: try self.receivedExchange(method)
        case .queueDeclare, .queueBind, .queuePurge, .queueDelete, .queueUnbind: try self.receivedQueue(method)
        case .confirmSelect(let select):
            guard self.transaction == nil else {
                throw Refusal(.preconditionFailed, "cannot switch from tx to confirm mode")
            }
            if self.published == nil { self.published = 0 }
            if !select.noWait { self.send(.confirmSelectOk(.init())) }
        case .txSelect, .txCommit, .txRollback: try self.receivedTransaction(method)
        default: try self.receivedBasic(method)
        }
    }

    static let committing = Refusal(.channelError, "unexpected command while processing 'tx.commit'")

    private static func isClose(_ method: Method) -> Bool {
        switch method {
        case .channelClose, .channelCloseOk: true
        default: false
        }
    }

    // MARK: exchange

    private func receivedExchange(_ method: Method) throws(Refusal) {
        switch method {
        case .exchangeDeclare(let declare):
            try self.host.declare(declare)
            if !declare.noWait { self.send(.exchangeDeclareOk(.init())) }
        case .exchangeDelete(let delete):
            try self.host.delete(delete)
            if !delete.noWait { self.send(.exchangeDeleteOk(.init())) }
        case .exchangeBind(let bind):
            try self.host.bind(bind)
            if !bind.noWait { self.send(.exchangeBindOk(.init())) }
        case .exchangeUnbind(let unbind):
            try self.host.unbind(unbind)
            if !unbind.noWait { self.send(.exchangeUnbindOk(.init())) }
        default: break
        }
    }

    // MARK: queue

    /// Returns the name, or for an empty one the queue declared last on this channel.
    private func named(_ name: String) throws(Refusal) -> String {
        if !name.isEmpty { return name }
        guard let current = self.currentQueue else { throw Refusal(.notFound, "no previously declared queue") }
        return current
    }

    private func receivedQueue(_ method: Method) throws(Refusal) {
        switch method {
        case .queueDeclare(let declare): try self.received(declare)
        case .queueBind(var bind):
            bind.queue = try self.named(bind.queue)
            try self.host.bind(bind, for: ObjectIdentifier(self.connection))
            if !bind.noWait { self.send(.queueBindOk(.init())) }
        case .queueUnbind(var unbind):
            unbind.queue = try self.named(unbind.queue)
            try self.host.unbind(unbind, for: ObjectIdentifier(self.connection))
            self.send(.queueUnbindOk(.init()))
        case .queuePurge(let purge):
            let queue = try self.host.queue(try self.named(purge.queue), for: ObjectIdentifier(self.connection))
            queue.service()
            let count = queue.purge()
            if !purge.noWait { self.send(.queuePurgeOk(.init(messageCount: UInt32(clamping: count)))) }
        case .queueDelete(var delete):
            delete.queue = try self.named(delete.queue)
            self.host.queues[delete.queue]?.service()
            let count = try self.host.delete(delete, for: ObjectIdentifier(self.connection))
            if !delete.noWait { self.send(.queueDeleteOk(.init(messageCount: UInt32(clamping: count)))) }
        default: break
        }
    }

    private func received(_ declare: Queue.Declare) throws(Refusal) {
        // A passive declaration of the pseudo-queue of direct replies shows whether its consumer exists.
        if declare.queue == VirtualHost.replyQueue || declare.queue.hasPrefix(VirtualHost.replyQueue + ".") {
            let isThere =
                declare.queue == VirtualHost.replyQueue || self.host.replyConsumers[declare.queue] != nil
            guard isThere else { throw .noQueue(declare.queue, self.host.name) }
            let ok = Queue.DeclareOk(queue: declare.queue, messageCount: 0, consumerCount: 1)
            return self.send(.queueDeclareOk(ok))
        }
        let queue = try self.host.declare(declare, for: ObjectIdentifier(self.connection))
        self.currentQueue = queue.name
        queue.service()
        guard !declare.noWait else { return }
        let ok = Queue.DeclareOk(
            queue: queue.name,
            messageCount: UInt32(clamping: queue.ready.count),
            consumerCount: UInt32(clamping: queue.consumerCount)
        )
        self.send(.queueDeclareOk(ok))
    }

    // MARK: basic

    private func receivedBasic(_ method: Method) throws(Refusal) {
        switch method {
        case .basicPublish(let publish): try self.begin(publish)
        case .basicAck(let ack):
            try self.settle(ack.deliveryTag.rawValue, multiple: ack.multiple, .acknowledge)
        case .basicNack(let nack):
            try self.settle(nack.deliveryTag.rawValue, multiple: nack.multiple, nack.requeue ? .requeue : .reject)
        case .basicReject(let reject):
            try self.settle(reject.deliveryTag.rawValue, multiple: false, reject.requeue ? .fail : .reject)
        case .basicQos(let qos):
            guard qos.prefetchSize == 0 else {
                throw Refusal(.notImplemented, "prefetch_size!=0 (\(qos.prefetchSize))")
            }
            if qos.global, self.core.version.hasGlobalPrefetch {
                self.channelPrefetch = Int(qos.prefetchCount)
            } else {
                self.prefetch = Int(qos.prefetchCount)
            }
            self.send(.basicQosOk(.init()))
            self.serveConsumers()
        case .basicConsume(let consume): try self.received(consume)
        case .basicCancel(let cancel):
            let consumer = self.consumers[cancel.consumerTag]
            if let consumer { self.remove(consumer) }
            if cancel.noWait { break }
            if let consumer, !consumer.queue.isDeleted, self.mail != nil {
                self.mail?.append(.cancelOk(tag: cancel.consumerTag), from: consumer.queue)
                self.core.touch(self.connection)
            } else {
                self.send(.basicCancelOk(.init(consumerTag: cancel.consumerTag)))
            }
        // A client that answers the broker's cancel, although no reply is expected.
        case .basicCancelOk: break
        case .basicGet(let get):
            self.get(get, from: try self.host.queue(try self.named(get.queue), for: ObjectIdentifier(self.connection)))
        case .basicRecover(let recover):
            try self.recover(requeue: recover.requeue)
            self.send(.basicRecoverOk(.init()))
        case .basicRecoverAsync(let recover): try self.recover(requeue: recover.requeue)
        default: throw Refusal(.commandInvalid, "unimplemented method")
        }
    }

    private func recover(requeue: Bool) throws(Refusal) {
        guard requeue else { throw Refusal(.notImplemented, "requeue=false") }
        self.requeueAll(.requeue)
    }

    private func received(_ consume: Basic.Consume) throws(Refusal) {
        guard self.consumers[consume.consumerTag] == nil else {
            throw Refusal(.notAllowed, "attempt to reuse consumer tag '\(consume.consumerTag)'")
        }
        let tag = consume.consumerTag.isEmpty ? VirtualHost.generated("amq.ctag-") : consume.consumerTag
        if consume.queue == VirtualHost.replyQueue { return try self.consumeReplies(consume, tag: tag) }
        let queue = try self.host.queue(try self.named(consume.queue), for: ObjectIdentifier(self.connection))
        if queue.options.isQuorum, self.channelPrefetch > 0 {
            throw Refusal(
                .notImplemented,
                "queue '\(queue.name)' in vhost '\(self.host.name)' does not support global qos"
            )
        }
        let (priority, timeout) = try self.arguments(of: consume, queue)
        let consumer = Consumer(
            tag: tag,
            queue: queue,
            isAutomatic: consume.noAck,
            isExclusive: consume.exclusive,
            priority: priority,
            prefetch: self.prefetch,
            arguments: consume.arguments,
            timeout: timeout,
            sink: self
        )
        try queue.add(consumer)
        self.consumers[tag] = consumer
        if consume.noWait { return }
        if self.mail == nil {
            self.send(.basicConsumeOk(.init(consumerTag: tag)))
        } else {
            self.mail?.append(.consumeOk(tag: tag), from: queue)
            self.core.touch(self.connection)
        }
    }

    private func arguments(
        of consume: Basic.Consume,
        _ queue: BrokerQueue
    ) throws(Refusal) -> (priority: Int64, timeout: UInt64?) {
        func invalid(_ name: String, _ reason: String) -> Refusal {
            let head = "invalid arg '\(name)' for queue '\(queue.name)' in vhost '\(self.host.name)'"
            return Refusal(.preconditionFailed, head + reason)
        }
        func number(_ name: String) throws(Refusal) -> Int64? {
            guard let value = consume.arguments[name] else { return nil }
            guard let number = value.integerValue else {
                throw invalid(name, ": \"expected integer, got \(value.typeName)\"")
            }
            return number
        }
        let priority = try number("x-priority") ?? 0
        guard self.core.version.cancelsLateConsumers, consume.arguments["x-consumer-timeout"] != nil else {
            return (priority, nil)
        }
        guard queue.options.isQuorum else {
            throw invalid("x-consumer-timeout", " of queue type rabbit_classic_queue")
        }
        let timeout = try number("x-consumer-timeout") ?? 0
        guard timeout >= 0 else { throw invalid("x-consumer-timeout", ": {value_negative,\(timeout)}") }
        return (priority, min(UInt64(timeout), QueueOptions.ceiling))
    }

    /// Direct reply-to: a consumer without a queue.
    private func consumeReplies(_ consume: Basic.Consume, tag: String) throws(Refusal) {
        guard consume.noAck else { throw Refusal(.preconditionFailed, "reply consumer cannot acknowledge") }
        guard self.replyConsumer == nil else { throw Refusal(.preconditionFailed, "reply consumer already set") }
        let name = VirtualHost.generated(VirtualHost.replyQueue + ".")
        let declare = Queue.Declare(queue: name, durable: true)
        let queue = BrokerQueue(
            declare,
            name: name,
            options: try QueueOptions(declare, virtualHost: self.host.name, version: self.core.version),
            owner: nil,
            host: self.host
        )
        let consumer = Consumer(
            tag: tag,
            queue: queue,
            isAutomatic: true,
            isExclusive: false,
            priority: 0,
            prefetch: 0,
            arguments: [:],
            sink: self
        )
        self.replyConsumer = consumer
        self.consumers[tag] = consumer
        self.host.replyConsumers[name] = consumer
        if !consume.noWait { self.send(.basicConsumeOk(.init(consumerTag: tag))) }
    }
}
