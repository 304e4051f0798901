// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// Publishes, confirms and returns.

extension PitfallTests {
    @Test("Publish numbers: a publish that is refused locally or cancelled before it is appended uses none")
    func numbering() async throws {
        try await PublishDialogueTests.withConfirms { broker, _, channel in
            let long = String(repeating: "x", count: 256)
            await #expect(throws: AMQPError.self) { try await channel.publish("x", to: .queue(long)) }
            let cancelled = Task { () async -> AMQPError? in
                withUnsafeCurrentTask { $0?.cancel() }
                do throws(AMQPError) {
                    try await channel.publishAndConfirm("x", to: .queue("q"))
                    return nil
                } catch {
                    return error
                }
            }
            #expect(await cancelled.value?.isSafeToRetry == true)
            async let publishing: Void = channel.publishAndConfirm("first", to: .queue("q"))
            #expect(try await broker.expectPublish().body == Array("first".utf8))
            try broker.ack(1)
            try await publishing
        }
    }

    @Test("Multiple nack: basic.nack may be multiple, and shares its tags with basic.ack")
    func nackMultiple() async throws {
        try await PublishDialogueTests.withConfirms { broker, _, channel in
            for _ in 0..<4 { try await channel.publish("x", to: .queue("q")) }
            for _ in 0..<4 { _ = try await broker.expectPublish() }
            try broker.ack(2)
            try broker.send(.basicNack(.init(deliveryTag: DeliveryTag(3), multiple: true, requeue: false)), on: 1)
            try broker.ack(4)
            let error = await #expect(throws: AMQPError.self) { try await channel.waitForConfirms() }
            #expect(error?.code == .nacked)
            #expect(channel.confirmCounts.nacked == 2)
            #expect(channel.confirmCounts.confirmed == 2)
        }
    }

    @Test("Unexpected return: its content is read to the end without confirms")
    func unaskedReturn() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            try await channel.publish("back", to: .queue("nowhere"), mandatory: true)
            _ = try await broker.expectPublish()
            let returned = Basic.Return(
                replyCode: .noRoute,
                replyText: "NO_ROUTE",
                exchange: "",
                routingKey: "nowhere"
            )
            try broker.send(.basicReturn(returned), on: 1, body: Array("back".utf8))
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("Confirm numbers: they start at 1 after confirm.select, and earlier publishes do not count")
    func confirmNumbers() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            for _ in 0..<3 { try await channel.publish("before", to: .queue("q")) }
            for _ in 0..<3 { _ = try await broker.expectPublish() }
            async let enabling: Void = channel.enableConfirms()
            try await broker.expect(Confirm.Select.self, on: 1)
            try broker.send(.confirmSelectOk(.init()), on: 1)
            try await enabling
            async let publishing: Void = channel.publishAndConfirm("first", to: .queue("q"))
            _ = try await broker.expectPublish()
            try broker.ack(1)
            try await publishing
            #expect(channel.confirmCounts.published == 1)
        }
    }

    @Test("Pipelining: publishes do not wait for each other's confirms, and one ack confirms them all")
    func pipelining() async throws {
        try await PublishDialogueTests.withConfirms { broker, _, channel in
            for number in 0..<200 { try await channel.publish("\(number)", to: .queue("q")) }
            for number in 0..<200 { #expect(try await broker.expectPublish().body == Array("\(number)".utf8)) }
            try broker.ack(200, multiple: true)
            try await channel.waitForConfirms()
            #expect(channel.confirmCounts.confirmed == 200)
        }
    }

    @Test("Return with copies: it has the first routing key, which identifies its publish")
    func returnWithCopies() async throws {
        try await PublishDialogueTests.withConfirms { broker, _, channel in
            let properties = BasicProperties(headers: ["CC": ["r"], "BCC": ["s"]])
            let publish = Task {
                let message = AMQPMessage("back", properties: properties)
                try await channel.publishAndConfirm(message, to: .queue("q"), mandatory: true)
            }
            #expect(try await broker.expectPublish().properties == properties)
            let returned = Basic.Return(replyCode: .noRoute, replyText: "NO_ROUTE", exchange: "", routingKey: "q")
            try broker.send(.basicReturn(returned), on: 1, properties: properties, body: Array("back".utf8))
            try broker.ack(1)
            let error = await #expect(throws: AMQPError.self) { try await publish.value }
            #expect(error?.code == .returned)
        }
    }

    @Test("U9: Immediate: it is not offered, and the bit is never set")
    func immediate() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            for mandatory in [false, true] {
                try await channel.publish("x", to: .queue("q"), mandatory: mandatory)
                let method = try await broker.expectPublish().method
                #expect(method.mandatory == mandatory)
                #expect(!method.immediate)
            }
        }
    }

    @Test(
        "U13: Expiration: anything but a decimal number of milliseconds is refused locally",
        arguments: ["abc", "-1", "1x", " 1", "", "4294967296"]
    )
    func expiration(_ text: String) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let message = AMQPMessage("x", properties: BasicProperties(expiration: text))
            let error = await #expect(throws: AMQPError.self) { try await channel.publish(message, to: .queue("q")) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.isSafeToRetry == true)
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("Blocked: only publishes wait, requests and acknowledgements are sent")
    func blockedHoldsPublishesOnly() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let deliveries = try await Self.consume(broker, channel)
            var states = connection.blockedStates.makeAsyncIterator()
            _ = await states.next(isolation: nil)
            try broker.send(.connectionBlocked(.init(reason: "low on disk")))
            #expect(await states.next(isolation: nil) == .some("low on disk"))
            let publish = Task { try await channel.publish("held", to: .queue("q")) }
            try broker.deliver("x", tag: 1, consumer: deliveries.consumerTag)
            var iterator = deliveries.makeAsyncIterator()
            try #require(try await iterator.next(isolation: nil)).ack()
            #expect(try await broker.expect(Basic.Ack.self, on: 1).deliveryTag == DeliveryTag(1))
            try await DeadlineTests.goesOn(broker, channel)
            try broker.send(.connectionUnblocked(.init()))
            #expect(try await broker.expectPublish().body == Array("held".utf8))
            try await publish.value
        }
    }

    @Test("Default exchange: a queue as destination is the empty exchange with the queue as routing key")
    func defaultExchange() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            try await channel.publish("x", to: .queue("orders"))
            #expect(try await broker.expectPublish().method == .init(exchange: "", routingKey: "orders"))
        }
    }
}
