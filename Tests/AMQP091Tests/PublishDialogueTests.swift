// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// PublishDialogueTests: every way a publish can end, and the broker's states that hold publishers back.

@Suite("Publish", .timeLimit(.minutes(1)))
struct PublishDialogueTests {
    static func withConfirms(
        window: Int = 1024,
        _ configuration: AMQPClientConfiguration = AMQPClientConfiguration(),
        _ body: (ScriptedBroker, AMQPConnection, AMQPChannel) async throws -> Void
    ) async throws {
        try await ScriptedBroker.withChannel(configuration) { broker, connection, channel in
            async let enabling: Void = channel.enableConfirms(window: window)
            try await broker.expect(Confirm.Select.self, on: 1)
            try broker.send(.confirmSelectOk(.init()), on: 1)
            try await enabling
            try await body(broker, connection, channel)
        }
    }

    @Test("A publish is three frames, and its ack ends it")
    func confirmed() async throws {
        try await Self.withConfirms { broker, _, channel in
            let message = AMQPMessage("hello", properties: BasicProperties(contentType: "text/plain", deliveryMode: 2))
            async let publishing: Void = channel.publishAndConfirm(message, to: .exchange("logs", routingKey: "info"))
            let publish = try await broker.expectPublish(on: 1)
            #expect(publish.method == .init(exchange: "logs", routingKey: "info"))
            #expect(publish.properties == message.properties)
            #expect(publish.body == Array("hello".utf8))
            try broker.ack(1)
            try await publishing
            #expect(channel.confirmCounts.confirmed == 1)
        }
    }

    @Test("What is published between confirm.select and its answer is counted, as the broker counts it")
    func whileEnabling() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            async let enabling: Void = channel.enableConfirms()
            try await broker.expect(Confirm.Select.self, on: 1)
            try await channel.publish("a", to: .queue("q"))
            _ = try await broker.expectPublish()
            try broker.send(.confirmSelectOk(.init()), on: 1)
            try await enabling
            let second = Task { try await channel.publishAndConfirm("b", to: .queue("q")) }
            _ = try await broker.expectPublish()
            try broker.ack(1)
            try broker.send(.basicNack(.init(deliveryTag: DeliveryTag(2), multiple: false, requeue: false)), on: 1)
            #expect(await #expect(throws: AMQPError.self) { try await second.value }?.code == .nacked)
            #expect(channel.confirmCounts.confirmed == 1)
            #expect(connection.isOpen)
        }
    }

    @Test("An empty body has no body frame, and a large one as many as it needs")
    func bodySizes() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.frameMax = 8192
        try await ScriptedBroker.withChannel(configuration) { broker, _, channel in
            for size in [0, 1, 8184, 8185, 30_000] {
                let body = (0..<size).map { UInt8(truncatingIfNeeded: $0) }
                try await channel.publish(AMQPMessage(AMQPBody(body)), to: .queue("q"))
                #expect(try await broker.expectPublish().body == body)
            }
        }
    }

    @Test("Acks in any order settle their own publishes")
    func anyOrder() async throws {
        try await Self.withConfirms { broker, _, channel in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<5 {
                    group.addTask { try await channel.publishAndConfirm("m", to: .queue("q")) }
                    _ = try await broker.expectPublish()
                }
                for tag: UInt64 in [3, 1, 5, 4, 2] { try broker.ack(tag) }
                try await group.waitForAll()
            }
            #expect(channel.confirmCounts.confirmed == 5)
        }
    }

    @Test("C29: an ack with multiple settles all before it; stale and duplicate acks are ignored")
    func multiple() async throws {
        try await Self.withConfirms { broker, connection, channel in
            for _ in 0..<10 { try await channel.publish("m", to: .queue("q")) }
            for _ in 0..<10 { _ = try await broker.expectPublish() }
            try broker.ack(7, multiple: true)
            try broker.ack(3)
            try broker.ack(7, multiple: true)
            try broker.ack(10, multiple: true)
            try await channel.waitForConfirms()
            #expect(channel.confirmCounts.confirmed == 10)
            #expect(connection.isOpen)
        }
    }

    @Test("C29: an ack for a publish that was never made closes the connection")
    func futureAck() async throws {
        try await Self.withConfirms { broker, connection, channel in
            try await channel.publish("m", to: .queue("q"))
            _ = try await broker.expectPublish()
            try broker.ack(2)
            #expect(try await broker.expect(Connection.Close.self).replyCode == .commandInvalid)
            try await broker.expectEnd()
            #expect(!connection.isOpen)
        }
    }

    @Test("F5: a nack is told as such")
    func nacked() async throws {
        try await Self.withConfirms { broker, _, channel in
            let publishing = Task { try await channel.publishAndConfirm("m", to: .queue("q")) }
            _ = try await broker.expectPublish()
            try broker.send(.basicNack(.init(deliveryTag: DeliveryTag(1), multiple: false, requeue: false)), on: 1)
            let error = await #expect(throws: AMQPError.self) { try await publishing.value }
            #expect(error?.code == .nacked)
            #expect(channel.confirmCounts.nacked == 1)
            #expect(channel.isOpen)
        }
    }

    @Test("A publish returned before its ack is returned, and only that one")
    func returned() async throws {
        try await Self.withConfirms { broker, _, channel in
            let first = Task { try await channel.publishAndConfirm("a", to: .queue("q"), mandatory: true) }
            let publish = try await broker.expectPublish()
            #expect(publish.method.mandatory)
            async let second: Void = channel.publishAndConfirm("b", to: .queue("r"), mandatory: true)
            _ = try await broker.expectPublish()
            let returned = Basic.Return(replyCode: .noRoute, replyText: "NO_ROUTE", exchange: "", routingKey: "q")
            try broker.send(.basicReturn(returned), on: 1, body: Array("a".utf8))
            try broker.ack(2, multiple: true)
            let error = await #expect(throws: AMQPError.self) { try await first.value }
            #expect(error?.code == .returned)
            #expect(error?.replyCode == .noRoute)
            #expect(error?.replyText == "NO_ROUTE")
            try await second
        }
    }

    @Test("Of publishes with one key and one length, the one that comes back is the one that was returned")
    func returnedByBody() async throws {
        try await Self.withConfirms { broker, _, channel in
            let first = Task { try await channel.publishAndConfirm("a", to: .queue("q"), mandatory: true) }
            _ = try await broker.expectPublish()
            let second = Task { try await channel.publishAndConfirm("b", to: .queue("q"), mandatory: true) }
            _ = try await broker.expectPublish()
            let returned = Basic.Return(replyCode: .noRoute, replyText: "NO_ROUTE", exchange: "", routingKey: "q")
            try broker.send(.basicReturn(returned), on: 1, body: Array("b".utf8))
            try broker.ack(2, multiple: true)
            try await first.value
            #expect(await #expect(throws: AMQPError.self) { try await second.value }?.code == .returned)
        }
    }

    @Test("A returned message larger than the limit for bodies is read past, and its publish is returned")
    func returnedTooLarge() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.maximumBodySize = 1000
        configuration.frameMax = 8192
        try await Self.withConfirms(configuration) { broker, connection, channel in
            let bodies = [[UInt8](repeating: 1, count: 1001), [UInt8](repeating: 2, count: 100_000)]
            for body in bodies {
                let publishing = Task {
                    try await channel.publishAndConfirm(AMQPMessage(AMQPBody(body)), to: .queue("q"), mandatory: true)
                }
                _ = try await broker.expectPublish()
                let returned = Basic.Return(replyCode: .noRoute, replyText: "NO_ROUTE", exchange: "", routingKey: "q")
                try broker.send(.basicReturn(returned), on: 1, body: body)
                try broker.ack(channel.confirmCounts.returned + 1)
                #expect(await #expect(throws: AMQPError.self) { try await publishing.value }?.code == .returned)
            }
            #expect(connection.isOpen)
        }
    }

    @Test("A return whose properties cannot be decoded is a return all the same")
    func returnedOddly() async throws {
        try await Self.withConfirms { broker, connection, channel in
            let publishing = Task { try await channel.publishAndConfirm("a", to: .queue("q"), mandatory: true) }
            _ = try await broker.expectPublish()
            let returned = Basic.Return(replyCode: .noRoute, replyText: "NO_ROUTE", exchange: "", routingKey: "q")
            try broker.send(.basicReturn(returned), on: 1)
            // Headers with a value of a type that does not exist.
            let table: [UInt8] = [0, 0, 0, 4, 1, 0x61, 0x3F, 0]
            let header: [UInt8] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 0] + table
            broker.sendRaw([2, 0, 1, 0, 0, 0, UInt8(header.count)] + header + [0xCE])
            broker.sendRaw([3, 0, 1, 0, 0, 0, 1, 0x61, 0xCE])
            try broker.ack(1)
            #expect(await #expect(throws: AMQPError.self) { try await publishing.value }?.code == .returned)
            #expect(connection.isOpen)
        }
    }

    @Test("U15: a channel closed while a publish is unconfirmed leaves its outcome unknown")
    func channelClosed() async throws {
        try await Self.withConfirms { broker, _, channel in
            let publishing = Task { try await channel.publishAndConfirm("m", to: .exchange("nowhere")) }
            _ = try await broker.expectPublish()
            try broker.closeChannel(.preconditionFailed, "unknown delivery tag 7", method: Basic.Ack.id)
            try await broker.expect(Channel.CloseOk.self)
            let error = await #expect(throws: AMQPError.self) { try await publishing.value }
            #expect(error?.code == .unknownOutcome)
            #expect(error?.isSafeToRetry == false)
            #expect(channel.confirmCounts.unknown == 1)
        }
    }

    @Test("A link lost while a publish is unconfirmed leaves its outcome unknown")
    func linkLost() async throws {
        try await Self.withConfirms { broker, _, channel in
            let publishing = Task { try await channel.publishAndConfirm("m", to: .queue("q")) }
            _ = try await broker.expectPublish()
            broker.drop()
            let error = await #expect(throws: AMQPError.self) { try await publishing.value }
            #expect(error?.code == .unknownOutcome)
        }
    }

    @Test("F6: a confirm that does not come leaves the outcome unknown, and the channel usable")
    func confirmDeadline() async throws {
        try await Self.withConfirms { broker, _, channel in
            let error = await #expect(throws: AMQPError.self) {
                try await channel.publishAndConfirm("m", to: .queue("q"), timeout: .milliseconds(20))
            }
            #expect(error?.code == .unknownOutcome)
            _ = try await broker.expectPublish()
            async let publishing: Void = channel.publishAndConfirm("n", to: .queue("q"))
            _ = try await broker.expectPublish()
            try broker.ack(1)
            try broker.ack(2)
            try await publishing
        }
    }

    @Test("A task that is cancelled already publishes nothing")
    func cancelledBefore() async throws {
        try await Self.withConfirms { broker, _, channel in
            let publishing = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                try await channel.publishAndConfirm("cancelled", to: .queue("q"))
            }
            let error = await #expect(throws: AMQPError.self) { try await publishing.value }
            #expect(error?.code == .cancelled)
            #expect(error?.isSafeToRetry == true)
            async let next: Void = channel.publishAndConfirm("next", to: .queue("q"))
            #expect(try await broker.expectPublish().body == Array("next".utf8))
            try broker.ack(1)
            try await next
        }
    }

    @Test("A cancelled wait for a confirm renumbers nothing")
    func cancelledConfirm() async throws {
        try await Self.withConfirms { broker, _, channel in
            let waiting = Task { try await channel.publishAndConfirm("a", to: .queue("q")) }
            _ = try await broker.expectPublish()
            waiting.cancel()
            let error = await #expect(throws: AMQPError.self) { try await waiting.value }
            #expect(error?.code == .unknownOutcome)
            let publishing = Task { try await channel.publishAndConfirm("b", to: .queue("q")) }
            _ = try await broker.expectPublish()
            try broker.ack(1)
            try broker.send(.basicNack(.init(deliveryTag: DeliveryTag(2), multiple: false, requeue: false)), on: 1)
            let second = await #expect(throws: AMQPError.self) { try await publishing.value }
            #expect(second?.code == .nacked)
        }
    }

    @Test("Who waits for the window is served in turn, and no more are woken than it takes")
    func windowInTurn() async throws {
        try await Self.withConfirms(window: 4) { broker, _, channel in
            // Each has found the window full before the next begins.
            let publishing = (1...40).map { number in
                Task.immediate { try await channel.publish("\(number)", to: .queue("q")) }
            }
            for _ in 1...4 { _ = try await broker.expectPublish() }
            for confirmed in stride(from: 2, through: 36, by: 2) {
                try broker.ack(UInt64(confirmed), multiple: true)
                let bodies = [try await broker.expectPublish().body, try await broker.expectPublish().body]
                // Two tasks on two threads: either may be the first.
                #expect(Set(bodies) == [Array("\(confirmed + 3)".utf8), Array("\(confirmed + 4)".utf8)])
            }
            for task in publishing { try await task.value }
        }
    }

    @Test("A full window holds the next publish back until confirms come")
    func window() async throws {
        try await Self.withConfirms(window: 2) { broker, _, channel in
            for _ in 0..<2 {
                try await channel.publish("m", to: .queue("q"))
                _ = try await broker.expectPublish()
            }
            let error = await #expect(throws: AMQPError.self) {
                try await channel.publish("m", to: .queue("q"), timeout: .milliseconds(20))
            }
            #expect(error?.code == .timedOut)
            #expect(error?.isSafeToRetry == true)
            async let publishing: Void = channel.publish("third", to: .queue("q"))
            try broker.ack(2, multiple: true)
            try await publishing
            #expect(try await broker.expectPublish().body == Array("third".utf8))
        }
    }

    @Test("F9: a blocked connection holds publishes back, with the broker's reason, until it is unblocked")
    func blocked() async throws {
        try await Self.withConfirms { broker, connection, channel in
            try broker.send(.connectionBlocked(.init(reason: "low on memory")))
            // The reply to a request says that what came before it was read.
            async let queue = channel.declareQueue("orders")
            try await broker.expect(Queue.Declare.self)
            try broker.send(ChannelDialogueTests.declareOk, on: 1)
            _ = try await queue
            #expect(connection.blockedReason == "low on memory")
            let error = await #expect(throws: AMQPError.self) {
                try await channel.publish("m", to: .queue("q"), timeout: .milliseconds(20))
            }
            #expect(error?.code == .timedOut)
            #expect(error?.replyText.contains("low on memory") == true)
            #expect(error?.isSafeToRetry == true)
            async let publishing: Void = channel.publishAndConfirm("m", to: .queue("q"))
            try broker.send(.connectionUnblocked(.init()))
            _ = try await broker.expectPublish()
            try broker.ack(1)
            try await publishing
            #expect(connection.blockedReason == nil)
        }
    }

    @Test("channel.flow is obeyed and answered")
    func flow() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            try broker.send(.channelFlow(.init(active: false)), on: 1)
            #expect(try await broker.expect(Channel.FlowOk.self, on: 1).active == false)
            let error = await #expect(throws: AMQPError.self) {
                try await channel.publish("m", to: .queue("q"), timeout: .milliseconds(20))
            }
            #expect(error?.code == .timedOut)
            async let publishing: Void = channel.publish("m", to: .queue("q"))
            try broker.send(.channelFlow(.init(active: true)), on: 1)
            #expect(try await broker.expect(Channel.FlowOk.self, on: 1).active == true)
            try await publishing
            _ = try await broker.expectPublish()
        }
    }

    @Test("F29: a broker that does not read holds publishers back instead of filling memory")
    func brokerDoesNotRead() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.writeBufferSize = 64 << 10
        try await ScriptedBroker.withChannel(configuration) { broker, _, channel in
            broker.stopReading()
            let message = AMQPMessage(AMQPBody([UInt8](repeating: 7, count: 16 << 10)))
            var published = 0
            let error = await #expect(throws: AMQPError.self) {
                while published < 10_000 {
                    try await channel.publish(message, to: .queue("q"), timeout: .milliseconds(50))
                    published += 1
                }
            }
            #expect(error?.code == .timedOut)
            #expect(published < 10_000)
            broker.resumeReading()
            for _ in 0..<published { _ = try await broker.expectPublish() }
        }
    }
}
