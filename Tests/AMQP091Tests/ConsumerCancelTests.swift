// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollNetworking
import Testing

// ConsumerCancelTests: consumers that are cancelled by whoever has no part in them, while nobody or several tasks read.

@Suite("Cancelling consumers", .timeLimit(.minutes(1)))
struct ConsumerCancelTests {
    @Test("A channel does not cancel the consumer of another channel, which continues")
    func otherChannel() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let (own, other) = (try await connection.openChannel(), try await connection.openChannel())
            try await own.declareQueue("q")
            let deliveries = try await own.deliveries(from: "q")
            let error = await #expect(throws: AMQPError.self) { try await other.cancel(deliveries) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.isSafeToRetry == true)
            try await other.publish("m", to: .queue("q"))
            var iterator = deliveries.makeAsyncIterator()
            #expect(try await iterator.next()?.body.string == "m")
            try await own.cancel(deliveries)
            #expect(try await iterator.next() == nil)
            #expect(await broker.queue("q")?.consumers == 0)
        }
    }

    @Test("Settling what the broker took back when it cancelled a consumer says so; what others got is settled")
    func lateSettlement() async throws {
        try await ConsumeDialogueTests.withConsumerOn4_3 { broker, channel, deliveries, tag in
            async let starting = channel.deliveries(from: "others", consumerTag: "others")
            try await broker.expect(Basic.Consume.self, on: 1)
            try broker.send(.basicConsumeOk(.init(consumerTag: "others")), on: 1)
            var others = try await starting.makeAsyncIterator()
            var iterator = deliveries.makeAsyncIterator()
            try broker.deliver("1", tag: 1, consumer: tag)
            try broker.deliver("2", tag: 2, consumer: tag)
            try broker.deliver("3", tag: 3, consumer: "others")
            let first = try #require(try await iterator.next())
            let second = try #require(try await iterator.next())
            let other = try #require(try await others.next())
            try broker.send(.basicCancel(.init(consumerTag: tag, noWait: true)), on: 1)
            try await broker.expect(Basic.Cancel.self, on: 1)
            try await broker.openChannel(2)
            try await broker.expect(Queue.Declare.self, on: 2)
            // Nobody knows yet whether the queue is there. The broker is told all the same, so that it forgets the tag.
            let early = #expect(throws: AMQPError.self) { try first.ack() }
            #expect(early?.code == .consumerCancelled)
            #expect(try await broker.expect(Basic.Ack.self, on: 1).deliveryTag == DeliveryTag(1))
            let declareOk = Method.queueDeclareOk(.init(queue: "orders", messageCount: 2, consumerCount: 0))
            try broker.send(declareOk, on: 2)
            try await broker.expect(Queue.Declare.self, on: 2)
            try broker.send(declareOk, on: 2)
            try await broker.expect(Channel.Close.self, on: 2)
            try broker.send(.channelCloseOk(.init()), on: 2)
            let ending = await #expect(throws: AMQPError.self) { try await iterator.next() }
            #expect(ending?.code == .acknowledgementTimedOut)
            let late = #expect(throws: AMQPError.self) { try second.reject() }
            #expect(late?.code == .acknowledgementTimedOut)
            try await broker.expect(Basic.Reject.self, on: 1)
            let again = #expect(throws: AMQPError.self) { try first.ack() }
            #expect(again?.code == .alreadySettled)
            let settlement = try other.ack()
            #expect(settlement == .settled)
            #expect(try await broker.expect(Basic.Ack.self, on: 1).deliveryTag == DeliveryTag(3))
            #expect(channel.isOpen)
        }
    }

    @Test("A link lost while the queue of a cancelled consumer is asked for ends the consumer as lost")
    func linkLostAfterCancel() async throws {
        try await ConsumeDialogueTests.withConsumerOn4_3 { broker, channel, deliveries, tag in
            var iterator = deliveries.makeAsyncIterator()
            try broker.deliver("held", tag: 1, consumer: tag)
            let held = try #require(try await iterator.next())
            try broker.send(.basicCancel(.init(consumerTag: tag, noWait: true)), on: 1)
            try await broker.expect(Basic.Cancel.self, on: 1)
            try await broker.openChannel(2)
            try await broker.expect(Queue.Declare.self, on: 2)
            broker.drop()
            let ending = await #expect(throws: AMQPError.self) { try await iterator.next() }
            #expect(ending?.code == .connectionClosed)
            #expect(channel.isOpen == false)
            _ = held
        }
    }

    @Test(
        "A cancelled consumer whose queue cannot be asked for is not told of a deletion, and settles nothing",
        arguments: [true, false]
    )
    func unknownReason(hasChannel: Bool) async throws {
        try await ScriptedBroker.withBroker { broker in
            var configuration = AMQPClientConfiguration()
            configuration.operationTimeout = .seconds(3)
            async let connecting = broker.connect(configuration)
            let tune = Connection.Tune(channelMax: hasChannel ? 2 : 1, frameMax: 131_072, heartbeat: 60)
            try await broker.handshake(start: ScriptedBroker.rabbitMQ("4.3.6"), tune: tune)
            let connection = try await connecting
            defer { connection.abort() }
            async let opening = connection.openChannel()
            try await broker.openChannel()
            let channel = try await opening
            async let starting = channel.deliveries(from: "orders")
            let tag = try await broker.expect(Basic.Consume.self, on: 1).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            var iterator = try await starting.makeAsyncIterator()
            try broker.deliver("held", tag: 1, consumer: tag)
            let held = try #require(try await iterator.next())
            try broker.send(.basicCancel(.init(consumerTag: tag, noWait: true)), on: 1)
            try await broker.expect(Basic.Cancel.self, on: 1)
            if hasChannel {
                // The question gets no answer.
                try await broker.openChannel(2)
                try await broker.expect(Queue.Declare.self, on: 2)
            }
            let ending = await #expect(throws: AMQPError.self) { try await iterator.next() }
            #expect(ending?.code == .consumerCancelled)
            #expect(ending?.replyText.contains("deleted or") == false, "\(ending as Any)")
            let late = #expect(throws: AMQPError.self) { try held.ack() }
            #expect(late?.code == .consumerCancelled)
            #expect(channel.isOpen)
        }
    }

    @Test("A late consumer of the in-process broker is told of its timeout, as on the RabbitMQ it stands for")
    func lateOnInProcessBroker() async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(.v4_3)) { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q", as: .quorum())
            try await channel.publish("m", to: .queue("q"))
            let deliveries = try await channel.deliveries(from: "q")
            var iterator = deliveries.makeAsyncIterator()
            let held = try #require(try await iterator.next())
            #expect(await broker.timeOutAcknowledgements(of: "q"))
            let ending = await #expect(throws: AMQPError.self) { try await iterator.next() }
            #expect(ending?.code == .acknowledgementTimedOut)
            let late = #expect(throws: AMQPError.self) { try held.ack() }
            #expect(late?.code == .acknowledgementTimedOut)
            #expect(channel.isOpen)
            #expect(await broker.depth(of: "q") == 1)
        }
    }

    @Test("A late handler of a client of the in-process broker settles nothing, and the message is handled again")
    func lateHandlerOnInProcessBroker() async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(.v4_3)) { broker in
            let topology = AMQPTopology { $0.queue("q", as: .quorum()) }
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: topology) { client in
                try await client.withPublisher { try await $0.publish("m", to: .queue("q")) }
                try await client.consume("q") { deliveries in
                    var iterator = deliveries.makeAsyncIterator()
                    let held = try #require(try await iterator.next())
                    #expect(await broker.timeOutAcknowledgements(of: "q"))
                    let again = try #require(try await iterator.next())
                    #expect(again.body.string == "m")
                    #expect(try held.ack() == .stale)
                    #expect(try again.ack() == .settled)
                    try await broker.waitUntil(queue: "q") { $0?.ready == 0 && $0?.unacknowledged == 0 }
                }
            }
        }
    }

    /// Octets of one message below, and how many there are: more than 16 times the buffer, and than one read takes.
    private static let (size, count) = (1000, 3000)

    @Test(
        "The cancel of a consumer nobody reads is answered, however much is queued; what is too much returns",
        arguments: [AMQPAcknowledgement.manual, .automatic]
    )
    func unread(_ acknowledgement: AMQPAcknowledgement) async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = broker.configuration
            configuration.consumerBufferSize = 4096
            let connection = try await broker.connect(configuration)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let filling = String(repeating: ".", count: Self.size)
            for number in 0..<Self.count { try await channel.publish("\(number) \(filling)", to: .queue("q")) }
            try await broker.waitUntil(queue: "q") { $0?.ready == Self.count }
            let deliveries = try await channel.deliveries(from: "q", acknowledgement: acknowledgement)
            try await channel.cancel(deliveries, timeout: .seconds(10))
            var read: [String] = []
            for try await delivery in deliveries {
                read.append(String(delivery.body.string.prefix { $0 != " " }))
                if acknowledgement == .manual { try delivery.ack() }
            }
            #expect(read == (0..<read.count).map { "\($0)" })
            #expect(!read.isEmpty)
            // Deliveries beyond the buffer, and those the broker had not sent before the cancel.
            let left = Self.count - read.count
            try await broker.waitUntil(queue: "q") { $0?.ready == left && $0?.unacknowledged == 0 }
            #expect(left > 0)
        }
    }

    @Test("Tasks that read the same deliveries wait without using their thread, and share them")
    func severalReaders() async throws {
        // A private thread: a loop that never waits delays only the task that is looked for below.
        let group = try EventLoopGroup(count: 1)
        let executor = group.next()
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let deliveries = try await channel.deliveries(from: "q")
            let readers = (0..<3).map { _ in
                Task(executorPreference: executor) {
                    var seen: [String] = []
                    for try await delivery in deliveries {
                        seen.append(delivery.body.string)
                        try delivery.ack()
                    }
                    return seen
                }
            }
            let other = Task(executorPreference: executor) { for _ in 0..<10 { await Task.yield() } }
            let isServed = await withTaskGroup(of: Bool.self) { tasks in
                tasks.addTask {
                    await other.value
                    return true
                }
                tasks.addTask { (try? await Task.sleep(for: .seconds(10))) == nil }
                defer { tasks.cancelAll() }
                return await tasks.next() ?? false
            }
            try #require(isServed, "the readers use their thread while they wait")
            try await channel.enableConfirms()
            for number in 0..<200 { try await channel.publish("\(number)", to: .queue("q")) }
            try await channel.waitForConfirms()
            try await broker.waitUntil(queue: "q") { $0?.ready == 0 && $0?.unacknowledged == 0 }
            try await channel.cancel(deliveries)
            var seen: [String] = []
            for reader in readers { seen += try await reader.value }
            #expect(seen.count == 200)
            #expect(Set(seen).count == 200)
        }
        group.shutdown()
    }
}
