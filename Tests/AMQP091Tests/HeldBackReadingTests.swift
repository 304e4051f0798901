// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// HeldBackReadingTests: what a connection does while a consumer that is behind keeps it from reading, and while one that
// is not keeps it reading all the time: heartbeats, silence, and the end of the link.

@Suite("Reading that is held back", .timeLimit(.minutes(1)))
struct HeldBackReadingTests {
    @Test("A consumer that is behind holds back reading, and the silence it causes is not held against the broker")
    func silenceOfOurOwnMaking() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.heartbeat = .seconds(3)
        configuration.consumerBufferSize = 4096
        try await ScriptedBroker.withChannel(configuration) { broker, connection, channel in
            async let starting = channel.deliveries(from: "orders", acknowledgement: .automatic)
            let tag = try await broker.expect(Basic.Consume.self).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            var iterator = try await starting.makeAsyncIterator()
            // More than is read at once, so that the rest stays in the socket.
            let body = String(repeating: "x", count: 16 << 10)
            for number: UInt64 in 1...400 { try broker.deliver(body, tag: number, consumer: tag) }
            // One and a half seconds each: beyond two intervals without a received octet.
            for _ in 0..<5 { try await broker.expectHeartbeat() }
            #expect(connection.isOpen)
            for number: UInt64 in 1...400 {
                let delivery = try #require(try await iterator.next(isolation: nil))
                #expect(delivery.deliveryTag == DeliveryTag(number))
            }
        }
    }

    @Test("F21: a consumer that only reads, and always has something to read, sends heartbeats all the same")
    func heartbeatsWhileReading() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.heartbeat = .seconds(3)
        try await ScriptedBroker.withChannel(configuration) { broker, connection, channel in
            async let starting = channel.deliveries(from: "orders", acknowledgement: .automatic)
            let tag = try await broker.expect(Basic.Consume.self).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            let deliveries = try await starting
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    // Far closer together than half an interval.
                    var number: UInt64 = 0
                    while !Task.isCancelled {
                        number += 1
                        try broker.deliver("x", tag: number, consumer: tag)
                        try? await Task.sleep(for: .milliseconds(5))
                    }
                }
                group.addTask { for try await _ in deliveries {} }
                for _ in 0..<3 { try await broker.expectHeartbeat() }
                group.cancelAll()
            }
        }
    }

    @Test("The end of the link is noticed while a consumer that is behind holds back reading")
    func endWhileHeldBack() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.consumerBufferSize = 4096
        try await ScriptedBroker.withChannel(configuration) { broker, connection, channel in
            async let starting = channel.deliveries(from: "orders", acknowledgement: .automatic)
            let tag = try await broker.expect(Basic.Consume.self).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            let deliveries = try await starting
            let body = String(repeating: "x", count: 16 << 10)
            // Few enough that the broker can write them all, and its end, while nobody reads.
            for number: UInt64 in 1...8 { try broker.deliver(body, tag: number, consumer: tag) }
            broker.finish()
            var count = 0
            let error = await #expect(throws: AMQPError.self) {
                // Not one is taken before the end was noticed.
                try await ConsumeDialogueTests.waitUntil { !connection.isOpen }
                for try await _ in deliveries { count += 1 }
            }
            #expect(error?.code == .connectionClosed)
            #expect(count == 8)
        }
    }
}
