// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// VirtualHost: exchanges and queues by name, and routing. Declarations, bindings and
// deletions are in VirtualHost+Topology.

final class VirtualHost {
    let name: String
    /// Unowned: the broker owns its virtual hosts.
    unowned let services: any QueueServices
    var exchanges: [String: BrokerExchange] = [:]
    var queues: [String: BrokerQueue] = [:]
    /// Total size of messages in the queues, in octets.
    var usedOctets = 0
    /// Incremented by every change of exchanges, queues and bindings, which invalidates cached routes.
    var topologyVersion: UInt64 = 0
    /// Channels with direct reply-to consumers, by the name of their pseudo-queue.
    var replyConsumers: [String: Consumer] = [:]

    init(name: String, services: any QueueServices) {
        self.name = name
        self.services = services
        for (name, kind) in Self.predeclared {
            self.exchanges[name] = BrokerExchange(name: name, kind: kind, isInternal: name == "amq.rabbitmq.trace")
        }
    }

    /// Breaks reference cycles of exchanges that are bound to each other, and of consumers and queues.
    deinit {
        for exchange in self.exchanges.values { _ = exchange.unbind { _ in true } }
        for queue in self.queues.values { queue.forgetConsumers() }
    }

    var version: RabbitMQVersion { self.services.version }

    private static let predeclared: [(String, ExchangeKind)] = [
        ("", .direct), ("amq.direct", .direct), ("amq.fanout", .fanout), ("amq.topic", .topic),
        ("amq.headers", .headers), ("amq.match", .headers), ("amq.rabbitmq.trace", .topic),
    ]

    static let replyQueue = "amq.rabbitmq.reply-to"

    /// Returns the queues that a message is routed to, each once.
    ///
    /// Bindings are followed from exchange to exchange, each visited once; an exchange without a match forwards to
    /// its alternate exchange.
    func route(_ exchange: BrokerExchange, keys: [String], headers: FieldTable) -> [BrokerQueue] {
        if exchange.name.isEmpty {
            var found: [BrokerQueue] = []
            for key in keys {
                if let queue = self.queues[key], !found.contains(where: { $0 === queue }) { found.append(queue) }
            }
            return found
        }
        var found: [BrokerQueue] = []
        var seen: Set<ObjectIdentifier> = [ObjectIdentifier(exchange)]
        var waiting = [exchange]
        while let exchange = waiting.popLast() {
            var isMatched = false
            for key in keys {
                exchange.forEachMatch(key, headers) { destination in
                    isMatched = true
                    guard seen.insert(ObjectIdentifier(destination.object)).inserted else { return }
                    switch destination {
                    case .queue(let queue): found.append(queue)
                    case .exchange(let next): waiting.append(next)
                    }
                }
            }
            if !isMatched, let alternate = exchange.alternate.flatMap({ self.exchanges[$0] }),
                seen.insert(ObjectIdentifier(alternate)).inserted
            {
                waiting.append(alternate)
            }
        }
        return found
    }

    /// Returns the exchange if a client may publish to it.
    func exchange(toPublish name: String) throws(Refusal) -> BrokerExchange {
        guard let exchange = self.exchanges[name] else { throw .noExchange(name, self.name) }
        guard !exchange.isInternal else {
            throw Refusal(
                .accessRefused,
                "cannot publish to internal exchange '\(name)' in vhost '\(self.name)'"
            )
        }
        return exchange
    }
}
