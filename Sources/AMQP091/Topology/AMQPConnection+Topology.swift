// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// Queries and declarations that never close a channel of the application: they run on a separate channel, which the
// broker may close. RabbitMQ reports one difference per refusal (406); `check` adopts the broker's value
// and repeats until nothing differs, so that its report contains all differences.

extension AMQPConnection {
    /// Returns true if a queue exists: `queue.declare` (50, 10), passive, on a separate channel.
    ///
    /// - Parameters:
    ///   - name: The queue.
    ///   - timeout: Total time; the configuration's `operationTimeout` by default.
    /// - Returns: False if the broker replies 404.
    /// - Throws: ``AMQPError``, such as 405 for a queue that is exclusive to another connection.
    public func queueExists(_ name: String, timeout: Duration? = nil) async throws(AMQPError) -> Bool {
        try await self.inspectQueue(name, timeout: timeout) != nil
    }

    /// Returns the counts of a queue: `queue.declare` (50, 10), passive, on a separate channel.
    ///
    /// - Parameters:
    ///   - name: The queue.
    ///   - timeout: Total time; the configuration's `operationTimeout` by default.
    /// - Returns: The queue; nil if the broker replies 404.
    /// - Throws: ``AMQPError``, such as 405 for a queue that is exclusive to another connection.
    public func inspectQueue(_ name: String, timeout: Duration? = nil) async throws(AMQPError) -> AMQPQueue? {
        try await ScratchChannel.with(self.driver, timeout: timeout) { scratch throws(AMQPError) in
            try await scratch.find { channel, timeout throws(AMQPError) in
                try await channel.inspectQueue(name, timeout: timeout)
            }
        }
    }

    /// Returns true if an exchange exists: `exchange.declare` (40, 10), passive, on a separate channel.
    ///
    /// - Parameters:
    ///   - name: The exchange.
    ///   - timeout: Total time; the configuration's `operationTimeout` by default.
    /// - Returns: False if the broker replies 404.
    /// - Throws: ``AMQPError``.
    public func exchangeExists(_ name: String, timeout: Duration? = nil) async throws(AMQPError) -> Bool {
        try await ScratchChannel.with(self.driver, timeout: timeout) { scratch throws(AMQPError) in
            try await scratch.find { channel, timeout throws(AMQPError) in
                try await channel.inspectExchange(name, timeout: timeout)
            } != nil
        }
    }

    /// Declares every exchange, queue and binding of a topology, independent of failures of others.
    ///
    /// - Parameters:
    ///   - topology: The topology to declare.
    ///   - timeout: Total time; the configuration's `operationTimeout` by default.
    /// - Returns: One entry per entity: `.matches` if it exists now, otherwise the reason. If an entity exists with
    ///   other properties, the entry contains the first difference.
    /// - Throws: ``AMQPError`` of scope `.connection`, `.timedOut` or `.cancelled`; `.topologyRefused` that names the entity
    ///   whose declaration the broker refused by closing the connection (503, 540, 541).
    public func declare(
        _ topology: AMQPTopology,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> AMQPTopologyReport {
        try await ScratchChannel.with(self.driver, timeout: timeout) { scratch throws(AMQPError) in
            var report = AMQPTopologyReport()
            for exchange in topology.exchanges {
                let finding = try await scratch.finding { channel, timeout throws(AMQPError) in
                    try await channel.declare(exchange, timeout: timeout)
                }
                report.add(.exchange(exchange.name), finding)
            }
            for queue in topology.queues {
                let finding = try await scratch.finding { channel, timeout throws(AMQPError) in
                    try await channel.declare(queue, timeout: timeout)
                }
                report.add(.queue(queue.name), finding)
            }
            for binding in topology.bindings {
                let finding = try await scratch.finding { channel, timeout throws(AMQPError) in
                    try await channel.declare(binding, timeout: timeout)
                }
                report.add(.binding(binding), finding)
            }
            return report
        }
    }

    /// Compares a topology with the broker's entities, and creates nothing.
    ///
    /// Existing exchanges and queues are declared again with the topology's properties, which changes nothing. An entity that
    /// is deleted concurrently between the two steps of the check would be created. Properties that the broker does not
    /// compare are not reported, such as `x-overflow` by RabbitMQ.
    ///
    /// - Parameters:
    ///   - topology: The expected topology.
    ///   - timeout: Total time; the configuration's `operationTimeout` by default.
    /// - Returns: One entry per entity, with every difference. Bindings cannot be checked.
    /// - Throws: ``AMQPError`` of scope `.connection`, `.timedOut` or `.cancelled`.
    public func check(
        _ topology: AMQPTopology,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> AMQPTopologyReport {
        try await ScratchChannel.with(self.driver, timeout: timeout) { scratch throws(AMQPError) in
            var report = AMQPTopologyReport()
            for exchange in topology.exchanges {
                let finding = try await scratch.compare(exchange) { channel, timeout throws(AMQPError) in
                    try await channel.inspectExchange(exchange.name, timeout: timeout)
                }
                report.add(.exchange(exchange.name), finding)
            }
            for queue in topology.queues {
                let finding = try await scratch.compare(queue) { channel, timeout throws(AMQPError) in
                    _ = try await channel.inspectQueue(queue.name, timeout: timeout)
                }
                report.add(.queue(queue.name), finding)
            }
            for binding in topology.bindings { report.add(.binding(binding), .notChecked) }
            return report
        }
    }
}

extension AMQPChannel {
    /// Declares every exchange, queue and binding of a topology.
    ///
    /// - Parameters:
    ///   - topology: The topology to declare.
    ///   - timeout: Time for each call; the configuration's `operationTimeout` by default.
    /// - Throws: The first ``AMQPError``; after a refusal by the broker the channel is closed.
    ///   ``AMQPConnection/declare(_:timeout:)`` continues after a refusal.
    public func declare(_ topology: AMQPTopology, timeout: Duration? = nil) async throws(AMQPError) {
        for exchange in topology.exchanges { try await self.declare(exchange, timeout: timeout) }
        for queue in topology.queues { try await self.declare(queue, timeout: timeout) }
        for binding in topology.bindings { try await self.declare(binding, timeout: timeout) }
    }

    func declare(_ entity: some Declarable, timeout: Duration?) async throws(AMQPError) {
        let declaration = try entity.declaration()
        if let queue = declaration as? Queue.Declare {
            _ = try await self.declare(queue: queue, of: entity.entity, timeout: timeout)
        } else {
            try await self.declare(declaration, of: entity.entity, timeout: timeout)
        }
    }
}

extension ScratchChannel {
    /// Returns the reply, or nil for 404.
    fileprivate mutating func find<Answer>(
        _ question: (AMQPChannel, Duration) async throws(AMQPError) -> Answer
    ) async throws(AMQPError) -> Answer? {
        do throws(AMQPError) {
            return try await self.ask(question)
        } catch {
            guard error.replyCode == .notFound, error.scope == .channel else { throw error }
            return nil
        }
    }

    /// Returns the finding for a declaration; throws errors that affect more than this entity.
    fileprivate mutating func finding(
        _ declare: (AMQPChannel, Duration) async throws(AMQPError) -> Void
    ) async throws(AMQPError) -> AMQPTopologyReport.Finding {
        do throws(AMQPError) {
            try await self.ask(declare)
            return .matches
        } catch {
            guard error.scope == .channel || error.code == .invalidArgument else { throw error }
            if let inequivalent = InequivalentArgument(replyText: error.replyText) {
                return .differs([AMQPTopologyReport.Difference(inequivalent)])
            }
            return .failed(error)
        }
    }

    fileprivate mutating func compare(
        _ entity: some Declarable,
        exists: (AMQPChannel, Duration) async throws(AMQPError) -> Void
    ) async throws(AMQPError) -> AMQPTopologyReport.Finding {
        do throws(AMQPError) {
            _ = try entity.declaration()
            guard try await self.find(exists) != nil else { return .missing }
        } catch {
            guard error.scope == .channel || error.code == .invalidArgument else { throw error }
            return .failed(error)
        }
        var entity = entity
        var differences: [AMQPTopologyReport.Difference] = []
        // Every round resolves one property; more rounds than properties would mean a broker that changes meanwhile.
        for _ in 0..<64 {
            do throws(AMQPError) {
                try await self.ask { channel, timeout throws(AMQPError) in
                    try await channel.declare(entity, timeout: timeout)
                }
                break
            } catch {
                guard error.scope == .channel || error.code == .invalidArgument else { throw error }
                guard let inequivalent = InequivalentArgument(replyText: error.replyText) else {
                    if differences.isEmpty { return .failed(error) }
                    break
                }
                differences.append(AMQPTopologyReport.Difference(inequivalent))
                guard entity.takeOver(inequivalent) else { break }
            }
        }
        return differences.isEmpty ? .matches : .differs(differences)
    }
}

extension AMQPTopologyReport.Difference {
    init(_ inequivalent: InequivalentArgument) {
        func text(_ value: InequivalentArgument.Value) -> String? {
            switch value {
            case .none, .unknown: nil
            case .property(let text), .argument(let text, _): text
            }
        }
        self.init(
            argument: inequivalent.name,
            wanted: text(inequivalent.received),
            actual: text(inequivalent.current)
        )
    }
}
