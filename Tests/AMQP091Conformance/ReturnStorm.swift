// SPDX-License-Identifier: Apache-2.0
package import AMQP091
import AMQP091Wire

// ReturnStorm: mandatory publishes with one key and one length while the binding of that key comes and goes. Afterwards
// what was confirmed must be in the queue, and what was returned must not.

/// Publishes that come back at random, on any broker.
package enum ReturnStorm {
    /// The outcomes of the publishes of one round.
    package struct Result: Sendable {
        package fileprivate(set) var confirmed = 0
        package fileprivate(set) var returned = 0

        package init() {}

        package mutating func add(_ other: Result) {
            self.confirmed += other.confirmed
            self.returned += other.returned
        }
    }

    /// Runs one round.
    ///
    /// - Parameters:
    ///   - configuration: The broker.
    ///   - seed: What is published.
    ///   - count: Publishes.
    /// - Returns: How they ended.
    /// - Throws: The first difference found, or what broke.
    package static func run(
        _ configuration: AMQPClientConfiguration,
        seed: UInt64,
        publishes count: Int
    ) async throws -> Result {
        try await AMQPConnection.withConnection(configuration) { connection in
            let name = Conformance.uniqueName()
            try await connection.withChannel { channel in
                try await channel.declareExchange(name)
                try await channel.declareQueue(name, durable: true)
            }
            let outcomes = try await Self.publish(count, to: name, on: connection, seed: seed)
            return try await connection.withChannel { channel in
                let confirmed = outcomes.filter(\.isConfirmed).count
                let found = try await SettlementStorm.drain(name, expecting: confirmed, on: channel)
                try await channel.deleteQueue(name)
                try await channel.deleteExchange(name)
                return try Self.compare(outcomes, with: found, seed: seed)
            }
        }
    }

    /// One publish: its body, whether an equal one was made, and how it ended.
    private struct Publish: Sendable {
        let body: String
        let outcome: AMQPPublishOutcome
        var isConfirmed: Bool { self.outcome.isConfirmed }
    }

    /// Publishes in two tasks on one channel, while a third binds and unbinds.
    private static func publish(
        _ count: Int,
        to name: String,
        on connection: AMQPConnection,
        seed: UInt64
    ) async throws -> [Publish] {
        try await connection.withPublisher(maxInFlight: 500) { publisher in
            try await withThrowingTaskGroup(of: [Publish].self) { group in
                for task in 0..<2 {
                    group.addTask {
                        var random = StormRandom(seed: seed, task: task)
                        var receipts: [(String, AMQPPublishReceipt)] = []
                        for number in 0..<count / 2 {
                            let message = Self.message(number, task: task, &random)
                            let destination = AMQPDestination(exchange: name, routingKey: "key")
                            let receipt = try await publisher.enqueue(message, to: destination, mandatory: true)
                            receipts.append((message.body.string, receipt))
                        }
                        var publishes: [Publish] = []
                        for (body, receipt) in receipts {
                            publishes.append(Publish(body: body, outcome: await receipt.outcome()))
                        }
                        return publishes
                    }
                }
                let binding = Task {
                    var random = StormRandom(seed: seed, task: 9)
                    try await connection.withChannel { channel in
                        while !Task.isCancelled {
                            try await channel.bindQueue(name, to: name, routingKey: "key")
                            try await Task.sleep(for: .microseconds(Int.random(in: 0...3000, using: &random)))
                            try await channel.unbindQueue(name, from: name, routingKey: "key")
                            try await Task.sleep(for: .microseconds(Int.random(in: 0...3000, using: &random)))
                        }
                    }
                }
                defer { binding.cancel() }
                return try await group.reduce(into: []) { $0 += $1 }
            }
        }
    }

    /// A message whose body says which it is; every tenth is equal in all to the one before, the others have the same
    /// length, and properties of every kind.
    private static func message(_ number: Int, task: Int, _ random: inout StormRandom) -> AMQPMessage {
        let digits = "\(1_000_000 + number - (number % 10 == 9 ? 1 : 0))\(task)"
        var message = AMQPMessage(digits)
        guard number % 10 < 8 else { return message }
        switch Int.random(in: 0..<4, using: &random) {
        case 0: message.properties.messageID = digits
        case 1: message.properties.headers = ["z": .int32(Int32(number)), "a": "text", "z": 2, "BCC": .array(["none"])]
        case 2: message.properties.timestamp = UInt64(number)
        default: break
        }
        return message
    }

    private static func compare(_ outcomes: [Publish], with found: [String], seed: UInt64) throws -> Result {
        var result = Result()
        var expected: [String: Int] = [:]
        for publish in outcomes {
            switch publish.outcome {
            case .confirmed:
                result.confirmed += 1
                expected[publish.body, default: 0] += 1
            case .returned: result.returned += 1
            default: throw StormFailure("publish \(publish.body) ended as \(publish.outcome)")
            }
        }
        var held: [String: Int] = [:]
        for body in found { held[body, default: 0] += 1 }
        guard expected != held else { return result }
        let lost = expected.filter { held[$0.key] ?? 0 < $0.value }
        let extra = held.filter { expected[$0.key] ?? 0 < $0.value }
        throw StormFailure(
            """
            \(lost.count) messages were confirmed and are not in the queue, such as \
            \(lost.keys.sorted().prefix(5)); \(extra.count) are in the queue and were returned, such as \
            \(extra.keys.sorted().prefix(5))
            """
        )
    }
}
