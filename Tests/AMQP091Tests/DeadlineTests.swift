// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// DeadlineTests: every call that waits gives up at its deadline and with its task, in the states it can wait in; the
// late reply is dropped and the channel stays usable.

@Suite("Deadlines and cancellation", .timeLimit(.minutes(1)))
struct DeadlineTests {
    typealias Call = @Sendable (_ channel: AMQPChannel, _ timeout: Duration) async throws -> Void

    struct Row: CustomTestStringConvertible, Sendable {
        let name: String
        let request: MethodID
        let reply: Method
        let call: Call
        var testDescription: String { self.name }

        init(_ request: MethodID, _ reply: Method, _ call: @escaping Call) {
            self.name = "\(request)"
            self.request = request
            self.reply = reply
            self.call = call
        }
    }

    static let declareOk = Method.queueDeclareOk(.init(queue: "q"))

    static let rows = [
        Row(Queue.Declare.id, declareOk) { try await $0.declareQueue("q", timeout: $1) },
        Row(Queue.Declare.id, declareOk) { _ = try await $0.inspectQueue("q", timeout: $1) },
        Row(Queue.Delete.id, .queueDeleteOk(.init())) { try await $0.deleteQueue("q", timeout: $1) },
        Row(Queue.Purge.id, .queuePurgeOk(.init())) { try await $0.purgeQueue("q", timeout: $1) },
        Row(Queue.Bind.id, .queueBindOk(.init())) { try await $0.bindQueue("q", to: "e", timeout: $1) },
        Row(Queue.Unbind.id, .queueUnbindOk(.init())) { try await $0.unbindQueue("q", from: "e", timeout: $1) },
        Row(Exchange.Declare.id, .exchangeDeclareOk(.init())) { try await $0.declareExchange("e", timeout: $1) },
        Row(Exchange.Delete.id, .exchangeDeleteOk(.init())) { try await $0.deleteExchange("e", timeout: $1) },
        Row(Exchange.Bind.id, .exchangeBindOk(.init())) { try await $0.bindExchange("e", to: "f", timeout: $1) },
        Row(Exchange.Unbind.id, .exchangeUnbindOk(.init())) {
            try await $0.unbindExchange("e", from: "f", timeout: $1)
        },
        Row(Basic.Qos.id, .basicQosOk(.init())) { try await $0.setPrefetch(count: 1, timeout: $1) },
        Row(Basic.Get.id, .basicGetEmpty(.init())) { _ = try await $0.get("q", timeout: $1) },
        Row(Basic.Recover.id, .basicRecoverOk(.init())) { try await $0.recover(timeout: $1) },
        Row(Confirm.Select.id, .confirmSelectOk(.init())) { try await $0.enableConfirms(timeout: $1) },
        Row(Tx.Select.id, .txSelectOk(.init())) { try await $0.withTransaction(timeout: $1) { _ in } },
    ]

    /// The channel answers the next request, whatever came before.
    static func goesOn(_ broker: ScriptedBroker, _ channel: AMQPChannel) async throws {
        async let declaring = channel.declareQueue("still here")
        try await broker.expect(Queue.Declare.self, on: 1)
        try broker.send(.queueDeclareOk(.init(queue: "still here")), on: 1)
        #expect(try await declaring.name == "still here")
        #expect(channel.isOpen)
    }

    @Test("A request whose reply does not come ends at its deadline, and its late reply is swallowed", arguments: rows)
    func late(_ row: Row) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let call = Task { try await row.call(channel, .milliseconds(20)) }
            try await broker.expect(row.request, on: 1)
            let error = await #expect(throws: AMQPError.self) { try await call.value }
            #expect(error?.code == .timedOut)
            #expect(error?.scope == .operation)
            #expect(error?.isSafeToRetry == false)
            try broker.send(row.reply, on: 1)
            try await Self.goesOn(broker, channel)
        }
    }

    @Test("F30: a request whose task is cancelled ends at once, and its late reply is swallowed", arguments: rows)
    func cancelled(_ row: Row) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let call = Task { try await row.call(channel, .seconds(60)) }
            try await broker.expect(row.request, on: 1)
            call.cancel()
            let error = await #expect(throws: AMQPError.self) { try await call.value }
            #expect(error?.code == .cancelled)
            try broker.send(row.reply, on: 1)
            try await Self.goesOn(broker, channel)
        }
    }

    @Test("A request that meets a closing channel is refused at once, and nothing is sent", arguments: rows)
    func closing(_ row: Row) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let close = Task { try await channel.close() }
            try await broker.expect(Channel.Close.self, on: 1)
            let error = await #expect(throws: AMQPError.self) { try await row.call(channel, .seconds(60)) }
            #expect(error?.code == .channelClosed)
            #expect(error?.isSafeToRetry == true)
            try broker.send(.channelCloseOk(.init()), on: 1)
            try await close.value
        }
    }

    @Test("A request in flight when the link is lost fails with the connection", arguments: rows)
    func lost(_ row: Row) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let call = Task { try await row.call(channel, .seconds(60)) }
            try await broker.expect(row.request, on: 1)
            broker.drop()
            let error = await #expect(throws: AMQPError.self) { try await call.value }
            #expect(error?.code == .connectionClosed)
            #expect(error?.isSafeToRetry == false)
        }
    }

    static let publishes: [@Sendable (AMQPChannel, Duration) async throws -> Void] = [
        { try await $0.publish("x", to: .queue("q"), timeout: $1) },
        { try await $0.publishAndConfirm("x", to: .queue("q"), timeout: $1) },
    ]

    enum Obstacle: String, CaseIterable, Sendable { case window, blocked, flow }

    @Test(
        "A publish that finds no room gives up at its deadline or with its task, takes no number, and says why",
        arguments: Obstacle.allCases,
        [true, false]
    )
    func noRoom(_ obstacle: Obstacle, _ isCancelled: Bool) async throws {
        try await PublishDialogueTests.withConfirms(window: 1) { broker, connection, channel in
            let words: String
            switch obstacle {
            case .window:
                try await channel.publish("fills the window", to: .queue("q"))
                _ = try await broker.expectPublish()
                words = "window"
            case .blocked:
                var states = connection.blockedStates.makeAsyncIterator()
                _ = await states.next(isolation: nil)
                try broker.send(.connectionBlocked(.init(reason: "low on memory")))
                #expect(await states.next(isolation: nil) == .some("low on memory"))
                words = "low on memory"
            case .flow:
                try broker.send(.channelFlow(.init(active: false)), on: 1)
                try await broker.expect(Channel.FlowOk.self, on: 1)
                words = "channel.flow"
            }
            let before = channel.confirmCounts.published
            for publish in Self.publishes {
                let task = Task { try await publish(channel, isCancelled ? .seconds(60) : .milliseconds(20)) }
                if isCancelled { task.cancel() }
                let error = await #expect(throws: AMQPError.self) { try await task.value }
                #expect(error?.code == (isCancelled ? .cancelled : .timedOut))
                #expect(error?.isSafeToRetry == true)
                if !isCancelled { #expect(error?.replyText.contains(words) == true, "\(error?.replyText ?? "")") }
            }
            #expect(channel.confirmCounts.published == before)
            switch obstacle {
            case .window: try broker.ack(1)
            case .blocked: try broker.send(.connectionUnblocked(.init()))
            case .flow:
                try broker.send(.channelFlow(.init(active: true)), on: 1)
                try await broker.expect(Channel.FlowOk.self, on: 1)
            }
            async let publishing: Void = channel.publishAndConfirm("goes on", to: .queue("q"))
            #expect(try await broker.expectPublish().body == Array("goes on".utf8))
            try broker.ack(before + 1)
            try await publishing
        }
    }

    @Test("The outcome of a publish can be asked for again after a deadline, and the confirm is not lost")
    func receipts() async throws {
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect()
            try await broker.handshake()
            let connection = try await connecting
            defer { connection.abort() }
            async let opening = connection.openPublisher(maxInFlight: 8)
            try await broker.openChannel()
            try await broker.expect(Confirm.Select.self, on: 1)
            try broker.send(.confirmSelectOk(.init()), on: 1)
            let publisher = try await opening
            var receipts: [AMQPPublishReceipt] = []
            for number in 0..<4 { receipts.append(try await publisher.enqueue("\(number)", to: .queue("q"))) }
            for _ in 0..<4 { _ = try await broker.expectPublish() }
            guard case .unknown(let late) = await receipts[0].outcome(timeout: .milliseconds(20)) else {
                Issue.record("an outcome without a confirm")
                return
            }
            #expect(late.code == .timedOut)
            let receipt = receipts[0]
            let waiting = Task { await receipt.outcome() }
            waiting.cancel()
            guard case .unknown(let cancelled) = await waiting.value else {
                Issue.record("an outcome without a confirm")
                return
            }
            #expect(cancelled.code == .cancelled)
            try broker.send(.basicNack(.init(deliveryTag: DeliveryTag(3), multiple: false, requeue: false)), on: 1)
            try broker.ack(2, multiple: true)
            #expect(await receipts[0].outcome() == .confirmed)
            #expect(await receipts[1].outcome() == .confirmed)
            #expect(await receipts[2].outcome() == .nacked)
            broker.drop()
            guard case .unknown(let lost) = await receipts[3].outcome() else {
                Issue.record("a lost publish has an outcome")
                return
            }
            #expect(lost.code == .connectionClosed)
            #expect(await receipts[0].outcome() == .confirmed)
            #expect(publisher.counts.unknown == 1)
        }
    }

    @Test("Updating the secret ends at its deadline; the late answer is not taken for the next one's")
    func secret() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let first = Task { try await connection.updateSecret("one", timeout: .milliseconds(20)) }
            try await broker.expect(Connection.UpdateSecret.self, on: 0)
            let error = await #expect(throws: AMQPError.self) { try await first.value }
            #expect(error?.code == .timedOut)
            let second = Task { try await connection.updateSecret("two") }
            try await broker.expect(Connection.UpdateSecret.self, on: 0)
            try broker.send(.connectionUpdateSecretOk(.init()))
            try broker.send(.connectionUpdateSecretOk(.init()))
            try await second.value
            try await Self.goesOn(broker, channel)
        }
    }
}
