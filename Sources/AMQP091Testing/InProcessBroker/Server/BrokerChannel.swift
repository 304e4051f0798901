// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import DequeModule

// BrokerChannel: one opening of one channel: its consumers, what it holds, its confirms or its transaction.
// Unsafe: the reference to the connection is not counted; a channel is used by its connection only, and ends with it.
// Here: deliveries, settling, the end. Methods: BrokerChannel+Methods. Publishing and contents: BrokerChannel+Publish.

final class BrokerChannel: DeliverySink {
    let number: UInt16
    unowned(unsafe) let connection: BrokerConnection
    let host: VirtualHost
    var core: BrokerCore { self.connection.core }

    var consumers: [String: Consumer] = [:]
    private(set) var unacknowledged = UnackedDeliveries()
    private var nextTag: UInt64 = 1
    /// Of consumers started from now on; 0 for no limit.
    var prefetch = 0
    /// Of all consumers of the channel together; 0 for no limit.
    var channelPrefetch = 0
    /// What an empty queue name stands for.
    var currentQueue: String?
    var replyConsumer: Consumer?
    /// We have sent channel.close; only its answer counts.
    private(set) var isClosing = false

    /// Publishes so far, in confirm mode; nil out of it.
    var published: UInt64?
    /// The last publish that was confirmed.
    var confirmed: UInt64 = 0
    var heldNacks: [UInt64] = []
    /// Publishes whose confirms were ordered to come later.
    var delayedConfirms = Deque<(upTo: UInt64, due: UInt64)>()
    var transaction: Transaction?
    var assembling: AssemblingPublish?
    /// What was ordered about the publish that is being put together.
    var contentOrder: InProcessBroker.MethodOrder?
    var lastRoute: PublishRoute?
    var lastTraits: (octets: [UInt8], traits: MessageTraits)?

    init(number: UInt16, connection: BrokerConnection, host: VirtualHost) {
        self.number = number
        self.connection = connection
        self.host = host
    }

    // MARK: deliveries

    func hasRoom(for consumer: Consumer) -> Bool {
        guard consumer.isAutomatic || self.channelPrefetch == 0 || self.unacknowledged.count < self.channelPrefetch
        else { return false }
        return self.connection.hasRoom
    }

    func deliver(_ entry: QueueEntry, to consumer: Consumer) {
        let tag = self.nextTag
        self.nextTag += 1
        self.connection.out.appendDelivery(
            of: entry.message,
            channel: self.number,
            consumerTag: consumer.tagOctets,
            tag: tag,
            redelivered: entry.isRedelivered,
            maximumPayload: self.connection.maximumPayload
        )
        if !consumer.isAutomatic {
            consumer.unacknowledged += 1
            self.unacknowledged.append(
                UnackedDelivery(tag: tag, entry: entry, queue: consumer.queue, consumer: consumer)
            )
        }
        self.core.touch(self.connection)
    }

    /// Answers `basic.get`.
    func get(_ get: Basic.Get, from queue: BrokerQueue) {
        guard let entry = queue.take(isAutomatic: get.noAck) else { return self.send(.basicGetEmpty(.init())) }
        let tag = self.nextTag
        self.nextTag += 1
        let (exchange, routingKey) = entry.message.route
        let ok = Basic.GetOk(
            deliveryTag: DeliveryTag(tag),
            redelivered: entry.isRedelivered,
            exchange: exchange,
            routingKey: routingKey,
            messageCount: UInt32(clamping: queue.ready.count)
        )
        self.send(.basicGetOk(ok))
        self.connection.out.appendContent(
            of: entry.message,
            channel: self.number,
            maximumPayload: self.connection.maximumPayload
        )
        if !get.noAck {
            self.unacknowledged.append(UnackedDelivery(tag: tag, entry: entry, queue: queue, consumer: nil))
        }
    }

    func cancelled(_ consumer: Consumer) {
        self.consumers[consumer.tag] = nil
        guard self.connection.hasCapability("consumer_cancel_notify") else { return }
        self.send(.basicCancel(.init(consumerTag: consumer.tag, noWait: true)))
    }

    /// The queues of its consumers have to look again: there is room now.
    func serveConsumers() {
        for consumer in self.consumers.values where !consumer.queue.isServiceDue {
            self.core.serviceSoon(consumer.queue)
        }
    }

    // MARK: settling

    enum Settlement {
        case acknowledge, reject, requeue
    }

    func settle(_ tag: UInt64, multiple: Bool, _ settlement: Settlement) throws(Refusal) {
        if settlement == .acknowledge, self.transaction == nil {
            return try self.acknowledge(tag, multiple: multiple)
        }
        var taken: [UnackedDelivery] = []
        if multiple, tag == 0 {
            self.unacknowledged.take(upTo: .max) { taken.append($0) }
        } else {
            guard let last = self.unacknowledged.take(tag) else {
                throw Refusal(.preconditionFailed, "unknown delivery tag \(tag)")
            }
            if multiple { self.unacknowledged.take(upTo: tag) { taken.append($0) } }
            taken.append(last)
        }
        if self.transaction != nil {
            self.transaction?.settled.append((taken, settlement))
        } else {
            self.settle(taken, settlement)
        }
    }

    /// The common case, without a list of what is settled.
    private func acknowledge(_ tag: UInt64, multiple: Bool) throws(Refusal) {
        if multiple, tag == 0 {
            self.unacknowledged.take(upTo: .max) { self.acknowledged($0) }
        } else {
            guard let last = self.unacknowledged.take(tag) else {
                throw Refusal(.preconditionFailed, "unknown delivery tag \(tag)")
            }
            if multiple { self.unacknowledged.take(upTo: tag) { self.acknowledged($0) } }
            self.acknowledged(last)
        }
        if self.channelPrefetch > 0 { self.serveConsumers() }
    }

    private func acknowledged(_ delivery: UnackedDelivery) {
        delivery.queue.acknowledged(delivery.entry)
        guard let consumer = delivery.consumer else { return }
        consumer.unacknowledged -= 1
        if !consumer.queue.isServiceDue { self.core.serviceSoon(consumer.queue) }
    }

    func settle(_ deliveries: [UnackedDelivery], _ settlement: Settlement) {
        var returned: [ObjectIdentifier: (BrokerQueue, [QueueEntry])] = [:]
        for delivery in deliveries {
            switch settlement {
            case .acknowledge: delivery.queue.acknowledged(delivery.entry)
            case .reject: delivery.queue.rejected(delivery.entry)
            case .requeue:
                returned[ObjectIdentifier(delivery.queue), default: (delivery.queue, [])].1.append(delivery.entry)
            }
            guard let consumer = delivery.consumer else { continue }
            consumer.unacknowledged -= 1
            if !consumer.queue.isServiceDue { self.core.serviceSoon(consumer.queue) }
        }
        for (queue, entries) in returned.values { queue.requeued(entries) }
        if self.channelPrefetch > 0 { self.serveConsumers() }
    }

    /// Takes settlements back that a transaction had kept.
    func restore(_ deliveries: [UnackedDelivery]) { self.unacknowledged.restore(deliveries) }

    func requeueAll() {
        var taken: [UnackedDelivery] = []
        self.unacknowledged.take(upTo: .max) { taken.append($0) }
        self.settle(taken, .requeue)
    }

    // MARK: the end

    func send(_ method: Method) { self.connection.send(method, on: self.number) }

    /// Ends a consumer; an auto-delete queue goes with its last one.
    func remove(_ consumer: Consumer) {
        self.consumers[consumer.tag] = nil
        if self.replyConsumer === consumer {
            self.replyConsumer = nil
            self.host.replyConsumers[consumer.queue.name] = nil
            return
        }
        consumer.queue.remove(consumer)
        if consumer.queue.isAutoDelete, consumer.queue.consumers.isEmpty { self.host.delete(consumer.queue) }
    }

    /// Gives everything back.
    func end() {
        for consumer in Array(self.consumers.values) { self.remove(consumer) }
        for (deliveries, _) in self.transaction?.settled ?? [] { self.unacknowledged.restore(deliveries) }
        self.host.usedOctets -= self.transaction?.octets ?? 0
        self.transaction = nil
        self.assembling = nil
        self.contentOrder = nil
        self.requeueAll()
    }

    /// Tells the client why the channel ends, and ignores it until it has answered.
    func close(_ refusal: Refusal, _ method: MethodID?) {
        guard !self.isClosing else { return }
        self.flushConfirms()
        self.end()
        self.isClosing = true
        self.published = nil
        let close = Channel.Close(
            replyCode: refusal.code,
            replyText: refusal.text,
            classID: method?.classID ?? 0,
            methodID: method?.methodID ?? 0
        )
        self.send(.channelClose(close))
    }
}
