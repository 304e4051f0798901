// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// BrokerQueue: ready messages, unacknowledged messages, and the choice of the next consumer. No IO and no clock: the time is
// provided by its services, which also perform its decisions: dead letters, timers, serving.
// Unsafe: the reference to the virtual host is unowned; hosts outlive their queues.

/// The services of the broker for queues.
protocol QueueServices: AnyObject {
    /// Monotonic nanoseconds; the same during one turn.
    var now: UInt64 { get }
    /// The release of RabbitMQ whose behaviour the broker has.
    var version: RabbitMQVersion { get }
    /// Schedules the queue to be served before the turn ends.
    func serviceSoon(_ queue: BrokerQueue)
    func deadLetter(_ message: Message, from queue: BrokerQueue, _ reason: DeathReason)
    /// Schedules a call of `timerFired`, replacing an earlier one.
    func setTimer(of queue: BrokerQueue, at deadline: UInt64)
}

/// The reason of a dead-lettering, as in `x-death`.
enum DeathReason: String {
    case rejected
    case expired
    case maximumLength = "maxlen"
    case deliveryLimit = "delivery_limit"
}

final class BrokerQueue {
    let name: String
    let isDurable: Bool
    let isAutoDelete: Bool
    let isExclusive: Bool
    let arguments: FieldTable
    let options: QueueOptions
    /// The connection that declared an exclusive queue; the queue is deleted with it.
    let owner: ObjectIdentifier?
    unowned let host: VirtualHost

    private(set) var ready: ReadyEntries
    /// Number of unacknowledged messages.
    private(set) var unacknowledged = 0
    private(set) var consumers = ConsumerList()
    private(set) var isDeleted = false
    /// True if the queue is scheduled to be served.
    var isServiceDue = false
    var timerDeadline = UInt64.max
    private var nextSequence: UInt64 = 0
    private var canExpire = false
    private var lastUse: UInt64

    init(_ declare: Queue.Declare, name: String, options: QueueOptions, owner: ObjectIdentifier?, host: VirtualHost) {
        self.name = name
        self.isDurable = declare.durable
        self.isAutoDelete = declare.autoDelete
        self.isExclusive = declare.exclusive
        self.arguments = declare.arguments
        self.options = options
        self.owner = declare.exclusive ? owner : nil
        self.host = host
        self.ready = ReadyEntries(options.order, returnsFirst: options.isQuorum)
        self.lastUse = host.services.now
        self.used()
    }

    /// Restarts `x-expires` after a declare, get or consume.
    func used() {
        guard let expires = self.options.expires else { return }
        self.lastUse = self.host.services.now
        self.host.services.setTimer(of: self, at: self.lastUse + expires * 1_000_000)
    }

    /// Ends the queue with its virtual host.
    func forgetConsumers() { self.consumers = ConsumerList() }

    // MARK: in

    /// Enqueues a message, or refuses it because the queue is full.
    func publish(_ message: Message) -> Bool {
        if self.options.isLimited, self.options.overflow != .dropHead, self.isFull(with: message) {
            if self.options.overflow == .rejectPublishAndDeadLetter {
                self.host.services.deadLetter(message, from: self, .maximumLength)
            }
            return false
        }
        var expires = UInt64.max
        if let timeToLive = self.timeToLive(of: message) {
            expires = self.host.services.now + timeToLive * 1_000_000
            self.canExpire = true
        }
        self.append(QueueEntry(message: message, sequence: 0, expires: expires))
        self.host.usedOctets += message.size
        if self.options.isLimited || expires == self.host.services.now {
            self.service()
            self.dropOverflow()
        } else if !self.isServiceDue {
            self.host.services.serviceSoon(self)
        }
        return true
    }

    private func timeToLive(of message: Message) -> UInt64? {
        guard let own = message.header.timeToLive else { return self.options.messageTTL }
        return min(own, self.options.messageTTL ?? own)
    }

    private func isFull(with message: Message) -> Bool {
        if let maximum = self.options.maximumLength, self.ready.count + 1 > maximum { return true }
        guard let maximum = self.options.maximumOctets else { return false }
        return self.ready.octets + message.header.bodyCount > maximum
    }

    private func dropOverflow() {
        while self.ready.count > self.options.maximumLength ?? .max
            || self.ready.octets > self.options.maximumOctets ?? .max
        {
            guard let entry = self.ready.popFirst() else { return }
            self.bury(entry, .maximumLength)
        }
    }

    // MARK: out

    /// Delivers to consumers, and drops expired messages.
    func service() {
        guard !self.isDeleted else { return }
        let now = self.host.services.now
        while self.ready.count > 0,
            let consumer = self.consumers.next(singleActive: self.options.hasSingleActiveConsumer),
            let entry = self.ready.popFirst()
        {
            if entry.expires < now {
                self.bury(entry, .expired)
            } else {
                self.handOut(entry, isAutomatic: consumer.isAutomatic)
                consumer.sink.deliver(entry, to: consumer)
            }
        }
        self.dropExpired()
    }

    private func dropExpired() {
        guard self.canExpire else { return }
        while let entry = self.ready.popExpired(now: self.host.services.now) { self.bury(entry, .expired) }
        let next = self.ready.nextExpiry
        if next < self.timerDeadline { self.host.services.setTimer(of: self, at: next) }
    }

    /// Removes and returns the head, for `basic.get`.
    func take(isAutomatic: Bool) -> QueueEntry? {
        self.service()
        guard let entry = self.ready.popFirst() else { return nil }
        self.handOut(entry, isAutomatic: isAutomatic)
        return entry
    }

    private func handOut(_ entry: QueueEntry, isAutomatic: Bool) {
        if isAutomatic { self.forget(entry) } else { self.unacknowledged += 1 }
    }

    private func forget(_ entry: QueueEntry) { self.host.usedOctets -= entry.message.size }

    private func bury(_ entry: QueueEntry, _ reason: DeathReason) {
        self.forget(entry)
        if self.options.deadLetterExchange != nil {
            self.host.services.deadLetter(entry.message, from: self, reason)
        }
    }

    // MARK: what becomes of what was handed out

    func acknowledged(_ entry: QueueEntry) {
        self.unacknowledged -= 1
        if !self.isDeleted { self.forget(entry) }
    }

    func rejected(_ entry: QueueEntry) {
        self.unacknowledged -= 1
        if !self.isDeleted { self.bury(entry, .rejected) }
    }

    /// Requeues messages.
    ///
    /// A failure, `basic.reject` or the end of the channel, always counts towards the delivery limit; other returns count
    /// in the releases that count them.
    func requeued(_ entries: [QueueEntry], isFailure: Bool) {
        self.unacknowledged -= entries.count
        guard !self.isDeleted else { return }
        let isCounted = isFailure || self.host.version.countsNacks
        var kept: [QueueEntry] = []
        for var entry in entries {
            entry.acquisitions += 1
            entry.isRedelivered = true
            if isCounted { entry.returns += 1 }
            if isCounted, let limit = self.options.deliveryLimit, entry.returns > limit {
                self.bury(entry, .deliveryLimit)
            } else {
                kept.append(entry)
            }
        }
        if self.options.appendsReturns {
            for entry in kept { self.append(entry) }
        } else {
            self.ready.restore(kept)
        }
        self.dropOverflow()
        if !self.isServiceDue { self.host.services.serviceSoon(self) }
    }

    private func append(_ entry: QueueEntry) {
        var entry = entry
        entry.sequence = self.nextSequence
        self.nextSequence += 1
        self.ready.append(entry)
    }

    /// Returns the message as delivered: a quorum queue adds the count of earlier deliveries.
    func message(of entry: QueueEntry, isGet: Bool) -> Message {
        guard self.options.isQuorum else { return entry.message }
        let version = self.host.version
        let tellsZero = isGet && version.tellsZeroDeliveryCount
        guard entry.acquisitions > 0 || tellsZero else { return entry.message }
        var headers = entry.message.properties.headers ?? FieldTable()
        if version.tellsAcquiredCount { headers["x-acquired-count"] = .int64(Int64(entry.acquisitions)) }
        if entry.returns > 0 || tellsZero { headers["x-delivery-count"] = .int64(Int64(entry.returns)) }
        return entry.message.with(headers: headers.sortedByName ?? headers) ?? entry.message
    }

    func purge() -> Int {
        let entries = self.ready.removeAll()
        for entry in entries { self.forget(entry) }
        return entries.count
    }

    /// Loses the messages that a crash of the broker loses: transient ones of a classic queue.
    func loseTransient() {
        guard !self.options.isQuorum else { return }
        let entries = self.ready.removeAll()
        let kept = entries.filter { $0.message.properties.deliveryMode == 2 }
        for entry in entries where entry.message.properties.deliveryMode != 2 { self.forget(entry) }
        self.ready.restore(kept)
    }

    // MARK: consumers and the end

    /// Starts a consumer, unless exclusive use forbids it.
    func add(_ consumer: Consumer) throws(Refusal) {
        let isTaken =
            self.consumers.all.contains { $0.isExclusive } || (consumer.isExclusive && !self.consumers.isEmpty)
        guard !isTaken else {
            throw Refusal(.accessRefused, "queue '\(self.name)' in vhost '\(self.host.name)' in exclusive use")
        }
        self.consumers.add(consumer)
        self.used()
        if !self.isServiceDue { self.host.services.serviceSoon(self) }
    }

    /// Number of consumers in `queue.declare-ok`.
    var consumerCount: Int {
        guard self.options.hasSingleActiveConsumer else { return self.consumers.count }
        return self.consumers.all.count { $0.lateDeliveries == 0 }
    }

    /// Times out deliveries of a consumer: their messages are requeued, and the consumer gets no more
    /// until it is cancelled, or settles them after all.
    func timedOut(_ entries: [QueueEntry], of consumer: Consumer) {
        consumer.lateDeliveries += entries.count
        self.consumers.putLast(consumer)
        self.requeued(entries, isFailure: false)
    }

    func remove(_ consumer: Consumer) {
        self.consumers.remove(consumer)
        self.used()
        if !self.isServiceDue, !self.isDeleted { self.host.services.serviceSoon(self) }
    }

    func timerFired() {
        self.timerDeadline = .max
        guard !self.isDeleted else { return }
        if let expires = self.options.expires, self.consumers.isEmpty {
            let deadline = self.lastUse + expires * 1_000_000
            if deadline <= self.host.services.now { return self.host.delete(self) }
            self.host.services.setTimer(of: self, at: deadline)
        }
        self.service()
    }

    /// Deletes the queue and notifies its consumers.
    func end() {
        guard !self.isDeleted else { return }
        _ = self.purge()
        self.isDeleted = true
        for consumer in self.consumers.all {
            self.consumers.remove(consumer)
            consumer.sink.cancelled(consumer)
        }
    }
}
