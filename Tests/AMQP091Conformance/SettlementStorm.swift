// SPDX-License-Identifier: Apache-2.0
package import AMQP091
import AMQP091Wire

// SettlementStorm: several tasks settle the deliveries of one channel at random (single and multiple; ack, nack, reject;
// with and without requeue), and afterwards the broker's account is compared with the application's, message by message:
// what was refused is in the dead-letter queue and nothing else is, every message came once more than it was requeued,
// and the queue is empty.

/// Settlements at random, on any broker.
package enum SettlementStorm {
    /// Runs one round.
    ///
    /// - Parameters:
    ///   - configuration: The broker.
    ///   - seed: What the tasks do.
    ///   - count: Messages.
    ///   - queueType: `classic` or `quorum`.
    /// - Returns: How many deliveries were settled.
    /// - Throws: The first difference found, or what broke.
    package static func run(
        _ configuration: AMQPClientConfiguration,
        seed: UInt64,
        messages count: Int,
        queueType: String = "classic"
    ) async throws -> Int {
        try await AMQPConnection.withConnection(configuration) { connection in
            let name = Conformance.uniqueName()
            let dead = "\(name).dead"
            let bodies = (0..<count).map { "\($0)" }
            try await connection.withChannel { channel in
                var arguments: FieldTable = [
                    "x-dead-letter-exchange": "", "x-dead-letter-routing-key": .string(dead),
                ]
                if queueType != "classic" {
                    arguments["x-queue-type"] = .string(queueType)
                    arguments["x-delivery-limit"] = -1
                }
                try await channel.declareQueue(dead, durable: true)
                try await channel.declareQueue(name, durable: true, arguments: arguments)
                try await channel.enableConfirms()
                for body in bodies { try await channel.publish(AMQPMessage(body), to: .queue(name)) }
                try await channel.waitForConfirms()
            }
            let account = SettlementAccount()
            try await connection.withChannel { channel in
                try await Self.settleAll(of: name, messages: count, on: channel, account, seed: seed)
            }
            let result = account.result
            try await connection.withChannel { channel in
                let left = try await channel.deleteQueue(name)
                guard left == 0 else { throw StormFailure("\(left) messages are left in the queue") }
                let refused = Set(result.ends.filter { $0.value == .refused }.keys)
                let found = try await Self.drain(dead, expecting: refused.count, on: channel)
                try await channel.deleteQueue(dead)
                guard Set(found) == refused, found.count == refused.count else {
                    let lost = refused.subtracting(found).sorted().prefix(5)
                    let extra = Set(found).subtracting(refused).sorted().prefix(5)
                    throw StormFailure(
                        "refused and not dead-lettered: \(lost); dead-lettered and not refused: \(extra)"
                    )
                }
            }
            for body in bodies {
                let (came, went) = (result.deliveries[body] ?? 0, result.requeues[body] ?? 0)
                guard came == went + 1, result.ends[body] != nil else {
                    throw StormFailure(
                        "message \(body) came \(came) times and was requeued \(went) times"
                    )
                }
            }
            return result.settlements
        }
    }

    /// Reads and settles until every message has ended.
    private static func settleAll(
        of queue: String,
        messages count: Int,
        on channel: AMQPChannel,
        _ account: SettlementAccount,
        seed: UInt64
    ) async throws {
        var random = StormRandom(seed: seed)
        // Not too small: deliveries that are held do not come again.
        try await channel.setPrefetch(count: UInt16.random(in: 60...400, using: &random))
        var consumers: [AMQPDeliveries] = []
        for _ in 0..<2 { consumers.append(try await channel.deliveries(from: queue)) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (number, deliveries) in consumers.enumerated() {
                group.addTask {
                    var random = StormRandom(seed: seed, task: number + 1)
                    var held: [AMQPDelivery] = []
                    for try await delivery in deliveries {
                        if account.read(delivery) { held.append(delivery) }
                        // Behind 20 held ones each delivery settles one, mostly not the oldest.
                        while held.count > 20 { try Self.settleOne(&held, account, &random) }
                    }
                    for delivery in held { _ = try account.settle(delivery, .ack) }
                }
            }
            // Two tasks beside them do what else one does on a channel.
            for number in 0..<2 {
                group.addTask {
                    var random = StormRandom(seed: seed, task: number + 8)
                    while account.result.ends.count < count - 50 {
                        if let delivery = try await channel.get(queue) {
                            if account.read(delivery) {
                                _ = try account.settle(delivery, Self.call(&random))
                            }
                        }
                    }
                }
            }
            try await Self.finish(consumers, queue, account, messages: count, on: channel)
            try await group.waitForAll()
        }
        // The messages requeued last.
        while let delivery = try await channel.get(queue) {
            if account.read(delivery) { _ = try account.settle(delivery, .ack) }
        }
    }

    /// Ends the consumers when little is left.
    private static func finish(
        _ consumers: [AMQPDeliveries],
        _ queue: String,
        _ account: SettlementAccount,
        messages count: Int,
        on channel: AMQPChannel
    ) async throws {
        while account.result.ends.count < count - 50 { try await Task.sleep(for: .milliseconds(5)) }
        for deliveries in consumers { try await channel.cancel(deliveries) }
    }

    private static func settleOne(
        _ held: inout [AMQPDelivery],
        _ account: SettlementAccount,
        _ random: inout StormRandom
    ) throws {
        let delivery = held.remove(at: Int.random(in: 0..<min(8, held.count), using: &random))
        _ = try account.settle(delivery, Self.call(&random))
        // At times again, which sends nothing.
        if random.isOne(in: 50) { _ = try account.settle(delivery, Self.call(&random, multiple: false)) }
    }

    private static func call(_ random: inout StormRandom, multiple: Bool = true) -> SettlementAccount.Call {
        if multiple, random.isOne(in: 12) {
            return [.ackMultiple, .nackMultiple, .requeueMultiple].randomElement(using: &random) ?? .ack
        }
        return switch Int.random(in: 0..<10, using: &random) {
        case 0..<5: .ack
        case 5, 6: .nack
        case 7: .reject
        case 8: .requeue
        default: .rejectAndRequeue
        }
    }

    /// Everything a queue holds, once it holds as many as are expected.
    static func drain(_ queue: String, expecting count: Int, on channel: AMQPChannel) async throws -> [String] {
        let deadline = ContinuousClock.now + .seconds(20)
        while try await channel.inspectQueue(queue).messageCount < count, ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(5))
        }
        var bodies: [String] = []
        while let delivery = try await channel.get(queue, acknowledgement: .automatic) {
            bodies.append(delivery.body.string)
        }
        return bodies
    }
}
