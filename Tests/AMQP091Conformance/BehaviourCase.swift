// SPDX-License-Identifier: Apache-2.0
package import AMQP091
import AMQP091Testing
import AMQP091Wire

// BehaviourCase: something RabbitMQ does. The rows are in BehaviourCase+Login, +Routing, +Queues, +Quorum, +Consuming and
// +Publishing. They run against the in-process broker and against RabbitMQ, those that hold for its release.

/// One dialogue with a broker.
package struct BehaviourCase: Sendable, CustomStringConvertible {
    /// A client, a unique name, and more clients on demand.
    final class Stage {
        let configuration: AMQPClientConfiguration
        let client: ScriptedClient
        let name: String
        private var others: [ScriptedClient] = []

        init(_ configuration: AMQPClientConfiguration) async throws {
            self.configuration = configuration
            self.client = try await ScriptedClient.connect(configuration)
            self.name = Conformance.uniqueName()
            try await self.client.login(configuration)
        }

        func another() async throws -> ScriptedClient {
            let other = try await ScriptedClient.connect(self.configuration)
            self.others.append(other)
            try await other.login(self.configuration)
            return other
        }

        func end(_ names: [String]) async {
            for other in self.others { other.drop() }
            await Conformance.cleanUp(self.client, names.map { "\(self.name)\($0)" })
            self.client.drop()
        }
    }

    /// The difference between what was found and what RabbitMQ does.
    package struct Difference: Error, CustomStringConvertible {
        package let description: String
    }

    package let description: String
    let releases: Releases
    /// Suffixes of the names of queues and exchanges that are deleted afterwards.
    private let names: [String]
    private let body: @Sendable (Stage) async throws -> Void

    init(
        _ description: String,
        _ releases: Releases = .all,
        names: [String] = ["", ".x", ".y", ".2", ".3"],
        _ body: @escaping @Sendable (Stage) async throws -> Void
    ) {
        self.description = releases.named(description)
        self.releases = releases
        self.names = names
        self.body = body
    }

    /// Runs the case; throws what differs.
    package func run(_ configuration: AMQPClientConfiguration) async throws {
        let stage = try await Stage(configuration)
        do {
            try await self.body(stage)
        } catch {
            await stage.end(self.names)
            throw error
        }
        await stage.end(self.names)
    }

    private static let all: [BehaviourCase] = login + routing + queues + quorum + consuming + publishing

    /// The cases that hold for a broker.
    package static func cases(for subject: ConformanceSubject) -> [BehaviourCase] {
        self.all.filter { $0.releases.holds(subject) }
    }
}

func expect<Value: Equatable>(_ found: Value, _ expected: Value, _ what: String) throws {
    guard found != expected else { return }
    throw BehaviourCase.Difference(description: "\(what): \(found), not \(expected)")
}

extension ScriptedClient {
    func declare(_ name: String, _ arguments: FieldTable = [:]) async throws {
        try await self.call(.queueDeclare(.init(queue: name, durable: true, arguments: arguments)))
    }

    func declareExchange(
        _ name: String,
        _ type: String,
        autoDelete: Bool = false,
        internal isInternal: Bool = false,
        _ arguments: FieldTable = [:]
    ) async throws {
        try await self.call(
            .exchangeDeclare(
                .init(exchange: name, type: type, autoDelete: autoDelete, internal: isInternal, arguments: arguments)
            )
        )
    }

    func bind(_ queue: String, _ exchange: String, _ key: String = "", _ arguments: FieldTable = [:]) async throws {
        try await self.call(
            .queueBind(.init(queue: queue, exchange: exchange, routingKey: key, arguments: arguments))
        )
    }

    func consume(
        _ queue: String,
        tag: String = "c",
        noAck: Bool = false,
        _ arguments: FieldTable = [:]
    ) async throws {
        try await self.call(
            .basicConsume(.init(queue: queue, consumerTag: tag, noAck: noAck, arguments: arguments))
        )
    }

    func confirmSelect() async throws { try await self.call(.confirmSelect(.init())) }

    func prefetch(_ count: UInt16, global: Bool = false) async throws {
        try await self.call(.basicQos(.init(prefetchCount: count, global: global)))
    }

    func ack(_ tag: UInt64, multiple: Bool = false) throws {
        try self.send(.basicAck(.init(deliveryTag: DeliveryTag(tag), multiple: multiple)))
    }

    func reject(_ tag: UInt64, requeue: Bool) throws {
        try self.send(.basicReject(.init(deliveryTag: DeliveryTag(tag), requeue: requeue)))
    }

    func nack(_ tag: UInt64, multiple: Bool = false, requeue: Bool) throws {
        try self.send(.basicNack(.init(deliveryTag: DeliveryTag(tag), multiple: multiple, requeue: requeue)))
    }

    /// The bodies of all messages of a queue, taken one by one.
    func drain(_ queue: String) async throws -> [String] {
        var bodies: [String] = []
        while let event = try await self.get(queue) { bodies.append(event.text) }
        return bodies
    }

    /// Messages ready and consumers.
    func counts(_ queue: String) async throws -> [UInt32] {
        guard case .queueDeclareOk(let ok) = try await self.call(.queueDeclare(.init(queue: queue, passive: true)))
        else { return [] }
        return [ok.messageCount, ok.consumerCount]
    }

    /// A message that comes to a queue in a moment.
    func getSoon(_ queue: String, noAck: Bool = true) async throws -> Event {
        for _ in 0..<500 {
            if let event = try await self.get(queue, noAck: noAck) { return event }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw BehaviourCase.Difference(description: "no message came to \(queue)")
    }

    /// Waits until a queue has so many messages ready.
    func waitFor(_ queue: String, messages: UInt32) async throws {
        var found: [UInt32] = []
        for _ in 0..<500 {
            found = try await self.counts(queue)
            if found.first == messages { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw BehaviourCase.Difference(description: "\(queue) has \(found), not \(messages) messages")
    }

    /// Waits until everything published before is confirmed; answers the tags refused.
    func confirms(upTo last: UInt64) async throws -> [UInt64] {
        var settled: Set<UInt64> = []
        var refused: [UInt64] = []
        while settled.count < Int(last) {
            let event = try await self.next("a confirm")
            switch event.method {
            case .basicAck(let ack):
                let tags =
                    ack.multiple ? 1...ack.deliveryTag.rawValue : ack.deliveryTag.rawValue...ack.deliveryTag.rawValue
                settled.formUnion(tags)
            case .basicNack(let nack):
                let tag = nack.deliveryTag.rawValue
                let tags = (nack.multiple ? 1...tag : tag...tag).filter { !settled.contains($0) }
                refused += tags
                settled.formUnion(tags)
            default: throw BehaviourCase.Difference(description: "\(event.method.id) in place of a confirm")
            }
        }
        return refused.sorted()
    }
}
