// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// CallSiteTests: the broker refuses a publish or a settlement some time later; the error tells the line that made it.

@Suite("Call site", .timeLimit(.minutes(1)))
struct CallSiteTests {
    /// Closes the channel and gives the error the next call, which is innocent, gets.
    private static func errorOfNextCall(
        _ broker: ScriptedBroker,
        _ channel: AMQPChannel,
        _ code: ReplyCode,
        _ text: String,
        blaming method: MethodID
    ) async throws -> AMQPError? {
        let innocent = Task { try await channel.declareQueue("q") }
        try await broker.expect(Queue.Declare.self, on: 1)
        try broker.closeChannel(code, text, method: method)
        try await broker.expect(Channel.CloseOk.self, on: 1)
        return await #expect(throws: AMQPError.self) { try await innocent.value }
    }

    @Test("A refused publish is told with file and line of the publish, in the text too, and by every later call")
    func publish() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let line = UInt32(#line + 1)
            try await channel.publish("x", to: .exchange("missing"))
            _ = try await broker.expectPublish()
            let text = "NOT_FOUND - no exchange 'missing' in vhost '/'"
            let error = try await Self.errorOfNextCall(broker, channel, .notFound, text, blaming: Basic.Publish.id)
            #expect(error?.callSite == AMQPCallSite(fileID: #fileID, line: line))
            #expect(
                error?.description.hasSuffix("most likely sent by AMQP091Tests/CallSiteTests.swift:\(line)") == true
            )
            let later = await #expect(throws: AMQPError.self) { try await channel.publish("x", to: .queue("q")) }
            #expect(later?.callSite == error?.callSite)
        }
    }

    @Test("Of several lines the one that published to the exchange in the broker's words is told, else the last")
    func exchange() async throws {
        let cases = [
            ("NOT_FOUND - no exchange 'b' in vhost '/'", 2), ("ACCESS_REFUSED - access to exchange 'a' refused", 1),
            ("NOT_FOUND - no exchange 'z' in vhost '/'", 3), ("PRECONDITION_FAILED - invalid expiration", 3),
            ("no exchange '", 3), ("exchange 'c", 3),
        ]
        for (text, expected) in cases {
            try await ScriptedBroker.withChannel { broker, _, channel in
                let first = UInt32(#line)
                try await channel.publish("x", to: .exchange("a"))
                for _ in 0..<3 { try await channel.publish("x", to: .exchange("b")) }
                try await channel.publish("x", to: .exchange("c"))
                for _ in 0..<5 { _ = try await broker.expectPublish() }
                let error = try await Self.errorOfNextCall(broker, channel, .notFound, text, blaming: Basic.Publish.id)
                #expect(error?.callSite?.line == first + UInt32(expected), "\(text)")
            }
        }
    }

    @Test("More lines than are remembered do no harm: the last one is still known")
    func many() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            for line in UInt32(1)...20 {
                try await channel.publish("x", to: .exchange("e\(line)"), line: line)
                _ = try await broker.expectPublish()
            }
            let text = "NOT_FOUND - no exchange 'e20' in vhost '/'"
            let error = try await Self.errorOfNextCall(broker, channel, .notFound, text, blaming: Basic.Publish.id)
            #expect(error?.callSite?.line == 20)
        }
    }

    @Test("A refused publish tells its line too, and each way to publish has its own")
    func ways() async throws {
        try await PublishDialogueTests.withConfirms { broker, _, channel in
            let line = UInt32(#line + 1)
            let publish = Task { try await channel.publishAndConfirm("x", to: .exchange("missing")) }
            _ = try await broker.expectPublish()
            try broker.closeChannel(.notFound, "no exchange 'missing'", method: Basic.Publish.id)
            let error = await #expect(throws: AMQPError.self) { try await publish.value }
            #expect(error?.code == .refused)
            #expect(error?.callSite == AMQPCallSite(fileID: #fileID, line: line))
        }
    }

    @Test("A refused settlement is told with its line", arguments: [Basic.Ack.id, Basic.Nack.id, Basic.Reject.id])
    func settlement(_ method: MethodID) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let starting = channel.deliveries(from: "q")
            let consume = try await broker.expect(Basic.Consume.self, on: 1)
            try broker.send(.basicConsumeOk(.init(consumerTag: consume.consumerTag)), on: 1)
            let deliveries = try await starting
            try broker.deliver("x", tag: 1, consumer: consume.consumerTag)
            var iterator = deliveries.makeAsyncIterator()
            let delivery = try #require(try await iterator.next(isolation: nil))
            let line = UInt32(#line + 1)
            if method == Basic.Ack.id { try delivery.ack() } else { try delivery.nack() }
            _ = try await broker.next()
            let text = "PRECONDITION_FAILED - unknown delivery tag 1"
            let error = try await Self.errorOfNextCall(broker, channel, .preconditionFailed, text, blaming: method)
            #expect(error?.callSite == AMQPCallSite(fileID: #fileID, line: line))
        }
    }

    @Test("A close that blames a request, or nothing, names no line: the call that throws is the one")
    func request() async throws {
        for method in [Queue.Declare.id, MethodID(classID: 0, methodID: 0)] {
            try await ScriptedBroker.withChannel { broker, _, channel in
                try await channel.publish("x", to: .queue("q"))
                _ = try await broker.expectPublish()
                let error = try await Self.errorOfNextCall(broker, channel, .notFound, "NOT_FOUND", blaming: method)
                #expect(error?.code == .channelClosed)
                #expect(error?.callSite == nil)
            }
        }
    }
}
