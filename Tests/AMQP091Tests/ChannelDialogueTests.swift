// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// ChannelDialogueTests: requests and replies on a channel, its close from either side, and the end of the connection.

@Suite("Channel", .timeLimit(.minutes(1)))
struct ChannelDialogueTests {
    static let declareOk = Method.queueDeclareOk(.init(queue: "orders", messageCount: 3, consumerCount: 1))

    @Test("A declaration carries its arguments and returns the counts")
    func declare() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let queue = channel.declareQueue("orders", durable: true, arguments: ["x-max-length": 10])
            let declare = try await broker.expect(Queue.Declare.self, on: 1)
            #expect(declare == .init(queue: "orders", durable: true, arguments: ["x-max-length": 10]))
            try broker.send(Self.declareOk, on: 1)
            let result = try await queue
            #expect(result.messageCount == 3)
            #expect(result.consumerCount == 1)
        }
    }

    @Test("A refused declaration closes its channel and nothing else")
    func refusedDeclare() async throws {
        let text = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'orders' in vhost '/'"
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let queue = Task { try await channel.declareQueue("orders") }
            try await broker.expect(Queue.Declare.self)
            try broker.closeChannel(.preconditionFailed, text, method: Queue.Declare.id)
            try await broker.expect(Channel.CloseOk.self, on: 1)
            let error = await #expect(throws: AMQPError.self) { try await queue.value }
            #expect(error?.code == .channelClosed)
            #expect(error?.replyCode == .preconditionFailed)
            #expect(error?.replyText == text)
            #expect(error?.method == Queue.Declare.id)
            #expect(error?.scope == .channel)
            #expect(error?.origin == .broker)
            #expect(!channel.isOpen)

            async let opening = connection.openChannel()
            let (open, number) = try await broker.expectMethod()
            #expect(open == .channelOpen(.init()))
            try broker.send(.channelOpenOk(.init()), on: number)
            let other = try await opening
            #expect(other.isOpen)
            let late = await #expect(throws: AMQPError.self) { try await channel.declareQueue("orders") }
            #expect(late?.isSafeToRetry == true)
            #expect(late?.replyCode == .preconditionFailed)
        }
    }

    @Test("Requests of one channel are sent in turn, and replies go to their callers")
    func turns() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            async let first = channel.declareQueue("a")
            try await broker.expect(Queue.Declare.self)
            async let second = channel.declareQueue("b")
            // Publishes overtake a waiting request.
            try await channel.publish("passes", to: .queue("q"))
            _ = try await broker.expectPublish(on: 1)
            try broker.send(.queueDeclareOk(.init(queue: "a", messageCount: 1, consumerCount: 0)), on: 1)
            #expect(try await broker.expect(Queue.Declare.self).queue == "b")
            try broker.send(.queueDeclareOk(.init(queue: "b", messageCount: 2, consumerCount: 0)), on: 1)
            #expect(try await first.messageCount == 1)
            #expect(try await second.messageCount == 2)
        }
    }

    @Test("F8: a reply that comes after its deadline is not taken for the next one's")
    func lateReply() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let error = await #expect(throws: AMQPError.self) {
                try await channel.declareQueue("slow", timeout: .milliseconds(20))
            }
            #expect(error?.code == .timedOut)
            #expect(error?.scope == .operation)
            #expect(error?.isSafeToRetry == false)
            try await broker.expect(Queue.Declare.self)
            // Followed to its reply before the next one is sent, whose deadline covers the wait.
            let unsent = await #expect(throws: AMQPError.self) {
                try await channel.declareQueue("unsent", timeout: .milliseconds(20))
            }
            #expect(unsent?.code == .timedOut)
            #expect(unsent?.isSafeToRetry == true)
            async let queue = channel.declareQueue("fast")
            try broker.send(.queueDeclareOk(.init(queue: "slow", messageCount: 7, consumerCount: 0)), on: 1)
            #expect(try await broker.expect(Queue.Declare.self).queue == "fast")
            try broker.send(.queueDeclareOk(.init(queue: "fast", messageCount: 1, consumerCount: 0)), on: 1)
            #expect(try await queue.name == "fast")
        }
    }

    @Test("F30: a cancelled request leaves the channel usable, and is followed to its reply or not sent")
    func cancelledRequest() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let sent = Task { try await channel.declareQueue("slow") }
            try await broker.expect(Queue.Declare.self)
            let waiting = (0..<20).map { number in Task { try await channel.declareQueue("\(number)") } }
            for task in waiting + [sent] { task.cancel() }
            for task in waiting + [sent] {
                let error = await #expect(throws: AMQPError.self) { try await task.value }
                #expect(error?.code == .cancelled)
                #expect(error?.isSafeToRetry == (task != sent))
            }
            async let queue = channel.declareQueue("fast")
            try broker.send(.queueDeclareOk(.init(queue: "slow", messageCount: 7, consumerCount: 0)), on: 1)
            #expect(try await broker.expect(Queue.Declare.self).queue == "fast")
            try broker.send(.queueDeclareOk(.init(queue: "fast", messageCount: 1, consumerCount: 0)), on: 1)
            #expect(try await queue.name == "fast")
        }
    }

    @Test("A request that waits when its channel ends was not sent, and says so", arguments: [true, false])
    func waitingAtTheEnd(closesChannel: Bool) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let sent = Task { try await channel.declareQueue("sent") }
            try await broker.expect(Queue.Declare.self)
            let waiting = Task { try await channel.declareQueue("waiting") }
            try await channel.publish("behind it", to: .queue("q"))
            _ = try await broker.expectPublish(on: 1)
            await Task.yield()
            if closesChannel {
                try broker.closeChannel(.preconditionFailed, "no", method: Queue.Declare.id)
            } else {
                broker.drop()
            }
            let sentError = await #expect(throws: AMQPError.self) { try await sent.value }
            #expect(sentError?.isSafeToRetry == false)
            let waitingError = await #expect(throws: AMQPError.self) { try await waiting.value }
            #expect(waitingError?.code == sentError?.code)
            #expect(waitingError?.isSafeToRetry == true)
        }
    }

    @Test("Closing a channel fails the requests that wait at once, and nothing is sent for them")
    func closingBesideRequests() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let sent = Task { try await channel.declareQueue("sent") }
            try await broker.expect(Queue.Declare.self)
            let waiting = Task { try await channel.declareQueue("waiting") }
            let closing = Task { try await channel.close() }
            try await broker.expect(Channel.Close.self, on: 1)
            let error = await #expect(throws: AMQPError.self) { try await waiting.value }
            #expect(error?.code == .channelClosed)
            #expect(error?.isSafeToRetry == true)
            try broker.send(Self.declareOk, on: 1)
            try broker.send(.channelCloseOk(.init()), on: 1)
            try await closing.value
            await #expect(throws: AMQPError.self) { try await sent.value }
            #expect(connection.isOpen)
        }
    }

    @Test("A task cancelled before its request sends nothing")
    func cancelledBefore() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let waiting = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                return try await channel.declareQueue("never")
            }
            let error = await #expect(throws: AMQPError.self) { try await waiting.value }
            #expect(error?.code == .cancelled)
            #expect(error?.isSafeToRetry == true)
            async let queue = channel.declareQueue("orders")
            #expect(try await broker.expect(Queue.Declare.self).queue == "orders")
            try broker.send(Self.declareOk, on: 1)
            _ = try await queue
        }
    }

    @Test("Closing waits for close-ok; frames that cross it are dropped")
    func closing() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            async let closing: Void = channel.close()
            let close = try await broker.expect(Channel.Close.self, on: 1)
            #expect(close.replyCode == .success)
            try broker.deliver("late", tag: 1, consumer: "gone")
            try broker.ack(1)
            try broker.send(.channelCloseOk(.init()), on: 1)
            try await closing
            #expect(!channel.isOpen)
            #expect(connection.isOpen)
            // Stray frames for the number just closed.
            try broker.deliver("later still", tag: 2, consumer: "gone")
            async let ending: Void = connection.close()
            try await broker.acceptClose()
            try await ending
        }
    }

    @Test("Nothing is sent on a channel behind its channel.close")
    func nothingBehindClose() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            async let getting = channel.get("orders")
            try await broker.expect(Basic.Get.self)
            let ok = Basic.GetOk(
                deliveryTag: DeliveryTag(1),
                redelivered: false,
                exchange: "",
                routingKey: "orders",
                messageCount: 0
            )
            try broker.send(.basicGetOk(ok), on: 1, body: [1])
            let delivery = try #require(try await getting)
            async let closing: Void = channel.close()
            try await broker.expect(Channel.Close.self, on: 1)
            let ack = #expect(throws: AMQPError.self) { try delivery.ack() }
            #expect(ack?.code == .channelClosed)
            let publish = await #expect(throws: AMQPError.self) { try await channel.publish("m", to: .queue("orders")) }
            #expect(publish?.code == .channelClosed)
            #expect(publish?.isSafeToRetry == true)
            try broker.send(.channelCloseOk(.init()), on: 1)
            try await closing
            async let ending: Void = connection.close()
            try await broker.acceptClose()
            try await ending
        }
    }

    @Test("F31: a channel closed from both sides at once ends well on both")
    func closedByBoth() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            async let closing: Void = channel.close()
            try await broker.expect(Channel.Close.self, on: 1)
            try broker.closeChannel(.notFound, "NOT_FOUND - no exchange 'x' in vhost '/'")
            try await broker.expect(Channel.CloseOk.self, on: 1)
            try broker.send(.channelCloseOk(.init()), on: 1)
            try await closing
            #expect(connection.isOpen)
            async let opening = connection.openChannel()
            let (_, number) = try await broker.expectMethod()
            try broker.send(.channelOpenOk(.init()), on: number)
            #expect(try await opening.isOpen)
        }
    }

    @Test("Deliveries after the broker's channel.close are no violation")
    func deliveriesAfterClose() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            try broker.closeChannel(.preconditionFailed, "PRECONDITION_FAILED - unknown delivery tag 9")
            try broker.deliver("late", tag: 1, consumer: "gone")
            try await broker.expect(Channel.CloseOk.self, on: 1)
            async let ending: Void = connection.close()
            try await broker.acceptClose()
            try await ending
            #expect(!channel.isOpen)
        }
    }

    @Test("F2: the broker's connection.close is answered and ends every call with its words")
    func connectionClosedByBroker() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let queue = Task { try await channel.declareQueue("orders") }
            try await broker.expect(Queue.Declare.self)
            let text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
            try broker.send(
                .connectionClose(.init(replyCode: .connectionForced, replyText: text, classID: 0, methodID: 0))
            )
            try await broker.expect(Connection.CloseOk.self)
            try await broker.expectEnd()
            let error = await #expect(throws: AMQPError.self) { try await queue.value }
            #expect(error?.code == .connectionClosed)
            #expect(error?.replyCode == .connectionForced)
            #expect(error?.replyText == text)
            #expect(error?.scope == .connection)
            #expect(!connection.isOpen)
            try await connection.close()
        }
    }

    @Test("A connection closed from both sides at once ends well on both")
    func connectionClosedByBoth() async throws {
        try await ScriptedBroker.withChannel { broker, connection, _ in
            async let closing: Void = connection.close()
            try await broker.expect(Connection.Close.self)
            try broker.send(
                .connectionClose(.init(replyCode: .connectionForced, replyText: "bye", classID: 0, methodID: 0))
            )
            try await broker.expect(Connection.CloseOk.self)
            try broker.send(.connectionCloseOk(.init()))
            try await closing
            try await broker.expectEnd()
        }
    }

    @Test("A close that is not answered ends at its deadline, and the link with it")
    func closeUnanswered() async throws {
        try await ScriptedBroker.withChannel { broker, connection, _ in
            let error = await #expect(throws: AMQPError.self) { try await connection.close(timeout: .milliseconds(30)) }
            #expect(error?.code == .timedOut)
            let cause = try await connection.waitUntilClosed()
            #expect(cause.code == .connectionClosed)
            #expect(cause.replyText == "the connection was closed")
            try await broker.expect(Connection.Close.self)
            try await broker.expectEnd()
            #expect(!connection.isOpen)
        }
    }

    @Test("A link lost in the middle of a frame fails every call", arguments: [1, 6, 7, 8, 11])
    func truncated(_ count: Int) async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let queue = Task { try await channel.declareQueue("orders") }
            try await broker.expect(Queue.Declare.self)
            try broker.sendBeginning(of: Self.declareOk, on: 1, count: count)
            broker.finish()
            let error = await #expect(throws: AMQPError.self) { try await queue.value }
            #expect(error?.code == .connectionClosed)
            #expect(error?.replyText == "the peer ended the link in the middle of a frame")
            try await broker.expectEnd()
            #expect(!connection.isOpen)
        }
    }

    @Test("A reply cut at any octet is the same reply")
    func cutAnywhere() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            let octets = try ScriptedBroker.octets(of: Self.declareOk, on: 1)
            for cut in 1..<octets.count {
                async let queue = channel.declareQueue("orders")
                try await broker.expect(Queue.Declare.self)
                broker.send(octets, cutAfter: cut, "queue.declare-ok")
                #expect(try await queue.messageCount == 3)
            }
        }
    }

    @Test("Silence: one and a half heartbeat intervals end the connection, after the client has sent heartbeats")
    func silence() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.heartbeat = .seconds(2)
        try await ScriptedBroker.withChannel(configuration) { broker, connection, channel in
            try await broker.expectHeartbeat()
            let error = await #expect(throws: AMQPError.self) { try await channel.declareQueue("orders") }
            #expect(error?.code == .connectionClosed)
            #expect(error?.replyText == "the broker was silent for more than one and a half heartbeat intervals")
            try await broker.drain()
            #expect(!connection.isOpen)
        }
    }

    @Test(
        "A declaration that the broker refuses by closing the connection is told so, by name; another call is not blamed",
        arguments: [
            (
                ReplyCode.internalError,
                "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.\nIts use is not permitted", true
            ),
            (.internalError, "INTERNAL_ERROR", false),
            (.notImplemented, "NOT_IMPLEMENTED - queue.declare", true),
            (.connectionForced, "CONNECTION_FORCED - broker forced connection closure", false),
        ]
    )
    func refusedByConnection(_ code: ReplyCode, _ text: String, _ isRefusal: Bool) async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            async let declared = channel.declareQueue("transient", durable: false)
            try await broker.expect(Queue.Declare.self, on: 1)
            async let opening = connection.openChannel()
            try await broker.openChannel(2)
            let other = try await opening
            async let asked = other.declareQueue("durable")
            try await broker.expect(Queue.Declare.self, on: 2)
            let blamed = Queue.Declare.id
            let close = Connection.Close(
                replyCode: code,
                replyText: text,
                classID: blamed.classID,
                methodID: blamed.methodID
            )
            try broker.send(.connectionClose(close))
            do {
                _ = try await declared
                Issue.record("it was declared")
            } catch let error as AMQPError {
                #expect(error.code == (isRefusal ? .topologyRefused : .connectionClosed))
                #expect(error.replyText == (isRefusal ? "queue 'transient': \(text)" : text))
                #expect(error.replyCode == code)
                #expect(error.method == blamed)
                #expect(error.scope == .connection)
            }
            do {
                _ = try await asked
                Issue.record("it was declared")
            } catch let error as AMQPError {
                #expect(error.code == (code == .notImplemented ? .topologyRefused : .connectionClosed))
            }
        }
    }
}
