// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation
import Synchronization
import Testing

// RabbitMQVersionTests: what differs between RabbitMQ 3.10, 4.0 and 4.3, against the broker at hand. A test of something
// that a version does not have says what that version does instead, or is not run on it.

@Suite("RabbitMQ versions", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct RabbitMQVersionTests {
    struct Failed: Error {}

    /// The version of the broker at hand, such as (4, 3).
    static func version(_ connection: AMQPConnection) -> (major: Int, minor: Int) {
        let text = connection.serverProperties["version"]?.stringValue ?? "0.0"
        let numbers = text.split(separator: ".").map { Int($0) ?? 0 }
        return (numbers[0], numbers[1])
    }

    static func isAtLeast(_ major: Int, _ minor: Int, _ connection: AMQPConnection) -> Bool {
        Self.version(connection) >= (major, minor)
    }

    static func unique(_ name: String) -> String { "\(name)-\(UInt64.random(in: 0 ..< .max))" }

    /// The next message of a queue, within some seconds.
    static func getSoon(_ queue: String, on channel: AMQPChannel, within: Duration = .seconds(10)) async throws
        -> AMQPDelivery
    {
        let deadline = ContinuousClock.now + within
        while true {
            if let delivery = try await channel.get(queue) { return delivery }
            try #require(ContinuousClock.now < deadline, "nothing came to \(queue)")
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    static func eventually(_ what: Comment, _ condition: () async throws -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(30)
        while try await !condition() {
            try #require(ContinuousClock.now < deadline, what)
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    @Test("Poison message: a delivery limit of 5 makes 6 deliveries and 1 dead letter", arguments: [1, 4])
    func poison(_ maxConcurrency: Int) async throws {
        try await TestBroker.withConnection { connection in
            let (queue, dead) = (Self.unique("poison"), Self.unique("poison-dead"))
            try await connection.withChannel { channel in
                try await channel.declareQueue(dead, as: .quorum())
                try await channel.declareQueue(queue, as: .quorum(deliveryLimit: 5, deadLetter: .queue(dead)))
                try await channel.enableConfirms()
                try await channel.publishAndConfirm(
                    AMQPMessage("poison", properties: BasicProperties(messageID: "p1")),
                    to: .queue(queue)
                )
                try await channel.setPrefetch(count: 10)
                let attempts = Mutex(0)
                let deliveries = try await channel.deliveries(from: queue)
                async let processing: Void = deliveries.process(maxConcurrency: maxConcurrency) { _ in
                    attempts.withLock { $0 += 1 }
                    throw Failed()
                }
                try await connection.withChannel { other in
                    let letter = try await Self.getSoon(dead, on: other, within: .seconds(30))
                    let properties = try letter.properties()
                    #expect(properties.messageID == "p1")
                    #expect(properties.deaths.map(\.queue) == [queue])
                    #expect(properties.deaths.map(\.reason) == ["delivery_limit"])
                    #expect(properties.firstDeath?.reason == "delivery_limit")
                    if Self.isAtLeast(4, 0, connection) {
                        #expect(properties.lastDeath?.queue == queue)
                        #expect(properties.lastDeath?.reason == "delivery_limit")
                        #expect(properties.lastDeath?.exchange == "")
                    } else {
                        #expect(properties.lastDeath == nil)
                    }
                    try letter.ack()
                    #expect(try await other.get(dead) == nil)
                    #expect(try await TestBroker.settles(queue, on: other, at: 0))
                }
                try await channel.cancel(deliveries)
                try await processing
                #expect(attempts.withLock { $0 } == 6)
            }
            try await connection.withChannel { channel in
                for name in [queue, dead] { try await channel.deleteQueue(name) }
            }
        }
    }

    @Test("A returned message does not count as a failure on RabbitMQ 4.3, which counts acquisitions apart")
    func counts() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue(Self.unique("counts"), as: .quorum(deliveryLimit: -1)).name
                try await channel.publish("m", to: .queue(queue))
                var seen: [(Int64?, Int64?)] = []
                for isFailure in [false, true, false, true, true] {
                    let delivery = try await Self.getSoon(queue, on: channel)
                    let properties = try delivery.properties()
                    seen.append((properties.deliveryCount, properties.acquiredCount))
                    if isFailure { try delivery.reject() } else { try delivery.nack() }
                }
                let expected: [(Int64?, Int64?)]
                switch Self.version(connection) {
                case (4, 3...), (5..., _): expected = [(nil, nil), (nil, 1), (1, 2), (1, 3), (2, 4)]
                case (4, _): expected = [(nil, nil), (1, nil), (2, nil), (3, nil), (4, nil)]
                default: expected = [(0, nil), (1, nil), (2, nil), (3, nil), (4, nil)]
                }
                #expect(seen.elementsEqual(expected, by: ==), "\(seen)")
                try await channel.deleteQueue(queue)
            }
        }
    }

    /// The record of the handlers of a test.
    final class Work: Sendable {
        struct State {
            var hasBegun = false
            var bodies: [String] = []
            var settlements: [AMQPSettlement] = []
        }

        let state = Mutex(State())

        func isFirst() -> Bool {
            self.state.withLock { state in
                defer { state.hasBegun = true }
                return !state.hasBegun
            }
        }

        func settled(_ body: String, _ settlement: AMQPSettlement) {
            self.state.withLock { state in
                state.bodies.append(body)
                state.settlements.append(settlement)
            }
        }
    }

    /// How late a handler may be.
    static let late: Duration = .seconds(2)

    /// Makes the timeout of consumers short; false where it cannot be.
    private static func shortenTimeout(_ connection: AMQPConnection) async throws -> Bool {
        guard !Self.isAtLeast(4, 3, connection) else { return true }
        // The timeout is the whole broker's: other tests would run into it.
        guard TestBroker.script != nil, TestBroker.isAlone else { return false }
        try await TestBroker.control(
            "eval",
            "application:set_env(rabbit, consumer_timeout, 2000), application:set_env(rabbit, channel_tick_interval, 500)."
        )
        return true
    }

    private static func restoreTimeout(_ connection: AMQPConnection) async throws {
        guard !Self.isAtLeast(4, 3, connection) else { return }
        try await TestBroker.control(
            "eval",
            "application:set_env(rabbit, consumer_timeout, 1800000), "
                + "application:set_env(rabbit, channel_tick_interval, 60000)."
        )
    }

    @Test("A late handler on a queue with a single active consumer: the queue continues, and no consumer remains")
    func lateHandler() async throws {
        try await TestBroker.withConnection { watcher in
            guard try await Self.shortenTimeout(watcher) else { return }
            let queue = Self.unique("late")
            let topology = AMQPTopology {
                $0.queue(queue, as: .quorum(singleActiveConsumer: true, consumerTimeout: Self.late))
            }
            let work = Work()
            let configuration = try AMQPClientConfiguration(uri: try #require(TestBroker.uri))
            try await AMQPClient.withClient(configuration, topology: topology) { client in
                try await client.withPublisher { publisher in
                    for number in 0..<6 { try await publisher.publish("\(number)", to: .queue(queue)) }
                }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<2 {
                        group.addTask {
                            try await client.consume(queue, prefetch: 2) { deliveries in
                                try await deliveries.process { delivery in
                                    if work.isFirst() { try await Task.sleep(for: Self.late * 3) }
                                    work.settled(delivery.body.string, try delivery.ack())
                                }
                            }
                        }
                    }
                    try await Self.eventually("all are handled, the late one again") {
                        work.state.withLock { Set($0.bodies).count == 6 && $0.bodies.count >= 7 }
                    }
                    // Of a queue with a single active consumer the broker counts that one.
                    try await Self.eventually("one consumer is active, and nothing is left") {
                        let found = try await watcher.inspectQueue(queue)
                        return found?.consumerCount == 1 && found?.messageCount == 0
                    }
                    #expect(work.state.withLock { $0.settlements.contains(.stale) })
                    #expect(work.state.withLock { $0.settlements.filter { $0 == .settled }.count } == 6)
                    await client.shutdown()
                    try await group.waitForAll()
                }
            }
            try await Self.eventually("no consumer is left") {
                try await watcher.inspectQueue(queue)?.consumerCount == 0
            }
            try await Self.restoreTimeout(watcher)
            try await watcher.withChannel { _ = try await $0.deleteQueue(queue) }
        }
    }

    @Test("A late acknowledgement on RabbitMQ 4.3 ends the consumer as a timeout, and its channel stays usable")
    func lateOnAChannel() async throws {
        try await TestBroker.withConnection { connection in
            guard Self.isAtLeast(4, 3, connection) else { return }
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue(Self.unique("late"), as: .quorum()).name
                for number in 0..<4 { try await channel.publish("\(number)", to: .queue(queue)) }
                try await channel.setPrefetch(count: 2)
                let deliveries = try await channel.deliveries(
                    from: queue,
                    arguments: .consumer(priority: 1, timeout: .seconds(1))
                )
                var iterator = deliveries.makeAsyncIterator()
                var held: [AMQPDelivery] = []
                for _ in 0..<2 { held.append(try #require(try await iterator.next(isolation: nil))) }
                let error = await #expect(throws: AMQPError.self) { try await iterator.next(isolation: nil) }
                #expect(error?.code == .acknowledgementTimedOut)
                #expect(error?.scope == .operation)
                #expect(try await channel.inspectQueue(queue).consumerCount == 0)
                // The broker has taken them back: settling them closes nothing and settles nothing, and says so.
                for delivery in held {
                    let late = #expect(throws: AMQPError.self) { try delivery.ack() }
                    #expect(late?.code == .acknowledgementTimedOut)
                }
                #expect(try await TestBroker.settles(queue, on: channel, at: 4))
                #expect(channel.isOpen)
                try await channel.deleteQueue(queue)
            }
        }
    }

    @Test("A consumer whose queue is deleted while it holds deliveries learns that, on every version")
    func deletedWhileHeld() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue(Self.unique("deleted"), as: .quorum()).name
                try await channel.publish("m", to: .queue(queue))
                let deliveries = try await channel.deliveries(from: queue)
                var iterator = deliveries.makeAsyncIterator()
                let held = try await iterator.next(isolation: nil)
                try await connection.withChannel { _ = try await $0.deleteQueue(queue) }
                let error = await #expect(throws: AMQPError.self) { try await iterator.next(isolation: nil) }
                #expect(error?.code == .consumerCancelled)
                #expect(held != nil)
                #expect(channel.isOpen)
            }
        }
    }

    @Test(
        "Delayed retry: RabbitMQ 4.3 delays what failed, what returned, or both; earlier versions take it and do not",
        arguments: [AMQPQuorumQueue.DelayedRetryType.failed, .returned, .all]
    )
    func delayedRetry(_ type: AMQPQuorumQueue.DelayedRetryType) async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let delay = Duration.seconds(3)
                let kind = AMQPQuorumQueue.quorum(delayedRetry: .init(type, minimum: delay, maximum: delay * 2))
                let queue = try await channel.declareQueue(Self.unique("retry"), as: kind).name
                for isFailure in [true, false] {
                    try await channel.publish("m", to: .queue(queue))
                    let first = try await Self.getSoon(queue, on: channel)
                    let start = ContinuousClock.now
                    if isFailure { try first.reject() } else { try first.nack() }
                    try await Self.getSoon(queue, on: channel).ack()
                    let isDelayed = ContinuousClock.now - start >= delay - .milliseconds(50)
                    let isWanted = type == .all || (type == .failed) == isFailure
                    #expect(isDelayed == (isWanted && Self.isAtLeast(4, 3, connection)), "failure: \(isFailure)")
                }
                try await channel.deleteQueue(queue)
            }
        }
    }

    @Test("Every option of a quorum queue for RabbitMQ 4.3 is taken by every version")
    func quorumOptions() async throws {
        try await TestBroker.withChannel { channel in
            var kind = AMQPQuorumQueue()
            kind.deliveryLimit = -1
            kind.consumerTimeout = .seconds(60)
            kind.consumerDisconnectedTimeout = .seconds(10)
            kind.delayedRetry = .init(.all, minimum: .seconds(1))
            let queue = try await channel.declareQueue(Self.unique("options"), as: kind).name
            try await channel.declareQueue(queue, as: kind)
            try await channel.deleteQueue(queue)
        }
    }

    @Test("Priorities of a quorum queue: none before 4.0, strict since 4.3, 4 where a message has none")
    func priorities() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                try await channel.enableConfirms()
                let queue = try await channel.declareQueue(Self.unique("priority"), as: .quorum()).name
                let published: [UInt8?] = [0, 9, nil, 4, 31, 5, 200]
                for priority in published {
                    let text = priority.map { "\($0)" } ?? "none"
                    let message = AMQPMessage(text, properties: BasicProperties(priority: priority))
                    try await channel.publishAndConfirm(message, to: .queue(queue))
                }
                var order: [String] = []
                for _ in published {
                    let delivery = try await Self.getSoon(queue, on: channel)
                    order.append(delivery.body.string)
                    try delivery.ack()
                }
                if Self.isAtLeast(4, 3, connection) {
                    #expect(order == ["31", "200", "9", "5", "none", "4", "0"])
                } else if Self.version(connection).major < 4 {
                    #expect(order == published.map { $0.map { "\($0)" } ?? "none" })
                } else {
                    // Two priorities, two of the higher for one of the lower.
                    #expect(order.first == "9")
                    #expect(Set(order).count == published.count)
                }
                try await channel.deleteQueue(queue)
            }
        }
    }

    @Test("Exchange types: x-local-random since 4.0, x-modulus-hash since 4.3; else the declaration is refused")
    func exchangeTypes() async throws {
        for (type, since) in [(AMQPExchangeType.localRandom, (4, 0)), (.modulusHash, (4, 3))] {
            try await TestBroker.withConnection { connection in
                let exchange = Self.unique("exchange")
                guard Self.version(connection) >= since else {
                    let channel = try await connection.openChannel()
                    let error = await #expect(throws: AMQPError.self) {
                        try await channel.declareExchange(exchange, type: type)
                    }
                    #expect([.commandInvalid, .preconditionFailed].contains(error?.replyCode))
                    #expect((error?.code == .topologyRefused) == (error?.replyCode == .commandInvalid))
                    #expect(error?.replyText.contains("exchange type") == true)
                    return
                }
                try await connection.withChannel { channel in
                    try await channel.enableConfirms()
                    try await channel.declareExchange(exchange, type: type)
                    var queues: [String] = []
                    for _ in 0..<3 {
                        queues.append(try await channel.declareQueue(exclusive: true).name)
                        try await channel.bindQueue(queues.last ?? "", to: exchange)
                    }
                    for _ in 0..<60 {
                        try await channel.publish("m", to: .exchange(exchange, routingKey: "the same key"))
                    }
                    try await channel.waitForConfirms()
                    var counts: [Int] = []
                    for queue in queues { counts.append(try await channel.inspectQueue(queue).messageCount) }
                    #expect(counts.reduce(0, +) == 60)
                    // The same key goes to one queue by its hash, and to all by chance.
                    #expect(counts.filter { $0 > 0 }.count == (type == .modulusHash ? 1 : 3), "\(counts)")
                    try await channel.deleteExchange(exchange)
                }
            }
        }
    }

    @Test("A stream's filter leaves out other values since 3.13; before, everything is delivered")
    func streamFilter() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                try await channel.enableConfirms()
                var kind = AMQPStreamQueue()
                kind.filterOctets = 32
                let queue = try await channel.declareQueue(Self.unique("filter"), as: kind).name
                // Each is confirmed separately, so that each has a separate chunk.
                for value in ["a", "b", "a", "b"] {
                    var message = AMQPMessage(AMQPBody("\(value)"))
                    message.properties.streamFilterValue = value
                    try await channel.publishAndConfirm(message, to: .queue(queue))
                }
                try await channel.setPrefetch(count: 10)
                let deliveries = try await channel.deliveries(
                    from: queue,
                    arguments: .stream(from: .first, filter: ["b"])
                )
                let expected = Self.isAtLeast(3, 13, connection) ? ["b", "b"] : ["a", "b", "a", "b"]
                var values: [String] = []
                for try await delivery in deliveries {
                    values.append(try delivery.properties().streamFilterValue ?? "")
                    #expect(values.last == delivery.body.string)
                    try delivery.ack()
                    if values.count == expected.count { break }
                }
                #expect(values == expected)
                try await channel.deleteQueue(queue)
            }
        }
    }

    @Test("A table comes back equal on every version, and in its order before 4.0")
    func tables() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue(exclusive: true).name
                let headers: FieldTable = ["z": 1, "a": ["y": 1, "b": 2], "z": 2]
                let message = AMQPMessage("m", properties: BasicProperties(headers: headers))
                try await channel.publish(message, to: .queue(queue))
                let got = try #require(try await Self.getSoon(queue, on: channel).properties().headers)
                #expect(got == headers)
                #expect(got.isEqualInOrder(to: headers) == !Self.isAtLeast(4, 0, connection))
                #expect(got["z"] == 1)
            }
        }
    }

    @Test("A shared queue that is not durable: where the broker refuses it (541), the error names the declaration")
    func transientShared() async throws {
        try await TestBroker.withConnection { connection in
            let channel = try await connection.openChannel()
            let queue = Self.unique("transient")
            do throws(AMQPError) {
                try await channel.declareQueue(queue, durable: false)
                try await channel.deleteQueue(queue)
            } catch {
                #expect(Self.isAtLeast(4, 3, connection))
                #expect(error.code == .topologyRefused)
                #expect(error.scope == .connection)
                #expect(error.method?.description.hasPrefix("queue.declare") == true)
                #expect(error.replyText.hasPrefix("queue '\(queue)': "))
                #expect(error.replyCode == .internalError)
                #expect(error.replyText.contains("transient_nonexcl_queues"))
            }
        }
        try await TestBroker.withChannel { channel in
            // The defaults are taken everywhere.
            let queue = Self.unique("default")
            try await channel.declareQueue(queue)
            try await channel.declare(AMQPTopology { $0.queue(queue) })
            try await channel.deleteQueue(queue)
            try await channel.declareQueue(exclusive: true)
            try await channel.declareQueue(as: .classic(durable: true, exclusive: true))
            try await channel.declareQueue(Self.unique("gone"), autoDelete: true)
        }
    }
}
