// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPTopology: exchanges, queues and bindings as one value, declared or checked as a whole.
// Not here: declaring and checking (AMQPConnection+Topology), and the result (AMQPTopologyReport).
// An invalid value (an option outside its range) is stored with its error, which declaring throws.

/// Exchanges, queues and bindings, in the order in which they are declared.
///
/// ```swift
/// let topology = AMQPTopology {
///     $0.exchange("orders", type: .topic)
///     $0.queue("billing", as: .quorum(deliveryLimit: 5), boundTo: "orders", routingKey: "order.*")
/// }
/// ```
public struct AMQPTopology: Hashable, Sendable {
    /// An exchange and its properties.
    public struct Exchange: Hashable, Sendable {
        /// The name, 1...255 octets.
        public var name: String
        /// The exchange type.
        public var type: AMQPExchangeType
        /// True if it survives a restart of the broker.
        public var isDurable: Bool
        /// True if it is deleted with its last binding.
        public var isAutoDelete: Bool
        /// True if only other exchanges may publish to it.
        public var isInternal: Bool
        /// Arguments of the broker or its plugins.
        public var arguments: FieldTable
    }

    /// A queue and its properties.
    public struct Queue: Hashable, Sendable {
        /// The name, 1...255 octets.
        public var name: String
        /// True if it survives a restart of the broker.
        public var isDurable: Bool
        /// True if it is exclusive to the declaring connection.
        public var isExclusive: Bool
        /// True if it is deleted with its last consumer.
        public var isAutoDelete: Bool
        /// Arguments of the broker or its plugins.
        public var arguments: FieldTable
        /// The error of an invalid declaration; nil if it is valid.
        var problem: AMQPError?
    }

    /// A binding of a queue or exchange to an exchange.
    public struct Binding: Hashable, Sendable {
        /// The destination of a binding.
        public enum Target: Hashable, Sendable {
            /// A queue of this name.
            case queue(String)
            /// An exchange of this name.
            case exchange(String)
        }

        /// The source exchange.
        public var source: String
        /// The destination.
        public var target: Target
        /// The routing key or pattern, at most 255 octets.
        public var routingKey: String
        /// Arguments, which a headers exchange compares.
        public var arguments: FieldTable
    }

    /// The exchanges, declared first.
    public private(set) var exchanges: [Exchange] = []
    /// The queues, declared after the exchanges.
    public private(set) var queues: [Queue] = []
    /// The bindings, made last.
    public private(set) var bindings: [Binding] = []

    /// Creates a topology with the entities that `build` adds.
    public init(_ build: (inout AMQPTopology) -> Void = { _ in }) {
        build(&self)
    }

    /// True if it is empty.
    public var isEmpty: Bool { self.exchanges.isEmpty && self.queues.isEmpty && self.bindings.isEmpty }

    /// Adds an exchange, or replaces the one of this name.
    ///
    /// - Parameters:
    ///   - name: The name, 1...255 octets.
    ///   - type: The exchange type.
    ///   - durable: True if it survives a restart of the broker.
    ///   - autoDelete: True to delete it with its last binding.
    ///   - isInternal: True if only other exchanges may publish to it.
    ///   - alternateExchange: The exchange for unrouted messages; nil for none.
    ///   - arguments: Arguments of the broker or its plugins.
    public mutating func exchange(
        _ name: String,
        type: AMQPExchangeType = .direct,
        durable: Bool = true,
        autoDelete: Bool = false,
        isInternal: Bool = false,
        alternateExchange: String? = nil,
        arguments: FieldTable = [:]
    ) {
        var arguments = arguments
        if let alternateExchange { arguments["alternate-exchange"] = .string(alternateExchange) }
        let exchange = Exchange(
            name: name,
            type: type,
            isDurable: durable,
            isAutoDelete: autoDelete,
            isInternal: isInternal,
            arguments: arguments
        )
        self.exchanges.removeAll { $0.name == name }
        self.exchanges.append(exchange)
    }

    /// Adds a queue, or replaces the one of this name; with an exchange, also a binding.
    ///
    /// - Parameters:
    ///   - name: The name, 1...255 octets.
    ///   - kind: `.classic(…)`, `.quorum(…)` or `.stream(…)`.
    ///   - exchange: The exchange to bind it to; nil for no binding.
    ///   - routingKey: The routing key or pattern of the binding, at most 255 octets.
    public mutating func queue(
        _ name: String,
        as kind: some AMQPQueueKind = .classic(),
        boundTo exchange: String? = nil,
        routingKey: String = ""
    ) {
        var arguments: FieldTable = [:]
        var problem: AMQPError?
        do throws(AMQPError) {
            arguments = try kind.arguments()
            if name.isEmpty {
                throw AMQPError(.invalidArgument, "a queue of a topology needs a name", isSafeToRetry: true)
            }
        } catch {
            problem = error
        }
        self.queues.removeAll { $0.name == name }
        self.queues.append(
            Queue(
                name: name,
                isDurable: kind.isDurable,
                isExclusive: kind.isExclusive,
                isAutoDelete: kind.isAutoDelete,
                arguments: arguments,
                problem: problem
            )
        )
        if let exchange { self.bind(queue: name, to: exchange, routingKey: routingKey) }
    }

    /// Adds a binding of a queue to an exchange.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - exchange: The exchange.
    ///   - routingKey: The routing key or pattern, at most 255 octets.
    ///   - arguments: Arguments, which a headers exchange compares.
    public mutating func bind(
        queue: String,
        to exchange: String,
        routingKey: String = "",
        arguments: FieldTable = [:]
    ) {
        self.bind(.queue(queue), to: exchange, routingKey, arguments)
    }

    /// Adds a binding of an exchange to another.
    ///
    /// - Parameters:
    ///   - exchange: The destination exchange.
    ///   - source: The source exchange.
    ///   - routingKey: The routing key or pattern, at most 255 octets.
    ///   - arguments: Arguments, which a headers exchange compares.
    public mutating func bind(
        exchange: String,
        to source: String,
        routingKey: String = "",
        arguments: FieldTable = [:]
    ) {
        self.bind(.exchange(exchange), to: source, routingKey, arguments)
    }

    /// Returns the entities for which `isIncluded` is true.
    func filtered(_ isIncluded: (AMQPTopologyReport.Entity) -> Bool) -> AMQPTopology {
        var topology = self
        topology.exchanges.removeAll { !isIncluded(.exchange($0.name)) }
        topology.queues.removeAll { !isIncluded(.queue($0.name)) }
        topology.bindings.removeAll { !isIncluded(.binding($0)) }
        return topology
    }

    private mutating func bind(
        _ target: Binding.Target,
        to source: String,
        _ routingKey: String,
        _ arguments: FieldTable
    ) {
        let binding = Binding(source: source, target: target, routingKey: routingKey, arguments: arguments)
        if !self.bindings.contains(binding) { self.bindings.append(binding) }
    }
}
