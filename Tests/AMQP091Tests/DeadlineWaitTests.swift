// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// DeadlineWaitTests: the waits that are no single request and reply: opening a channel, starting a consumer, waiting
// for confirms, and requests that a socket has taken half of. Each gives up at its deadline and with its task.

@Suite("Deadlines and cancellation of other waits", .timeLimit(.minutes(1)))
struct DeadlineWaitTests {
    /// The error of a call that gives up; `reached` returns when it has got to its wait.
    private static func error(
        isCancelled: Bool,
        _ call: @escaping @Sendable (Duration) async throws -> Void,
        reached: () async throws -> Void
    ) async throws -> AMQPError? {
        let task = Task { try await call(isCancelled ? .seconds(60) : .milliseconds(20)) }
        try await reached()
        if isCancelled { task.cancel() }
        let error = await #expect(throws: AMQPError.self) { try await task.value }
        #expect(error?.code == (isCancelled ? .cancelled : .timedOut))
        return error
    }

    @Test(
        "Opening a channel is given up; its late open-ok harms nothing, and another one opens",
        arguments: [false, true]
    )
    func openChannel(_ isCancelled: Bool) async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            _ = try await Self.error(isCancelled: isCancelled) {
                _ = try await connection.openChannel(timeout: $0)
            } reached: {
                try await broker.expect(Channel.Open.self, on: 2)
            }
            try broker.send(.channelOpenOk(.init()), on: 2)
            let opening = Task { try await connection.openChannel() }
            var isOpened = false
            while !isOpened {
                let (method, number) = try await broker.expectMethod()
                // A channel whose caller gave up may be closed before or after.
                if method.id == Channel.Close.id {
                    #expect(number == 2)
                    try broker.send(.channelCloseOk(.init()), on: number)
                } else {
                    #expect(method.id == Channel.Open.id)
                    try broker.send(.channelOpenOk(.init()), on: number)
                    isOpened = true
                }
            }
            #expect(try await opening.value.isOpen)
            #expect(channel.isOpen)
        }
    }

    @Test(
        "Starting a consumer is given up; one that starts late is cancelled again",
        arguments: [false, true]
    )
    func deliveries(_ isCancelled: Bool) async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            var tag = ""
            _ = try await Self.error(isCancelled: isCancelled) {
                _ = try await channel.deliveries(from: "q", timeout: $0)
            } reached: {
                tag = try await broker.expect(Basic.Consume.self, on: 1).consumerTag
            }
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            #expect(try await broker.expect(Basic.Cancel.self, on: 1).consumerTag == tag)
            try broker.send(.basicCancelOk(.init(consumerTag: tag)), on: 1)
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test(
        "Waiting for confirms is given up; the confirms that come later count",
        arguments: [false, true]
    )
    func waitForConfirms(_ isCancelled: Bool) async throws {
        try await PublishDialogueTests.withConfirms { broker, _, channel in
            try await channel.publish("x", to: .queue("q"))
            _ = try await Self.error(isCancelled: isCancelled) {
                try await channel.waitForConfirms(timeout: $0)
            } reached: {
                _ = try await broker.expectPublish()
            }
            try broker.ack(1)
            try await channel.waitForConfirms()
            #expect(channel.confirmCounts.confirmed == 1)
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test(
        "Requests a socket has taken half of are given up; the rest of them follows and the channel goes on",
        arguments: [false, true]
    )
    func halfWritten(_ isCancelled: Bool) async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            // A request per channel: requests of the same channel are sent one after the other.
            var channels = [channel]
            for number in UInt16(2)...9 {
                async let opening = connection.openChannel()
                try await broker.openChannel(number)
                channels.append(try await opening)
            }
            broker.stopReading()
            // Together more than the socket takes, so that one of them is cut.
            let arguments: FieldTable = ["x": .bytes([UInt8](repeating: 7, count: 100 << 10))]
            let timeout: Duration = isCancelled ? .seconds(60) : .milliseconds(50)
            let calls = channels.map { channel in
                Task { try await channel.declareQueue("q", arguments: arguments, timeout: timeout) }
            }
            // Its turn does not come, or no reply does. By its deadline the others are written as far as they can be.
            let last = await #expect(throws: AMQPError.self) {
                try await channel.declareQueue("q", timeout: .milliseconds(100))
            }
            #expect(last?.code == .timedOut)
            if isCancelled { for call in calls { call.cancel() } }
            var written = last?.isSafeToRetry == false ? 1 : 0
            for call in calls {
                let error = await #expect(throws: AMQPError.self) { try await call.value }
                #expect(error?.code == (isCancelled ? .cancelled : .timedOut))
                if error?.isSafeToRetry == false { written += 1 }
            }
            #expect(written > 0)
            broker.resumeReading()
            for _ in 0..<written {
                let (method, number) = try await broker.expectMethod()
                #expect(method.id == Queue.Declare.id)
                try broker.send(DeadlineTests.declareOk, on: number)
            }
            try await DeadlineTests.goesOn(broker, channel)
        }
    }
}
