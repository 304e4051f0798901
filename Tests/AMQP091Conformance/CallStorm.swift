// SPDX-License-Identifier: Apache-2.0
package import AMQP091
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// CallStorm: four tasks call at random on one channel (declare, inspect, bind, unbind, qos, consume, cancel, get, publish
// with and without mandatory, ack, nack, reject, with multiple or with recover), and a fifth runs transactions on another
// channel of the connection. All of it is legal, so no channel and no connection may be lost; afterwards the queues hold
// what the application's account says, message by message.
// A storm has recover or settlements with `multiple`, not both: of a delivery that a recover has voided before any task
// read it, the account could not say whether a later multiple covered it.

/// Random calls of several tasks, on any broker.
package enum CallStorm {
    static let tasks = 4
    static let queues = 2

    /// The shared state of the tasks of one storm.
    final class Stage: Sendable {
        let name: String
        let account = SettlementAccount()
        let hasRecover: Bool
        private let published = Locked<[String: [String]]>([:])
        private let number = Locked(0)

        init(name: String, hasRecover: Bool) {
            self.name = name
            self.hasRecover = hasRecover
        }

        func queue(_ number: Int) -> String { "\(self.name).\(number)" }
        var dead: String { "\(self.name).dead" }
        /// A body that no other message has.
        func nextBody() -> String {
            self.number.withLock { number in
                number += 1
                return "\(100_000 + number)"
            }
        }
        /// A message that the broker has taken into this queue.
        func enter(_ body: String, in queue: String) {
            self.published.withLock { $0[queue, default: []].append(body) }
        }
        func messages(in queue: String) -> [String] { self.published.withLock { $0[queue] ?? [] } }
    }

    /// Runs one storm.
    ///
    /// - Parameters:
    ///   - configuration: The broker.
    ///   - seed: What the tasks call.
    ///   - steps: Calls of each task.
    /// - Throws: The first difference found, or the end of the channel or the connection.
    package static func run(_ configuration: AMQPClientConfiguration, seed: UInt64, steps: Int = 40) async throws {
        try await AMQPConnection.withConnection(configuration) { connection in
            try await Self.run(on: connection, seed: seed, steps: steps)
        }
    }

    private static func run(on connection: AMQPConnection, seed: UInt64, steps: Int) async throws {
        let stage = Stage(name: Conformance.uniqueName(), hasRecover: seed % 2 == 0)
        try await connection.withChannel { channel in
            try await channel.declareExchange(stage.name)
            try await channel.declareQueue(stage.dead, durable: true)
            for number in 0..<Self.queues {
                let arguments: FieldTable = [
                    "x-dead-letter-exchange": "", "x-dead-letter-routing-key": .string(stage.dead),
                ]
                try await channel.declareQueue(stage.queue(number), durable: true, arguments: arguments)
            }
            try await channel.bindQueue(stage.queue(0), to: stage.name, routingKey: "0")
        }
        try await connection.withChannel { channel in
            try await channel.enableConfirms(window: 16)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for task in 0..<Self.tasks {
                    group.addTask { try await StormTask(stage, channel, seed: seed, task: task).run(steps: steps) }
                }
                group.addTask {
                    try await connection.withChannel { channel in
                        try await Self.transact(stage, channel, seed: seed, steps: steps / 4)
                    }
                }
                try await group.waitForAll()
            }
            try await channel.waitForConfirms()
        }
        try await connection.withChannel { channel in try await Self.compare(stage, channel, seed: seed) }
    }

    /// Transactions, some of them rolled back, that publish and settle.
    private static func transact(_ stage: Stage, _ channel: AMQPChannel, seed: UInt64, steps: Int) async throws {
        struct Rollback: Error {}
        var random = StormRandom(seed: seed, task: 20)
        // Messages returned by a rollback are delivered again, so they have a separate account: each is settled once.
        for _ in 0..<steps {
            let isRolledBack = random.isOne(in: 3)
            let queue = stage.queue(Int.random(in: 0..<Self.queues, using: &random))
            let count = Int.random(in: 0..<4, using: &random)
            let bodies = (0..<count).map { _ in stage.nextBody() }
            let gets = Int.random(in: 0..<3, using: &random)
            var taken: [AMQPDelivery] = []
            do {
                try await channel.withTransaction { channel in
                    for body in bodies { try await channel.publish(AMQPMessage(body), to: .queue(queue)) }
                    for _ in 0..<gets {
                        guard let delivery = try await channel.get(queue) else { continue }
                        taken.append(delivery)
                        try delivery.ack()
                    }
                    if isRolledBack { throw Rollback() }
                }
                for body in bodies { stage.enter(body, in: queue) }
                for delivery in taken { stage.account.readAutomatic(delivery) }
            } catch is Rollback {}
        }
    }

    /// Every message is where the account says.
    private static func compare(_ stage: Stage, _ channel: AMQPChannel, seed: UInt64) async throws {
        let result = stage.account.result
        let refused = result.ends.filter { $0.value == .refused }.map(\.key).sorted()
        for number in 0..<Self.queues {
            let queue = stage.queue(number)
            let expected = stage.messages(in: queue).filter { result.ends[$0] == nil }.sorted()
            let found = try await SettlementStorm.drain(queue, expecting: expected.count, on: channel).sorted()
            guard found == expected else { throw Self.difference(expected, found, "queue \(number)", seed: seed) }
            try await channel.deleteQueue(queue)
        }
        let found = try await SettlementStorm.drain(stage.dead, expecting: refused.count, on: channel).sorted()
        guard found == refused else { throw Self.difference(refused, found, "the dead-letter queue", seed: seed) }
        try await channel.deleteQueue(stage.dead)
        try await channel.deleteExchange(stage.name)
    }

    private static func difference(_ expected: [String], _ found: [String], _ place: String, seed: UInt64)
        -> StormFailure
    {
        let missing = Set(expected).subtracting(found).sorted()
        let extra = Set(found).subtracting(expected).sorted()
        return StormFailure(
            "in \(place) are missing \(missing) and too many \(extra), found \(found.count)"
        )
    }
}
