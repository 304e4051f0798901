// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire

// Declaring, binding, purging and deleting queues and exchanges (AMQP 0-9-1 §3.1.3, §3.1.4).
// Every call throws an AMQPError of scope `.channel` if the broker refuses: 403 (no permission, or a reserved name), 404 (no
// such queue or exchange), 405 (exclusive to another connection), 406 (it exists with other arguments). A refusal that
// closes the connection (503, 540, 541) is `.topologyRefused`, of scope `.connection`.

/// A queue, as described by `queue.declare-ok`.
public struct AMQPQueue: Hashable, Sendable {
    /// The name; chosen by the broker if it was declared with an empty one.
    public let name: String
    /// Number of ready messages at that time.
    public let messageCount: Int
    /// Number of consumers at that time.
    public let consumerCount: Int
}

extension AMQPQueue {
    init(_ ok: Queue.DeclareOk) {
        self.init(name: ok.queue, messageCount: Int(ok.messageCount), consumerCount: Int(ok.consumerCount))
    }
}

/// The type of an exchange.
public struct AMQPExchangeType: Hashable, Sendable, ExpressibleByStringLiteral {
    /// The name on the wire.
    public let name: String
    /// Creates a type from its name, for types of plugins.
    public init(stringLiteral value: String) { self.name = value }
    /// Routes by equal routing key.
    public static let direct: AMQPExchangeType = "direct"
    /// Routes to every bound queue.
    public static let fanout: AMQPExchangeType = "fanout"
    /// Routes by patterns of words: `*` is one word, `#` any number.
    public static let topic: AMQPExchangeType = "topic"
    /// Routes by header values.
    public static let headers: AMQPExchangeType = "headers"
    /// Routes to a random bound queue on the node that received the message.
    ///
    /// RabbitMQ 4.0 or later, for classic queues only: binding another kind is refused (406). Earlier versions refuse the
    /// declaration (503) and close the connection.
    public static let localRandom: AMQPExchangeType = "x-local-random"
    /// Routes to one bound queue by the hash of the routing key; the same key to the same queue while the bindings do
    /// not change.
    ///
    /// RabbitMQ 4.3 or later, or the plugin `rabbitmq_sharding`. Other versions refuse the declaration: since 4.0 with 406
    /// on the channel, before with 503 on the connection.
    public static let modulusHash: AMQPExchangeType = "x-modulus-hash"
    /// Distributes by a hash of the routing key; plugin `rabbitmq_consistent_hash_exchange`.
    public static let consistentHash: AMQPExchangeType = "x-consistent-hash"
    /// Routes after a delay; plugin `rabbitmq_delayed_message_exchange`, with arguments `.delayed(…)`.
    public static let delayedMessage: AMQPExchangeType = "x-delayed-message"
}

extension AMQPChannel {
    /// Declares a queue, or checks that the existing one has these properties: `queue.declare` (50, 10).
    ///
    /// - Parameters:
    ///   - name: The name, at most 255 octets; empty lets the broker choose one.
    ///   - durable: Whether it survives a restart of the broker; nil for all but exclusive queues, which end with
    ///     their connection. RabbitMQ 4.3 refuses (541) a queue that is neither durable nor exclusive, and so closes the
    ///     connection; 4.0 to 4.2 call it deprecated.
    ///   - exclusive: True for a queue that is exclusive to this connection and deleted with it.
    ///   - autoDelete: True to delete it with its last consumer.
    ///   - arguments: Arguments of the broker, such as `x-queue-type`.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Returns: The queue's name and counts.
    /// - Throws: ``AMQPError``; after a refusal by the broker the channel is closed, after `.topologyRefused` the connection.
    @discardableResult
    public func declareQueue(
        _ name: String = "",
        durable: Bool? = nil,
        exclusive: Bool = false,
        autoDelete: Bool = false,
        arguments: FieldTable = [:],
        timeout: Duration? = nil
    ) async throws(AMQPError) -> AMQPQueue {
        let declare = Queue.Declare(
            queue: name,
            durable: AMQPClassicQueue.isDurable(durable, exclusive: exclusive),
            exclusive: exclusive,
            autoDelete: autoDelete,
            arguments: arguments
        )
        return AMQPQueue(try await self.declare(queue: declare, of: .queue(name), timeout: timeout))
    }

    /// Declares a queue of a type, or checks that the existing one has these properties: `queue.declare` (50, 10).
    ///
    /// - Parameters:
    ///   - name: The name, at most 255 octets; empty lets the broker choose one.
    ///   - kind: `.classic(…)`, `.quorum(…)` or `.stream(…)`.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Returns: The queue's name and counts.
    /// - Throws: ``AMQPError``: `.invalidArgument` that names an option outside its range, and the channel goes on;
    ///   after a refusal by the broker the channel is closed.
    @discardableResult
    public func declareQueue(
        _ name: String = "",
        as kind: some AMQPQueueKind,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> AMQPQueue {
        try await self.declareQueue(
            name,
            durable: kind.isDurable,
            exclusive: kind.isExclusive,
            autoDelete: kind.isAutoDelete,
            arguments: kind.arguments(),
            timeout: timeout
        )
    }

    /// Returns the counts of an existing queue: `queue.declare` (50, 10), passive.
    ///
    /// - Parameters:
    ///   - name: The queue.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Returns: The queue's name and counts.
    /// - Throws: ``AMQPError`` 404 of scope `.channel` if it does not exist; the channel is then closed.
    public func inspectQueue(_ name: String, timeout: Duration? = nil) async throws(AMQPError) -> AMQPQueue {
        AMQPQueue(try await self.core.call(Queue.Declare(queue: name, passive: true), timeout: timeout))
    }

    /// Deletes a queue: `queue.delete` (50, 40).
    ///
    /// - Parameters:
    ///   - name: The queue; deleting a missing one is not an error.
    ///   - ifUnused: True to refuse (406) while it has consumers.
    ///   - ifEmpty: True to refuse (406) while it has messages.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Returns: The number of deleted messages.
    /// - Throws: ``AMQPError``; after a refusal by the broker the channel is closed.
    @discardableResult
    public func deleteQueue(
        _ name: String,
        ifUnused: Bool = false,
        ifEmpty: Bool = false,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> Int {
        let delete = Queue.Delete(queue: name, ifUnused: ifUnused, ifEmpty: ifEmpty)
        return Int(try await self.core.call(delete, timeout: timeout).messageCount)
    }

    /// Deletes the ready messages of a queue: `queue.purge` (50, 30).
    ///
    /// - Parameters:
    ///   - name: The queue.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Returns: The number of deleted messages.
    /// - Throws: ``AMQPError``; after a refusal by the broker the channel is closed.
    @discardableResult
    public func purgeQueue(_ name: String, timeout: Duration? = nil) async throws(AMQPError) -> Int {
        Int(try await self.core.call(Queue.Purge(queue: name), timeout: timeout).messageCount)
    }

    /// Binds a queue to an exchange: `queue.bind` (50, 20).
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - exchange: The exchange; the default one has implicit bindings and refuses others (403).
    ///   - routingKey: The routing key or pattern, at most 255 octets.
    ///   - arguments: Arguments, which a headers exchange compares.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``; after a refusal by the broker the channel is closed.
    public func bindQueue(
        _ queue: String,
        to exchange: String,
        routingKey: String = "",
        arguments: FieldTable = [:],
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        let bind = Queue.Bind(queue: queue, exchange: exchange, routingKey: routingKey, arguments: arguments)
        try await self.core.call(bind, timeout: timeout)
    }

    /// Removes a binding: `queue.unbind` (50, 50).
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - exchange: The exchange.
    ///   - routingKey: The routing key of the binding.
    ///   - arguments: The arguments of the binding.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``; after a refusal by the broker the channel is closed.
    public func unbindQueue(
        _ queue: String,
        from exchange: String,
        routingKey: String = "",
        arguments: FieldTable = [:],
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        let unbind = Queue.Unbind(queue: queue, exchange: exchange, routingKey: routingKey, arguments: arguments)
        try await self.core.call(unbind, timeout: timeout)
    }

    /// Declares an exchange, or checks that the existing one has these properties: `exchange.declare` (40, 10).
    ///
    /// - Parameters:
    ///   - name: The name, at most 255 octets; names that begin with `amq.` are reserved (403).
    ///   - type: The exchange type.
    ///   - durable: True if it survives a restart of the broker.
    ///   - autoDelete: True to delete it with its last binding.
    ///   - isInternal: True if only other exchanges may publish to it.
    ///   - alternateExchange: The exchange for unrouted messages; nil for none.
    ///   - arguments: Arguments of the broker or its plugins.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``; after a refusal by the broker the channel is closed.
    public func declareExchange(
        _ name: String,
        type: AMQPExchangeType = .direct,
        durable: Bool = true,
        autoDelete: Bool = false,
        isInternal: Bool = false,
        alternateExchange: String? = nil,
        arguments: FieldTable = [:],
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        var arguments = arguments
        if let alternateExchange { arguments["alternate-exchange"] = .string(alternateExchange) }
        let declare = Exchange.Declare(
            exchange: name,
            type: type.name,
            durable: durable,
            autoDelete: autoDelete,
            internal: isInternal,
            arguments: arguments
        )
        try await self.declare(declare, of: .exchange(name), timeout: timeout)
    }

    /// Checks that an exchange exists: `exchange.declare` (40, 10), passive.
    ///
    /// ``AMQPConnection/exchangeExists(_:timeout:)`` does the same without closing this channel.
    ///
    /// - Parameters:
    ///   - name: The exchange.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError`` 404 of scope `.channel` if it does not exist; the channel is then closed.
    public func inspectExchange(_ name: String, timeout: Duration? = nil) async throws(AMQPError) {
        try await self.core.call(Exchange.Declare(exchange: name, passive: true), timeout: timeout)
    }

    /// Deletes an exchange: `exchange.delete` (40, 20).
    ///
    /// - Parameters:
    ///   - name: The exchange; deleting a missing one is not an error.
    ///   - ifUnused: True to refuse (406) while it has bindings.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``; after a refusal by the broker the channel is closed.
    public func deleteExchange(
        _ name: String,
        ifUnused: Bool = false,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        try await self.core.call(Exchange.Delete(exchange: name, ifUnused: ifUnused), timeout: timeout)
    }

    /// Binds an exchange to another: `exchange.bind` (40, 30), a RabbitMQ extension.
    ///
    /// - Parameters:
    ///   - destination: The destination exchange.
    ///   - source: The source exchange.
    ///   - routingKey: The routing key or pattern, at most 255 octets.
    ///   - arguments: Arguments, which a headers exchange compares.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``; after a refusal by the broker the channel is closed.
    public func bindExchange(
        _ destination: String,
        to source: String,
        routingKey: String = "",
        arguments: FieldTable = [:],
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        let bind = Exchange.Bind(
            destination: destination,
            source: source,
            routingKey: routingKey,
            arguments: arguments
        )
        try await self.core.call(bind, timeout: timeout)
    }

    /// Removes a binding between exchanges: `exchange.unbind` (40, 40), a RabbitMQ extension.
    ///
    /// - Parameters:
    ///   - destination: The destination exchange.
    ///   - source: The source exchange.
    ///   - routingKey: The routing key of the binding.
    ///   - arguments: The arguments of the binding.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``; after a refusal by the broker the channel is closed.
    public func unbindExchange(
        _ destination: String,
        from source: String,
        routingKey: String = "",
        arguments: FieldTable = [:],
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        let unbind = Exchange.Unbind(
            destination: destination,
            source: source,
            routingKey: routingKey,
            arguments: arguments
        )
        try await self.core.call(unbind, timeout: timeout)
    }
}
