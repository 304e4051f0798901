// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPTopology: exchanges, queues and bindings as one value, to be declared or checked as a whole.
// Not here: doing either (AMQPConnection+Topology) and what came of it (AMQPTopologyReport).
// A value that cannot be sent (an option outside its range) is kept with its error, which declaring it throws.

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
        /// How it routes.
        public var type: AMQPExchangeType
        /// Whether it survives a restart of the broker.
        public var isDurable: Bool
        /// Whether it goes when its last binding has gone.
        public var isAutoDelete: Bool
        /// Whether only other exchanges may publish to it.
        public var isInternal: Bool
        /// The broker's own options.
        public var arguments: FieldTable
    }

    /// A queue and its properties.
    public struct Queue: Hashable, Sendable {
        /// The name, 1...255 octets.
        public var name: String
        /// Whether it survives a restart of the broker.
        public var isDurable: Bool
        /// Whether only the declaring connection may use it.
        public var isExclusive: Bool
        /// Whether it goes when its last consumer has gone.
        public var isAutoDelete: Bool
        /// The broker's own options.
        public var arguments: FieldTable
        /// Why it cannot be declared; nil when it can.
        var problem: AMQPError?
    }

    /// A binding: what an exchange passes on, and to whom.
    public struct Binding: Hashable, Sendable {
        /// Who gets the messages.
        public enum Target: Hashable, Sendable {
            /// A queue of this name.
            case queue(String)
            /// An exchange of this name.
            case exchange(String)
        }

        /// The exchange that passes messages on.
        public var source: String
        /// Who gets them.
        public var target: Target
        /// The key or pattern, at most 255 octets.
        public var routingKey: String
        /// What a headers exchange compares.
        public var arguments: FieldTable
    }

    /// The exchanges, declared first.
    public private(set) var exchanges: [Exchange] = []
    /// The queues, declared after the exchanges.
    public private(set) var queues: [Queue] = []
    /// The bindings, made last.
    public private(set) var bindings: [Binding] = []

    /// A topology of what `build` adds to it.
    public init(_ build: (inout AMQPTopology) -> Void = { _ in }) {
        build(&self)
    }

    /// Whether there is nothing in it.
    public var isEmpty: Bool { self.exchanges.isEmpty && self.queues.isEmpty && self.bindings.isEmpty }

    /// Adds an exchange, or replaces the one of this name.
    ///
    /// - Parameters:
    ///   - name: The name, 1...255 octets.
    ///   - type: How it routes.
    ///   - durable: Whether it survives a restart of the broker.
    ///   - autoDelete: Whether it goes when its last binding has gone.
    ///   - isInternal: Whether only other exchanges may publish to it.
    ///   - alternateExchange: The exchange that gets what this one cannot route; nil for none.
    ///   - arguments: Other options of the broker or of a plugin.
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

    /// Adds a queue, or replaces the one of this name; with an exchange, binds it too.
    ///
    /// - Parameters:
    ///   - name: The name, 1...255 octets.
    ///   - kind: `.classic(…)`, `.quorum(…)` or `.stream(…)`.
    ///   - exchange: The exchange to bind it to; nil for no binding.
    ///   - routingKey: The binding's key or pattern, at most 255 octets.
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

    /// Lets an exchange route to a queue.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - exchange: The exchange.
    ///   - routingKey: The key or pattern, at most 255 octets.
    ///   - arguments: What a headers exchange compares.
    public mutating func bind(
        queue: String,
        to exchange: String,
        routingKey: String = "",
        arguments: FieldTable = [:]
    ) {
        self.bind(.queue(queue), to: exchange, routingKey, arguments)
    }

    /// Lets one exchange route to another.
    ///
    /// - Parameters:
    ///   - exchange: The exchange that gets the messages.
    ///   - source: The exchange they were published to.
    ///   - routingKey: The key or pattern, at most 255 octets.
    ///   - arguments: What a headers exchange compares.
    public mutating func bind(
        exchange: String,
        to source: String,
        routingKey: String = "",
        arguments: FieldTable = [:]
    ) {
        self.bind(.exchange(exchange), to: source, routingKey, arguments)
    }

    /// The part of it that `isIncluded` keeps.
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
