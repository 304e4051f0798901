// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Testing

// DeliveryCoalescingDialogueTests: a connection that leaves deliveries in its socket for a moment still reads all that
// comes, sends what is to be sent, answers callers and notices the end.

@Suite("Delivery coalescing in dialogue", .timeLimit(.minutes(1)))
struct DeliveryCoalescingDialogueTests {
    /// The fixture of a test while the connection pauses before each read.
    struct Stage {
        let broker: ScriptedBroker
        let channel: AMQPChannel
        let deliveries: AMQPDeliveries
        let consumerTag: String
        /// The tag of the last delivery; its acknowledgement may not have been sent.
        let last: UInt64

        var isPausing: Bool { self.channel.core.driver.state.withLock { $0.isPausing } }

        func untilReadAtEvents() async throws {
            for _ in 0..<2000 where self.isPausing { try await EventLoop.shared.sleep(for: .milliseconds(1)) }
            #expect(!self.isPausing)
        }
    }

    /// Runs `body` with a consumer, once so many deliveries came one by one that the connection pauses.
    private static func withPauses(_ body: (Stage) async throws -> Void) async throws {
        var configuration = AMQPClientConfiguration()
        configuration.deliveryCoalescing = .milliseconds(100)
        try await ScriptedBroker.withChannel(configuration) { broker, _, channel in
            async let starting = channel.deliveries(from: "orders")
            let consumerTag = try await broker.expect(Basic.Consume.self, on: 1).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: consumerTag)), on: 1)
            let deliveries = try await starting
            var iterator = deliveries.makeAsyncIterator()
            var tag: UInt64 = 0
            var acked: UInt64 = 0
            var isPausing = false
            while !isPausing, tag < 1000 {
                tag += 1
                try broker.deliver("m", tag: tag, consumer: consumerTag)
                try await iterator.next(isolation: nil)?.ack()
                // Checked at once: the acknowledgement may leave only after the pause.
                isPausing = channel.core.driver.state.withLock { $0.isPausing }
                guard !isPausing else { break }
                while acked < tag { acked = try await broker.expect(Basic.Ack.self, on: 1).deliveryTag.rawValue }
                isPausing = channel.core.driver.state.withLock { $0.isPausing }
            }
            let stage = Stage(
                broker: broker,
                channel: channel,
                deliveries: deliveries,
                consumerTag: consumerTag,
                last: tag
            )
            #expect(isPausing)
            try await body(stage)
        }
    }

    @Test("What comes in a pause is read after it, and acknowledgements go out with it")
    func goesOn() async throws {
        try await Self.withPauses { stage in
            let end = stage.last + 5
            for tag in stage.last + 1...end { try stage.broker.deliver("m", tag: tag, consumer: stage.consumerTag) }
            var iterator = stage.deliveries.makeAsyncIterator()
            for tag in stage.last + 1...end {
                let delivery = try #require(try await iterator.next(isolation: nil))
                #expect(delivery.deliveryTag.rawValue == tag)
                try delivery.ack()
            }
            var acked = stage.last
            while acked < end { acked = try await stage.broker.expect(Basic.Ack.self, on: 1).deliveryTag.rawValue }
            #expect(acked == end)
            // Nothing more comes.
            try await stage.untilReadAtEvents()
            try stage.broker.deliver("m", tag: end + 1, consumer: stage.consumerTag)
            #expect(try await iterator.next(isolation: nil)?.deliveryTag.rawValue == end + 1)
        }
    }

    @Test("A call in a pause is sent and answered")
    func call() async throws {
        try await Self.withPauses { stage in
            async let queue = stage.channel.declareQueue("orders")
            var (method, _) = try await stage.broker.expectMethod()
            if method.id == Basic.Ack.id { (method, _) = try await stage.broker.expectMethod() }
            #expect(method.id == Queue.Declare.id)
            try stage.broker.send(ChannelDialogueTests.declareOk, on: 1)
            _ = try await queue
            try await stage.untilReadAtEvents()
        }
    }

    @Test("The end of the channel in a pause ends the consumer")
    func channelEnd() async throws {
        try await Self.withPauses { stage in
            try stage.broker.closeChannel(.preconditionFailed, "PRECONDITION_FAILED - on order")
            let error = await #expect(throws: AMQPError.self) { for try await _ in stage.deliveries {} }
            #expect(error?.replyText == "PRECONDITION_FAILED - on order")
            try await stage.untilReadAtEvents()
        }
    }

    @Test("The end of the link in a pause ends the consumer, after the deliveries before it")
    func linkEnd() async throws {
        try await Self.withPauses { stage in
            for tag in stage.last + 1...stage.last + 3 {
                try stage.broker.deliver("m", tag: tag, consumer: stage.consumerTag)
            }
            stage.broker.finish()
            var tags: [UInt64] = []
            let error = await #expect(throws: AMQPError.self) {
                for try await delivery in stage.deliveries { tags.append(delivery.deliveryTag.rawValue) }
            }
            #expect(tags == [stage.last + 1, stage.last + 2, stage.last + 3])
            #expect(error?.code == .connectionClosed)
        }
    }

    @Test("Without coalescing there are no pauses")
    func off() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.deliveryCoalescing = .zero
        try await ScriptedBroker.withChannel(configuration) { _, _, channel in
            #expect(channel.core.driver.coalescing == nil)
        }
    }
}
