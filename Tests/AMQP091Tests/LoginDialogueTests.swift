// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// LoginDialogueTests: from the protocol header to open-ok, and every way it can fail, against a scripted broker.

@Suite("Login", .timeLimit(.minutes(1)))
struct LoginDialogueTests {
    static func error(
        _ configuration: AMQPClientConfiguration = AMQPClientConfiguration(),
        _ script: (ScriptedBroker) async throws -> Void
    ) async throws -> AMQPError? {
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect(configuration)
            try await script(broker)
            do {
                let connection = try await connecting
                connection.abort()
                return nil
            } catch {
                return error as? AMQPError
            }
        }
    }

    @Test("The client says who it is, what it can do, and takes the lower of both limits")
    func login() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.authentication = .plain(username: "user", password: "secret")
        configuration.virtualHost = "stock"
        configuration.connectionName = "billing"
        configuration.heartbeat = .seconds(30)
        let options = configuration
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect(options)
            let login = try await broker.handshake(tune: .init(channelMax: 100, frameMax: 200_000, heartbeat: 20))
            let connection = try await connecting
            #expect(login.startOk.mechanism == "PLAIN")
            #expect(login.startOk.response == Array("\0user\0secret".utf8))
            #expect(login.startOk.clientProperties["connection_name"]?.stringValue == "billing")
            let capabilities = login.startOk.clientProperties["capabilities"]?.tableValue
            #expect(capabilities?["authentication_failure_close"] == .bool(true))
            #expect(capabilities?["connection.blocked"] == .bool(true))
            #expect(login.tuneOk == .init(channelMax: 100, frameMax: 131_072, heartbeat: 20))
            #expect(login.open.virtualHost == "stock")
            #expect(connection.serverProperties["product"]?.stringValue == "Scripted")
            #expect(connection.isOpen)
            async let closing: Void = connection.close()
            try await broker.acceptClose()
            try await closing
            #expect(!connection.isOpen)
        }
    }

    @Test("F11: a wrong password is told by 403 before tune")
    func wrongPassword() async throws {
        let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."
        let error = try await Self.error { broker in
            try await broker.expectProtocolHeader()
            try broker.send(.connectionStart(ScriptedBroker.start))
            try await broker.expect(Connection.StartOk.self)
            try broker.send(
                .connectionClose(.init(replyCode: .accessRefused, replyText: text, classID: 0, methodID: 0))
            )
            try await broker.expect(Connection.CloseOk.self)
            try await broker.expectEnd()
        }
        #expect(error?.code == .authenticationFailed)
        #expect(error?.replyCode == .accessRefused)
        #expect(error?.replyText == text)
    }

    @Test("A link dropped after the credentials is told as a probable refusal")
    func droppedAfterCredentials() async throws {
        let error = try await Self.error { broker in
            try await broker.expectProtocolHeader()
            try broker.send(.connectionStart(ScriptedBroker.start))
            try await broker.expect(Connection.StartOk.self)
            broker.drop()
        }
        #expect(error?.code == .authenticationFailed)
        #expect(error?.replyText.contains("most likely") == true)
    }

    @Test("An unknown virtual host is told by 530 after open")
    func unknownVirtualHost() async throws {
        let error = try await Self.error { broker in
            try await broker.expectProtocolHeader()
            try broker.send(.connectionStart(ScriptedBroker.start))
            try await broker.expect(Connection.StartOk.self)
            try broker.send(.connectionTune(.init(channelMax: 2047, frameMax: 131_072, heartbeat: 60)))
            try await broker.expect(Connection.TuneOk.self)
            try await broker.expect(Connection.Open.self)
            let close = Connection.Close(
                replyCode: .notAllowed,
                replyText: "NOT_ALLOWED - vhost stock not found",
                classID: 10,
                methodID: 40
            )
            try broker.send(.connectionClose(close))
            try await broker.expect(Connection.CloseOk.self)
        }
        #expect(error?.code == .virtualHostRefused)
        #expect(error?.replyText == "NOT_ALLOWED - vhost stock not found")
    }

    @Test("C6, C27: a broker without PLAIN, and one of another version, are refused")
    func refusals() async throws {
        var start = ScriptedBroker.start
        start.mechanisms = Array("EXTERNAL".utf8)
        let mechanism = try await Self.error { broker in
            try await broker.expectProtocolHeader()
            try broker.send(.connectionStart(start))
            try await broker.drain()
        }
        #expect(mechanism?.code == .connectFailed)
        #expect(mechanism?.replyText.contains("EXTERNAL") == true)

        let version = try await Self.error { broker in
            try await broker.expectProtocolHeader()
            broker.sendRaw([0x41, 0x4D, 0x51, 0x50, 0, 1, 0, 0])
            try await broker.expectEnd()
        }
        #expect(version?.code == .connectFailed)
        #expect(version?.replyText.contains("1-0-0") == true)

        let web = try await Self.error { broker in
            try await broker.expectProtocolHeader()
            broker.sendRaw(Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8))
            try await broker.expectEnd()
        }
        #expect(web?.code == .connectFailed)
        #expect(web?.replyText.contains("does not speak AMQP") == true)
    }

    @Test("C23: a frame limit below the specification's is refused")
    func tinyFrames() async throws {
        let error = try await Self.error { broker in
            try await broker.expectProtocolHeader()
            try broker.send(.connectionStart(ScriptedBroker.start))
            try await broker.expect(Connection.StartOk.self)
            try broker.send(.connectionTune(.init(channelMax: 1, frameMax: 4095, heartbeat: 0)))
            try await broker.drain()
        }
        #expect(error?.code == .connectFailed)
    }

    @Test("F4: a broker that says nothing is given up at the deadline")
    func silence() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.connectTimeout = .milliseconds(50)
        let error = try await Self.error(configuration) { broker in
            try await broker.expectProtocolHeader()
            try await broker.expectEnd()
        }
        #expect(error?.code == .timedOut)
    }

    /// The login in the words of the broker, so that it can end after any of them.
    static let steps: [Method] = [
        .connectionStart(ScriptedBroker.start),
        .connectionTune(.init(channelMax: 2047, frameMax: 131_072, heartbeat: 60)),
    ]

    @Test("C31: connection.close is answered and told in every step of the login", arguments: 0...2)
    func closeInStep(_ count: Int) async throws {
        let error = try await Self.error { broker in
            try await broker.expectProtocolHeader()
            for step in Self.steps.prefix(count) {
                try broker.send(step)
                try await broker.expect(step.id == Connection.Start.id ? Connection.StartOk.id : Connection.TuneOk.id)
            }
            if count == 2 { try await broker.expect(Connection.Open.self) }
            try broker.send(
                .connectionClose(
                    .init(replyCode: .connectionForced, replyText: "shutdown", classID: 0, methodID: 0)
                )
            )
            try await broker.expect(Connection.CloseOk.self)
            try await broker.expectEnd()
        }
        #expect(error?.replyCode == .connectionForced)
        #expect(error?.code == .connectFailed)
    }

    @Test("F30: a login cancelled in any step leaves no link behind", arguments: 0...2)
    func cancelInStep(_ count: Int) async throws {
        try await ScriptedBroker.withBroker { broker in
            let connecting = Task { try await broker.connect() }
            try await broker.expectProtocolHeader()
            for step in Self.steps.prefix(count) {
                try broker.send(step)
                try await broker.expect(step.id == Connection.Start.id ? Connection.StartOk.id : Connection.TuneOk.id)
            }
            connecting.cancel()
            try await broker.drain()
            let error = await #expect(throws: AMQPError.self) { try await connecting.value }
            #expect(error?.code == .cancelled)
        }
    }

    @Test("F19: a login in single octets works")
    func singleOctets() async throws {
        try await ScriptedBroker.withBroker { broker in
            broker.splitWrites(every: 1)
            async let connecting = broker.connect()
            try await broker.handshake()
            let connection = try await connecting
            #expect(connection.isOpen)
            connection.abort()
        }
    }
}
