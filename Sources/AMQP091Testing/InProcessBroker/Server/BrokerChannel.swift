// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import DequeModule
import EpollConcurrency
import EpollNetworking

// BrokerChannel: one open channel: its consumers, unacknowledged deliveries, confirms or transaction.
// Unsafe: the reference to the connection is unowned; a channel is used by its connection only, and ends with it.
// Here: deliveries, settling, the end. Methods: BrokerChannel+Methods. Publishing and contents: BrokerChannel+Publish.

final class BrokerChannel: DeliverySink {
    let number: UInt16
    unowned let connection: BrokerConnection
    let host: VirtualHost
    var core: BrokerCore { self.connection.core }

    var consumers: [String: Consumer] = [:]
    private(set) var unacknowledged = UnackedDeliveries()
    private var nextTag: UInt64 = 1
    /// Prefetch of consumers started later; 0 for no limit.
    var prefetch = 0
    /// Prefetch of all consumers of the channel together; 0 for no limit.
    var channelPrefetch = 0
    /// The queue that an empty name means.
    var currentQueue: String?
    var replyConsumer: Consumer?
    /// channel.close was sent; only close-ok is processed.
    private(set) var isClosing = false

    /// A commit is under way; RabbitMQ accepts no other method until its reply.
    var isCommitting = false
    /// Events of queues that were not forwarded yet; nil without a seed for disorder.
    var mail: ChannelMail?
    var mailTimer: TimerID?
    var isMailDue = false
    var disorderedConfirms = DisorderedConfirms()
    /// Number of deliveries in `mail` that need an acknowledgement.
    var pendingDeliveries = 0
    /// Number of publishes of a commit that queues have not accepted yet.
    var openCommits = 0
    /// Fires when the next delivery times out.
    private var lateTimer: (timer: TimerID, due: UInt64)?

    /// Number of publishes in confirm mode; nil otherwise.
    var published: UInt64?
    /// The last publish that was confirmed.
    var confirmed: UInt64 = 0
    var heldNacks: [UInt64] = []
    /// Publishes with delayed confirms.
    var delayedConfirms = Deque<(upTo: UInt64, due: UInt64)>()
    var transaction: Transaction?
    var assembling: AssemblingPublish?
    /// The fault of the publish that is being assembled.
    var contentOrder: InProcessBroker.MethodOrder?
    var lastRoute: PublishRoute?
    var lastTraits: (octets: [UInt8], traits: MessageTraits)?

    init(number: UInt16, connection: BrokerConnection, host: VirtualHost) {
        self.number = number
        self.connection = connection
        self.host = host
        self.mail = connection.core.options.disorderSeed.map {
            ChannelMail(seed: $0, connection: connection.number, channel: number)
        }
    }

    // MARK: deliveries

    func hasRoom(for consumer: Consumer) -> Bool {
        let held = self.unacknowledged.count + self.pendingDeliveries
        guard consumer.isAutomatic || self.channelPrefetch == 0 || held < self.channelPrefetch else { return false }
        if self.mail?.count ?? 0 > Self.mailBound {
            self.connection.isStarved = true
            return false
        }
        return self.connection.hasRoom
    }

    /// Number of waiting events above which consumers are skipped.
    private static let mailBound = 1000

    func deliver(_ entry: QueueEntry, to consumer: Consumer) {
        if !consumer.isAutomatic { consumer.unacknowledged += 1 }
        guard self.mail == nil else {
            if !consumer.isAutomatic { self.pendingDeliveries += 1 }
            self.mail?.append(.deliver(entry, consumer), from: consumer.queue)
            return self.core.touch(self.connection)
        }
        self.write(entry, to: consumer)
    }

    /// Sends a delivery that waited in the mail.
    func passOn(_ entry: QueueEntry, to consumer: Consumer) {
        if !consumer.isAutomatic { self.pendingDeliveries -= 1 }
        self.write(entry, to: consumer)
    }

    private func write(_ entry: QueueEntry, to consumer: Consumer) {
        let tag = self.nextTag
        self.nextTag += 1
        self.connection.out.appendDelivery(
            of: consumer.queue.message(of: entry, isGet: false),
            channel: self.number,
            consumerTag: consumer.tagOctets,
            tag: tag,
            redelivered: entry.isRedelivered,
            maximumPayload: self.connection.maximumPayload
        )
        if !consumer.isAutomatic {
            self.keep(UnackedDelivery(tag: tag, entry: entry, queue: consumer.queue, consumer: consumer))
        }
        self.core.touch(self.connection)
    }

    private func keep(_ delivery: UnackedDelivery) {
        var delivery = delivery
        delivery.deliveredAt = self.core.now
        self.unacknowledged.append(delivery)
        if let due = self.dueTime(of: delivery) { self.watchLate(at: due) }
    }

    /// Answers `basic.get`.
    func get(_ get: Basic.Get, from queue: BrokerQueue) {
        guard let entry = queue.take(isAutomatic: get.noAck) else { return self.send(.basicGetEmpty(.init())) }
        let message = queue.message(of: entry, isGet: true)
        let tag = self.nextTag
        self.nextTag += 1
        self.connection.out.appendGetOk(
            of: entry.message,
            channel: self.number,
            tag: tag,
            redelivered: entry.isRedelivered,
            messageCount: UInt32(clamping: queue.ready.count)
        )
        self.core.touch(self.connection)
        self.connection.out.appendContent(
            of: message,
            channel: self.number,
            maximumPayload: self.connection.maximumPayload
        )
        if !get.noAck { self.keep(UnackedDelivery(tag: tag, entry: entry, queue: queue, consumer: nil)) }
    }

    func cancelled(_ consumer: Consumer) {
        guard self.mail == nil else {
            self.mail?.append(.cancelled(consumer), from: consumer.queue)
            return self.core.touch(self.connection)
        }
        self.tellCancelled(consumer)
    }

    func tellCancelled(_ consumer: Consumer) {
        self.consumers[consumer.tag] = nil
        self.tellLate(consumer)
    }

    /// Sends `basic.cancel`.
    func tellLate(_ consumer: Consumer) {
        guard self.connection.hasCapability("consumer_cancel_notify") else { return }
        self.send(.basicCancel(.init(consumerTag: consumer.tag, noWait: true)))
    }

    /// Schedules the queues of its consumers: there is room now.
    func serveConsumers() {
        for consumer in self.core.inOrder(self.consumers) where !consumer.queue.isServiceDue {
            self.core.serviceSoon(consumer.queue)
        }
    }

    // MARK: late acknowledgements

    /// The time at which a delivery times out; nil for never.
    private func dueTime(of delivery: UnackedDelivery) -> UInt64? {
        var timeout = self.core.consumerTimeout
        if self.core.version.cancelsLateConsumers {
            guard delivery.queue.options.isQuorum else { return nil }
            timeout = delivery.consumer?.timeout ?? delivery.queue.options.consumerTimeout ?? timeout
        }
        guard let timeout else { return nil }
        let (due, overflow) = delivery.deliveredAt.addingReportingOverflow(timeout * 1_000_000)
        return overflow ? nil : due
    }

    private func watchLate(at due: UInt64) {
        if let (timer, known) = self.lateTimer {
            guard due < known else { return }
            self.core.loop.cancel(timer)
        }
        let timer = self.core.loop.schedule(
            BrokerTimer { [self] in
                self.lateTimer = nil
                self.core.beginTurn()
                self.checkLate()
            },
            at: MonotonicTime(nanoseconds: due)
        )
        self.lateTimer = (timer, due)
    }

    /// Handles timed-out deliveries, and all of `queue` as if they were.
    func checkLate(as queue: BrokerQueue? = nil) {
        guard !self.isClosing else { return }
        let now = self.core.now
        var late: [UnackedDelivery] = []
        var next = UInt64.max
        self.unacknowledged.forEach { delivery in
            guard !delivery.isLate else { return }
            let due = self.dueTime(of: delivery)
            if due ?? .max <= now || delivery.queue === queue {
                late.append(delivery)
            } else {
                next = min(next, due ?? .max)
            }
        }
        if next < .max { self.watchLate(at: next) }
        guard let first = late.first else { return }
        guard self.core.version.cancelsLateConsumers, !late.contains(where: { $0.consumer == nil }) else {
            let milliseconds =
                first.consumer == nil && self.core.version.cancelsLateConsumers
                ? "-1" : "\(self.core.consumerTimeout ?? 0)"
            let refusal = Refusal(
                .preconditionFailed,
                "delivery acknowledgement on channel \(self.number) timed out. Timeout value used: \(milliseconds) ms. "
                    + "This timeout value can be configured, see consumers doc guide to learn more"
            )
            return self.close(refusal, nil)
        }
        let tags = Set(late.filter { $0.queue.options.isQuorum }.map(\.tag))
        self.unacknowledged.markLate { tags.contains($0.tag) }
        for delivery in late where tags.contains(delivery.tag) {
            guard let consumer = delivery.consumer else { continue }
            delivery.queue.timedOut([delivery.entry], of: consumer)
            if self.mail == nil {
                self.tellLate(consumer)
            } else {
                self.mail?.append(.late(consumer), from: consumer.queue)
                self.core.touch(self.connection)
            }
        }
    }

    /// Applies a changed acknowledgement timeout.
    func watchLateAgain() {
        if let (timer, _) = self.lateTimer.take() { self.core.loop.cancel(timer) }
        self.checkLate()
    }

    // MARK: settling

    enum Settlement {
        /// `basic.ack`.
        case acknowledge
        /// Without requeue.
        case reject
        /// `basic.nack` with requeue, and `basic.recover`.
        case requeue
        /// `basic.reject` with requeue, and the end of the channel.
        case fail
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

    /// The common case, without a list of settled deliveries.
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
        guard !delivery.isLate else { return self.settledLate(delivery) }
        delivery.queue.acknowledged(delivery.entry)
        guard let consumer = delivery.consumer else { return }
        consumer.unacknowledged -= 1
        if !consumer.queue.isServiceDue { self.core.serviceSoon(consumer.queue) }
    }

    /// Settles a timed-out delivery, whose message was requeued; the consumer resumes when all are settled.
    private func settledLate(_ delivery: UnackedDelivery) {
        guard let consumer = delivery.consumer else { return }
        consumer.unacknowledged -= 1
        consumer.lateDeliveries -= 1
        if !consumer.queue.isServiceDue { self.core.serviceSoon(consumer.queue) }
    }

    func settle(_ deliveries: [UnackedDelivery], _ settlement: Settlement) {
        var returned: [(queue: BrokerQueue, entries: [QueueEntry])] = []
        for delivery in deliveries {
            guard !delivery.isLate else {
                self.settledLate(delivery)
                continue
            }
            switch settlement {
            case .acknowledge: delivery.queue.acknowledged(delivery.entry)
            case .reject: delivery.queue.rejected(delivery.entry)
            case .requeue, .fail:
                if let index = returned.firstIndex(where: { $0.queue === delivery.queue }) {
                    returned[index].entries.append(delivery.entry)
                } else {
                    returned.append((delivery.queue, [delivery.entry]))
                }
            }
            guard let consumer = delivery.consumer else { continue }
            consumer.unacknowledged -= 1
            if !consumer.queue.isServiceDue { self.core.serviceSoon(consumer.queue) }
        }
        for (queue, entries) in returned { queue.requeued(entries, isFailure: settlement == .fail) }
        if self.channelPrefetch > 0 { self.serveConsumers() }
    }

    /// Discards settlements of a transaction.
    func restore(_ deliveries: [UnackedDelivery]) { self.unacknowledged.restore(deliveries) }

    func requeueAll(_ settlement: Settlement) {
        var taken: [UnackedDelivery] = []
        self.unacknowledged.take(upTo: .max) { taken.append($0) }
        self.settle(taken, settlement)
    }

    // MARK: the end

    func send(_ method: Method) { self.connection.send(method, on: self.number) }

    /// Ends a consumer; an auto-delete queue is deleted with its last one.
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

    /// Requeues all unacknowledged deliveries.
    func end() {
        for consumer in self.core.inOrder(self.consumers) { self.remove(consumer) }
        for (deliveries, _) in self.transaction?.settled ?? [] { self.unacknowledged.restore(deliveries) }
        self.host.usedOctets -= self.transaction?.octets ?? 0
        self.transaction = nil
        self.assembling = nil
        self.contentOrder = nil
        self.isCommitting = false
        self.dropMail()
        self.requeueAll(.fail)
        if let (timer, _) = self.lateTimer.take() { self.core.loop.cancel(timer) }
    }

    /// Sends channel.close, and ignores the channel until close-ok.
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
