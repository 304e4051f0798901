// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollConcurrency

// Declaring, binding and deleting, with RabbitMQ's checks in RabbitMQ's order. `owner` is the requesting connection.

extension VirtualHost {
    // MARK: queues

    /// Returns the queue if it exists and `owner` may use it.
    func queue(_ name: String, for owner: ObjectIdentifier?) throws(Refusal) -> BrokerQueue {
        guard let queue = self.queues[name] else { throw .noQueue(name, self.name) }
        guard !queue.isExclusive || queue.owner == owner else { throw .locked(name, self.name) }
        return queue
    }

    func declare(_ declare: Queue.Declare, for owner: ObjectIdentifier?) throws(Refusal) -> BrokerQueue {
        if declare.passive {
            let queue = try self.queue(declare.queue, for: owner)
            queue.used()
            return queue
        }
        guard !declare.queue.hasPrefix("amq.") else {
            throw Refusal(.accessRefused, "queue name '\(declare.queue)' contains reserved prefix 'amq.*'")
        }
        if let existing = self.queues[declare.queue] {
            try self.requireSame(existing, declare, for: owner)
            existing.used()
            return existing
        }
        let options = try QueueOptions(declare, virtualHost: self.name, version: self.version)
        let name = declare.queue.isEmpty ? Self.generated("amq.gen-") : declare.queue
        let queue = BrokerQueue(declare, name: name, options: options, owner: owner, host: self)
        self.queues[name] = queue
        self.topologyVersion += 1
        return queue
    }

    private func requireSame(_ queue: BrokerQueue, _ declare: Queue.Declare, for owner: ObjectIdentifier?)
        throws(Refusal)
    {
        let name = queue.name
        guard queue.isExclusive == declare.exclusive, !queue.isExclusive || queue.owner == owner else {
            throw .locked(name, self.name)
        }
        guard queue.isDurable == declare.durable else {
            throw .unequal("durable", "queue", name, self.name, new: declare.durable, old: queue.isDurable)
        }
        guard queue.isAutoDelete == declare.autoDelete else {
            throw .unequal("auto_delete", "queue", name, self.name, new: declare.autoDelete, old: queue.isAutoDelete)
        }
        let (old, new) = self.version.withQueueTypes(queue.arguments, declare.arguments)
        try old.requireEquivalent(
            new,
            keys: QueueOptions.comparedKeys,
            "queue",
            name,
            self.name
        )
    }

    /// Returns a unique name: the prefix and 22 characters.
    static func generated(_ prefix: String) -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        var random = RandomNumbers()
        return prefix + String((0..<22).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &random)] })
    }

    /// Deletes a queue and returns the number of its messages.
    func delete(_ delete: Queue.Delete, for owner: ObjectIdentifier?) throws(Refusal) -> Int {
        guard self.queues[delete.queue] != nil else { return 0 }
        let queue = try self.queue(delete.queue, for: owner)
        let title = "queue '\(queue.name)' in vhost '\(self.name)'"
        guard !delete.ifUnused || queue.consumers.isEmpty else {
            throw Refusal(.preconditionFailed, "\(title) in use")
        }
        guard !delete.ifEmpty || queue.ready.count == 0 else {
            throw Refusal(.preconditionFailed, "\(title) not empty")
        }
        let count = queue.ready.count
        self.delete(queue)
        return count
    }

    func delete(_ queue: BrokerQueue) {
        guard self.queues[queue.name] === queue else { return }
        self.queues[queue.name] = nil
        self.topologyVersion += 1
        self.removeBindings(to: queue)
        queue.end()
    }

    // MARK: exchanges

    func declare(_ declare: Exchange.Declare) throws(Refusal) {
        let name = declare.exchange
        guard !name.isEmpty else { throw .defaultExchange }
        if declare.passive {
            guard self.exchanges[name] != nil else { throw .noExchange(name, self.name) }
            return
        }
        let kind = try self.kind(declare.type)
        if let existing = self.exchanges[name] { return try self.requireSame(existing, declare) }
        guard !name.hasPrefix("amq.") else {
            throw Refusal(.accessRefused, "exchange name '\(name)' contains reserved prefix 'amq.*'")
        }
        let alternate = declare.arguments["alternate-exchange"]
        if let alternate, alternate.stringValue == nil {
            throw Refusal(
                .preconditionFailed,
                "invalid type '\(alternate.typeName)' for arg 'alternate-exchange' in exchange '\(name)' in vhost "
                    + "'\(self.name)'"
            )
        }
        self.exchanges[name] = BrokerExchange(
            name: name,
            kind: kind,
            isDurable: declare.durable,
            isAutoDelete: declare.autoDelete,
            isInternal: declare.internal,
            arguments: declare.arguments,
            alternate: alternate?.stringValue
        )
        self.topologyVersion += 1
    }

    private func kind(_ type: String) throws(Refusal) -> ExchangeKind {
        if let kind = ExchangeKind(rawValue: type), self.version.has(kind) { return kind }
        // RabbitMQ treats known names differently.
        let word = type.hasPrefix("x-") ? "unknown" : "invalid"
        throw Refusal(self.version.unknownExchangeTypeCode, "\(word) exchange type '\(type)'")
    }

    private func requireSame(_ exchange: BrokerExchange, _ declare: Exchange.Declare) throws(Refusal) {
        let name = exchange.name
        guard exchange.kind.rawValue == declare.type else {
            let new = "'\(declare.type)'"
            throw .unequal("type", "exchange", name, self.name, new: new, old: "'\(exchange.kind.rawValue)'")
        }
        for (key, old, new) in [
            ("durable", exchange.isDurable, declare.durable),
            ("auto_delete", exchange.isAutoDelete, declare.autoDelete),
            ("internal", exchange.isInternal, declare.internal),
        ] where old != new {
            throw .unequal(key, "exchange", name, self.name, new: new, old: old)
        }
        try exchange.arguments.requireEquivalent(
            declare.arguments,
            keys: ["alternate-exchange"],
            "exchange",
            name,
            self.name
        )
    }

    func delete(_ delete: Exchange.Delete) throws(Refusal) {
        guard !delete.exchange.isEmpty else { throw .defaultExchange }
        guard let exchange = self.exchanges[delete.exchange] else { return }
        let title = "exchange '\(exchange.name)' in vhost '\(self.name)'"
        guard !exchange.name.hasPrefix("amq.") else {
            throw Refusal(.accessRefused, "deletion of system \(title) not allowed")
        }
        guard !delete.ifUnused || exchange.bindings.isEmpty else {
            throw Refusal(.preconditionFailed, "\(title) in use")
        }
        self.delete(exchange)
    }

    fileprivate func delete(_ exchange: BrokerExchange) {
        self.exchanges[exchange.name] = nil
        self.topologyVersion += 1
        self.removeBindings(to: exchange)
    }

    // MARK: bindings

    func bind(_ bind: Queue.Bind, for owner: ObjectIdentifier?) throws(Refusal) {
        guard !bind.exchange.isEmpty else { throw .defaultExchange }
        let queue = try self.queue(bind.queue, for: owner)
        guard let exchange = self.exchanges[bind.exchange] else { throw .noExchange(bind.exchange, self.name) }
        try exchange.bind(.queue(queue), bind.routingKey, bind.arguments)
        self.topologyVersion += 1
    }

    func unbind(_ unbind: Queue.Unbind, for owner: ObjectIdentifier?) throws(Refusal) {
        guard !unbind.exchange.isEmpty else { throw .defaultExchange }
        guard self.queues[unbind.queue] != nil else { return }
        let queue = try self.queue(unbind.queue, for: owner)
        guard let exchange = self.exchanges[unbind.exchange] else { return }
        self.remove(from: exchange) { $0.isSame(.queue(queue), unbind.routingKey, unbind.arguments) }
    }

    func bind(_ bind: Exchange.Bind) throws(Refusal) {
        guard !bind.source.isEmpty, !bind.destination.isEmpty else { throw .defaultExchange }
        guard let destination = self.exchanges[bind.destination] else {
            throw .noExchange(bind.destination, self.name)
        }
        guard let source = self.exchanges[bind.source] else { throw .noExchange(bind.source, self.name) }
        try source.bind(.exchange(destination), bind.routingKey, bind.arguments)
        self.topologyVersion += 1
    }

    func unbind(_ unbind: Exchange.Unbind) throws(Refusal) {
        guard !unbind.source.isEmpty, !unbind.destination.isEmpty else { throw .defaultExchange }
        guard let destination = self.exchanges[unbind.destination], let source = self.exchanges[unbind.source] else {
            return
        }
        self.remove(from: source) { $0.isSame(.exchange(destination), unbind.routingKey, unbind.arguments) }
    }

    /// Deletes an auto-delete exchange with the last binding from it.
    private func remove(from exchange: BrokerExchange, where body: (BrokerExchange.Binding) -> Bool) {
        guard exchange.unbind(where: body) else { return }
        self.topologyVersion += 1
        if exchange.isAutoDelete, exchange.bindings.isEmpty { self.delete(exchange) }
    }

    private func removeBindings(to destination: AnyObject) {
        for exchange in self.exchanges.sorted(by: { $0.key < $1.key }).map(\.value) {
            self.remove(from: exchange) { $0.destination.object === destination }
        }
    }
}

extension VirtualHost {
    /// Loses what a crash of the broker loses.
    func lose() {
        for queue in self.queues.sorted(by: { $0.key < $1.key }).map(\.value) {
            if queue.isDurable, !queue.isExclusive { queue.loseTransient() } else { self.delete(queue) }
        }
        for exchange in self.exchanges.sorted(by: { $0.key < $1.key }).map(\.value) where !exchange.isDurable {
            self.delete(exchange)
        }
    }
}
