// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// PitfallTests: parts of the protocol that clients are known to get wrong (docs/pitfalls.md), unless the dialogues of
// other suites cover them. Against a scripted peer, which can do what a broker does only occasionally.
// Each display name begins with the name of the pitfall. Here: login and channels; the rest in PitfallTests+….

@Suite("Protocol pitfalls", .timeLimit(.minutes(1)))
struct PitfallTests {
    static func consume(
        _ broker: ScriptedBroker,
        _ channel: AMQPChannel,
        acknowledgement: AMQPAcknowledgement = .manual
    ) async throws -> AMQPDeliveries {
        async let starting = channel.deliveries(from: "q", acknowledgement: acknowledgement)
        let consume = try await broker.expect(Basic.Consume.self, on: 1)
        try broker.send(.basicConsumeOk(.init(consumerTag: consume.consumerTag)), on: 1)
        return try await starting
    }

    @Test(
        "Channel-max: one channel above the limit is refused locally, and nothing is sent"
    )
    func channelMax() async throws {
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect()
            try await broker.handshake(tune: .init(channelMax: 1, frameMax: 131_072, heartbeat: 0))
            let connection = try await connecting
            defer { connection.abort() }
            async let opening = connection.openChannel()
            try await broker.openChannel(1)
            let channel = try await opening
            let error = await #expect(throws: AMQPError.self) { try await connection.openChannel() }
            #expect(error?.code == .noFreeChannel)
            #expect(error?.isSafeToRetry == true)
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("C7: Reuse of numbers: a closed number is reused last, and late frames for it are dropped")
    func numbers() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            try broker.closeChannel(.preconditionFailed, "closed")
            try await broker.expect(Channel.CloseOk.self, on: 1)
            try broker.deliver("late", tag: 1, consumer: "gone")
            async let opening = connection.openChannel()
            try await broker.openChannel(2)
            let other = try await opening
            #expect(other.number.rawValue == 2)
            #expect(connection.isOpen)
            #expect(!channel.isOpen)
        }
    }

    @Test("Missing exchange: a later call throws the error, which blames basic.publish")
    func missingExchange() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            try await channel.publish("x", to: .exchange("missing"))
            _ = try await broker.expectPublish()
            let innocent = Task { try await channel.declareQueue("q") }
            try await broker.expect(Queue.Declare.self, on: 1)
            try broker.closeChannel(.notFound, "NOT_FOUND - no exchange 'missing'", method: Basic.Publish.id)
            try await broker.expect(Channel.CloseOk.self, on: 1)
            let error = await #expect(throws: AMQPError.self) { try await innocent.value }
            #expect(error?.method == Basic.Publish.id)
            #expect(error?.replyCode == .notFound)
            #expect(error?.description.contains("basic.publish") == true)
        }
    }

    @Test("F2: Forced close: the reply code distinguishes a shutdown of the broker from a refusal")
    func forced() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let call = Task { try await channel.declareQueue("q") }
            try await broker.expect(Queue.Declare.self, on: 1)
            let close = Connection.Close(
                replyCode: .connectionForced,
                replyText: "CONNECTION_FORCED - shutdown",
                classID: 0,
                methodID: 0
            )
            try broker.send(.connectionClose(close))
            try await broker.expect(Connection.CloseOk.self, on: 0)
            let error = await #expect(throws: AMQPError.self) { try await call.value }
            #expect(error?.code == .connectionClosed)
            #expect(error?.replyCode == .connectionForced)
            #expect(error?.method == nil)
            #expect(!connection.isOpen)
        }
    }

    static let tunes: [Connection.Tune] = [
        .init(channelMax: 2047, frameMax: 131_072, heartbeat: 60), .init(channelMax: 1, frameMax: 8192, heartbeat: 0),
        .init(channelMax: 0, frameMax: 0, heartbeat: 0),
        .init(channelMax: 65_535, frameMax: 1 << 20, heartbeat: 65_535),
    ]

    @Test("Tune-ok: no value is above the broker's limit, or 0 if the broker has one", arguments: tunes)
    func tuneOk(_ tune: Connection.Tune) async throws {
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect()
            let answer = try await broker.handshake(tune: tune).tuneOk
            let connection = try await connecting
            defer { connection.abort() }
            if tune.channelMax > 0 { #expect(1...tune.channelMax ~= answer.channelMax) }
            if tune.frameMax > 0 { #expect(8192...tune.frameMax ~= answer.frameMax) }
            if tune.heartbeat > 0 { #expect(answer.heartbeat <= tune.heartbeat) }
        }
    }

    @Test("F2: 320 at open: a shutdown is distinguished from a refused virtual host")
    func forcedAtOpen() async throws {
        let error = try await LoginDialogueTests.error { broker in
            try await broker.expectProtocolHeader()
            try broker.send(.connectionStart(ScriptedBroker.start))
            try await broker.expect(Connection.StartOk.self)
            try broker.send(.connectionTune(.init(channelMax: 2047, frameMax: 131_072, heartbeat: 60)))
            try await broker.expect(Connection.TuneOk.self)
            try await broker.expect(Connection.Open.self)
            let close = Connection.Close(replyCode: .connectionForced, replyText: "down", classID: 0, methodID: 0)
            try broker.send(.connectionClose(close))
            try await broker.expect(Connection.CloseOk.self)
        }
        #expect(error?.code == .connectFailed)
        #expect(error?.replyCode == .connectionForced)
    }

    @Test("Open: reserved fields are empty and false, and those of open-ok are ignored")
    func reservedOfOpen() async throws {
        #expect(
            ViolationTests.octets(.connectionOpen(.init(virtualHost: "/")), on: 0)
                == ViolationTests.frame(1, 0, [0, 10, 0, 40, 1, 47, 0, 0])
        )
        try await ScriptedBroker.withChannel { broker, connection, channel in
            async let opening = connection.openChannel()
            try await broker.expect(Channel.Open.self, on: 2)
            broker.sendRaw(ViolationTests.frame(1, 2, [0, 20, 0, 11, 0, 0, 0, 2, 65, 0xFF]))
            #expect(try await opening.isOpen)
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("C26: Unknown broker: a broker without product and capabilities is accepted")
    func unknownBroker() async throws {
        var start = ScriptedBroker.start
        start.serverProperties = [:]
        let bare = start
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect()
            try await broker.handshake(start: bare)
            let connection = try await connecting
            defer { connection.abort() }
            #expect(connection.serverProperties["product"] == nil)
            async let opening = connection.openChannel()
            try await broker.openChannel()
            try await DeadlineTests.goesOn(broker, try await opening)
        }
    }

    @Test("Second channel.open: channels opened concurrently have different numbers")
    func numbersOfTheirOwn() async throws {
        try await ScriptedBroker.withChannel { broker, connection, _ in
            let opened = try await withThrowingTaskGroup(of: UInt16.self) { group in
                for _ in 0..<8 { group.addTask { try await connection.openChannel().number.rawValue } }
                for _ in 0..<8 {
                    let (method, number) = try await broker.expectMethod()
                    #expect(method.id == Channel.Open.id)
                    try broker.send(.channelOpenOk(.init()), on: number)
                }
                return try await group.reduce(into: Set<UInt16>()) { $0.insert($1) }
            }
            #expect(opened == Set(2...9))
        }
    }

    @Test(
        "Soft codes: they close the channel, with close-ok, and not the connection",
        arguments: [311, 312, 313, 403, 404, 405, 406] as [UInt16]
    )
    func softCodes(_ code: UInt16) async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let call = Task { try await channel.deleteQueue("q") }
            try await broker.expect(Queue.Delete.self, on: 1)
            try broker.closeChannel(ReplyCode(code), "refused", method: Queue.Delete.id)
            try await broker.expect(Channel.CloseOk.self, on: 1)
            let error = await #expect(throws: AMQPError.self) { try await call.value }
            #expect(error?.replyCode?.rawValue == code)
            #expect(error?.scope == .channel)
            #expect(connection.isOpen)
        }
    }

    @Test(
        "F3: Codes of a close: the error has the reply code of connection.close, known or unknown",
        arguments: [200, 320, 402, 501, 502, 503, 504, 505, 506, 530, 540, 541, 999] as [UInt16]
    )
    func hardCodes(_ code: UInt16) async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let call = Task { try await channel.deleteQueue("q") }
            try await broker.expect(Queue.Delete.self, on: 1)
            let close = Connection.Close(replyCode: ReplyCode(code), replyText: "bye", classID: 0, methodID: 0)
            try broker.send(.connectionClose(close))
            try await broker.expect(Connection.CloseOk.self, on: 0)
            let error = await #expect(throws: AMQPError.self) { try await call.value }
            #expect(error?.code == .connectionClosed)
            #expect(error?.replyCode?.rawValue == code)
            #expect(!connection.isOpen)
        }
    }
}
