// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// BrokerInputTests: octets no client may send, to the in-process broker: it is a server, so nothing it is sent can trap
// it, and what breaks the protocol is answered with the right reply code.

@Suite("Input of the in-process broker", .timeLimit(.minutes(1)))
struct BrokerInputTests {
    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let octets: [UInt8]
        let code: ReplyCode

        init(_ name: String, _ octets: [UInt8], _ code: ReplyCode) {
            self.testDescription = name
            self.octets = octets
            self.code = code
        }
    }

    static func frame(_ type: UInt8, _ channel: UInt8, _ payload: [UInt8], end: UInt8 = 0xCE) -> [UInt8] {
        [type, 0, channel, 0, 0, 0, UInt8(payload.count)] + payload + [end]
    }

    static func octets(_ method: Method, on channel: UInt16 = 1) -> [UInt8] {
        (try? ScriptedBroker.octets(of: method, on: channel)) ?? []
    }

    static func header(_ size: [UInt8], flags: [UInt8] = [0, 0], classID: UInt8 = 60, _ rest: [UInt8] = []) -> [UInt8] {
        frame(2, 1, [0, classID, 0, 0] + size + flags + rest)
    }

    static let two: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 2]
    static let publish = octets(.basicPublish(.init(exchange: "", routingKey: "q", mandatory: false, immediate: false)))
    /// queue.declare up to its arguments.
    static let declare: [UInt8] = [0, 50, 0, 10, 0, 0, 1, 113, 2]

    static let rows: [Row] = [
        Row("S1: a wrong frame end", frame(1, 1, [0, 20, 0, 20, 1], end: 0), .frameError),
        Row("S5: an unknown frame type", frame(7, 1, [1, 2, 3, 4]), .frameError),
        Row("S2: a frame above the limit", [3, 0, 1, 0, 2, 0, 0], .frameError),
        Row("S3: a frame of 4 GiB", [3, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF], .frameError),
        Row("S4: a method of one octet", frame(1, 1, [0]), .frameError),
        Row("S4: a header of thirteen octets", frame(2, 1, [UInt8](repeating: 0, count: 13)), .frameError),
        Row("S9: a heartbeat with a payload", frame(8, 0, [1]), .frameError),
        Row("S6: a second protocol header", Frame.protocolHeader, .frameError),
        Row("S22: an unknown class", frame(1, 1, [0, 99, 0, 1]), .commandInvalid),
        Row("S22: an unknown method", frame(1, 1, [0, 50, 0, 99]), .commandInvalid),
        Row("S17: a method cut short", frame(1, 1, [0, 60, 0, 10, 0]), .frameError),
        Row("S17: octets behind a method", frame(1, 1, [0, 60, 0, 10, 0, 0, 0, 0, 0, 1, 0, 9, 9]), .frameError),
        Row("S16: a table longer than its frame", frame(1, 1, declare + [0, 0, 0, 9, 97, 98, 99]), .frameError),
        Row("S18: an unknown field type", frame(1, 1, declare + [0, 0, 0, 3, 1, 97, 63]), .frameError),
        Row("S16: a table of 4 GiB", frame(1, 1, declare + [0xFF, 0xFF, 0xFF, 0xFF]), .frameError),
        Row("S10: a body without a method", frame(3, 1, [1]), .unexpectedFrame),
        Row("S10: a header without a method", header(two), .unexpectedFrame),
        Row("S7: a content on a channel that is not open", frame(3, 9, [1]), .channelError),
        Row("S10: a method inside a content", publish + octets(.basicQos(.init(prefetchCount: 1))), .unexpectedFrame),
        Row("S10: a body in place of a header", publish + frame(3, 1, [1]), .unexpectedFrame),
        Row("S10: two headers", publish + header(two) + header(two), .unexpectedFrame),
        Row("S11: a header of another class", publish + header(two, classID: 50), .unexpectedFrame),
        Row("S12: a body that is too long", publish + header(two) + frame(3, 1, [1, 2, 3]), .unexpectedFrame),
        Row(
            "S17: properties that are cut short",
            publish + header(two, flags: [0x80, 0], [9]) + frame(3, 1, [1, 2]),
            .syntaxError
        ),
        Row("S17: octets behind properties", publish + header(two, [1]) + frame(3, 1, [1, 2]), .syntaxError),
    ]

    /// The broker forgets a connection when its own end has seen the client's.
    static func expectNoConnections(_ broker: InProcessBroker) async {
        let deadline = ContinuousClock.now + .seconds(10)
        while !(await broker.connections().isEmpty), ContinuousClock.now < deadline { await Task.yield() }
        #expect(await broker.connections().isEmpty)
    }

    /// Whether the broker still serves others.
    static func expectAlive(_ broker: InProcessBroker) async throws {
        let connection = try await broker.connect()
        try await connection.withChannel { channel in
            try await channel.declareQueue("alive")
            try await channel.enableConfirms()
            try await channel.publishAndConfirm("m", to: .queue("alive"))
        }
        try await connection.close()
    }

    @Test("A violation closes the connection with the right code, and nothing else", arguments: rows + steps)
    func violation(_ row: Row) async throws {
        try await InProcessBroker.withBroker { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            client.sendRaw(row.octets)
            let close = try await client.expectClose()
            #expect(close.code == row.code)
            #expect(close.isConnection)
            try await client.expectEnd()
            try await Self.expectAlive(broker)
            await Self.expectNoConnections(broker)
        }
    }

    @Test("S13: a body above 512 MiB ends its connection at the header")
    func tooLarge() async throws {
        try await InProcessBroker.withBroker(.rabbitMQ(.v4_3)) { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            client.sendRaw(Self.publish + Self.header([0x80, 0, 0, 0, 0, 0, 0, 0]))
            let close = try await client.expectClose()
            #expect(close.code == .frameError)
            #expect(close.isConnection)
        }
    }

    @Test("A body above the limit closes its channel, whether it fits one frame or not", arguments: [100, 20_000])
    func aboveLimit(limit: Int) async throws {
        var options = InProcessBroker.Options()
        options.maximumMessageSize = limit
        options.frameMax = 8192
        try await InProcessBroker.withBroker(options) { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            try await client.call(.queueDeclare(.init(queue: "q", durable: true)))
            try client.publish(String(repeating: "x", count: limit), key: "q")
            try client.publish(String(repeating: "x", count: limit + 1), key: "q")
            let close = try await client.expectClose()
            #expect(close.code == .preconditionFailed)
            #expect(!close.isConnection)
            #expect(close.text.hasSuffix("message size \(limit + 1) is larger than configured max size \(limit)"))
            try await client.call(.channelOpen(.init()))
            #expect(await broker.depth(of: "q") == 1)
        }
    }

    @Test("S6: another protocol is answered with the protocol header, and the link ends")
    func otherProtocol() async throws {
        try await InProcessBroker.withBroker { broker in
            for hello in ["GET / HTTP/1.1\r\n\r\n", "AMQP\u{1}\u{1}\u{0}\u{A}", "\u{16}\u{3}\u{1}xxxxxxx"] {
                let client = try await ScriptedClient.connect(broker.configuration)
                client.sendRaw(Array(hello.utf8))
                let failure = await #expect(throws: ScriptFailure.self) { _ = try await client.next() }
                #expect(failure?.found.contains("AMQP 0-0-9-1") == true)
            }
            try await Self.expectAlive(broker)
        }
    }

    @Test(
        "S23: limits a client may not choose are refused",
        arguments: [(100, 2047), (262_144, 2047), (0, 2047), (131_072, 0)]
    )
    func tune(_ frameMax: UInt32, _ channelMax: UInt16) async throws {
        try await InProcessBroker.withBroker { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.greet()
            let response = Array("\0guest\0guest".utf8)
            try client.send(
                .connectionStartOk(
                    .init(clientProperties: [:], mechanism: "PLAIN", response: response, locale: "en_US")
                )
            )
            _ = try await client.expect(Connection.Tune.self)
            try client.send(.connectionTuneOk(.init(channelMax: channelMax, frameMax: frameMax, heartbeat: 0)))
            let close = try await client.expectClose()
            #expect(close.code == .notAllowed)
        }
    }

    @Test("S27: a client that sends nothing, or stops during its login, is dropped in time")
    func handshakeTimeout() async throws {
        var options = InProcessBroker.Options()
        options.handshakeTimeout = .milliseconds(1000)
        try await InProcessBroker.withBroker(options) { broker in
            let silent = try await ScriptedClient.connect(broker.configuration)
            let slow = try await ScriptedClient.connect(broker.configuration)
            try await slow.greet()
            try await silent.expectEnd()
            try await slow.expectEnd()
            await Self.expectNoConnections(broker)
        }
    }

    @Test("S29: a client that does not read its replies is not read, and gets them all when it does")
    func answersNotTaken() async throws {
        try await InProcessBroker.withBroker { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            client.stopReading()
            let body = String(repeating: "x", count: 100_000)
            // Several times what the broker holds back and the sockets take together.
            for _ in 0..<300 { try client.publish(body, key: "nowhere", mandatory: true) }
            try client.send(.queueDeclare(.init(queue: "last", durable: true)))
            try await Self.expectAlive(broker)
            #expect(await broker.queue("last") == nil)
            client.resumeReading()
            for _ in 0..<300 {
                let event = try await client.next()
                #expect(event.method.id == Basic.Return.id)
                #expect(event.body.count == body.utf8.count)
            }
            _ = try await client.expect(Queue.DeclareOk.self)
        }
    }

    @Test("S29: a consumer that does not read delays only its own deliveries")
    func deliveriesNotTaken() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            client.stopReading()
            try client.send(.basicConsume(.init(queue: "q", consumerTag: "c", noAck: true)))
            let message = AMQPMessage(AMQPBody([UInt8](repeating: 1, count: 64 << 10)))
            for _ in 0..<500 { try await channel.publish(message, to: .queue("q")) }
            try await channel.enableConfirms()
            try await channel.publishAndConfirm("last", to: .queue("q"))
            #expect((await broker.depth(of: "q") ?? 0) > 100)
            client.resumeReading()
            _ = try await client.expect(Basic.ConsumeOk.self)
            for _ in 0..<500 { #expect(try await client.delivery().event.body.count == 64 << 10) }
            #expect(try await client.delivery().event.text == "last")
            try await connection.close()
        }
    }

    @Test("A silent client gets heartbeats and is dropped")
    func silence() async throws {
        var options = InProcessBroker.Options()
        options.heartbeat = 1
        try await InProcessBroker.withBroker(options) { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            try client.send(.queueDeclare(.init(queue: "q", exclusive: true)))
            try await client.expectEnd()
            await Self.expectNoConnections(broker)
            #expect(await broker.queue("q") == nil)
        }
    }

    /// A login, a declaration, a publish and a get, as octets.
    static func session() throws -> [UInt8] {
        let startOk = Connection.StartOk(
            clientProperties: ["a": [1, ["b": 2]]],
            mechanism: "PLAIN",
            response: Array("\0guest\0guest".utf8),
            locale: "en_US"
        )
        var octets = Frame.protocolHeader
        octets += Self.octets(.connectionStartOk(startOk), on: 0)
        octets += Self.octets(.connectionTuneOk(.init(channelMax: 10, frameMax: 8192, heartbeat: 0)), on: 0)
        octets += Self.octets(.connectionOpen(.init(virtualHost: "/")), on: 0)
        octets += Self.octets(.channelOpen(.init()))
        octets += Self.octets(.confirmSelect(.init()))
        octets += Self.octets(.queueDeclare(.init(queue: "q", durable: true, arguments: ["x-max-length": 10])))
        octets += Self.octets(.basicConsume(.init(queue: "q", consumerTag: "c")))
        octets += try ScriptedBroker.octets(
            of: .basicPublish(.init(exchange: "", routingKey: "q", mandatory: true, immediate: false)),
            properties: BasicProperties(headers: ["h": "v"], priority: 1, expiration: "1000"),
            body: Array("hello".utf8),
            on: 1
        )
        octets += Self.octets(.basicAck(.init(deliveryTag: DeliveryTag(1), multiple: true)))
        octets += Self.octets(.channelClose(.init(replyCode: .success, replyText: "", classID: 0, methodID: 0)))
        return octets
    }

    @Test("S28: a session cut anywhere, or with any octet changed, leaves the broker's state unchanged")
    func damaged() async throws {
        var options = InProcessBroker.Options()
        // A damaged length makes the broker wait for more.
        options.handshakeTimeout = .seconds(5)
        let session = try Self.session()
        try await InProcessBroker.withBroker(options) { broker in
            let configuration = broker.configuration
            for index in session.indices {
                let client = try await ScriptedClient.connect(configuration)
                client.sendRaw(Array(session[..<index]))
                client.drop()
                var changed = session
                changed[index] ^= UInt8(1 << (index % 8))
                let other = try await ScriptedClient.connect(configuration)
                other.sendRaw(changed)
                other.drop()
            }
            try await Self.expectAlive(broker)
        }
    }

    @Test("Random frames do not trap the broker")
    func random() async throws {
        var generator = SystemRandomNumberGenerator()
        try await InProcessBroker.withBroker { broker in
            for _ in 0..<50 {
                let client = try await ScriptedClient.connect(broker.configuration)
                try await client.login(broker.configuration)
                for _ in 0..<20 {
                    let classID = [10, 20, 40, 50, 60, 85, 90].randomElement(using: &generator) ?? 60
                    let methodID = [10, 11, 20, 21, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120].randomElement() ?? 10
                    let payload = (0..<Int.random(in: 0...40)).map { _ in UInt8.random(in: 0...255, using: &generator) }
                    let type = UInt8([1, 1, 1, 2, 3].randomElement(using: &generator) ?? 1)
                    let head: [UInt8] = [0, UInt8(classID), 0, UInt8(methodID)]
                    client.sendRaw(Self.frame(type, UInt8.random(in: 0...2), head + payload))
                }
                client.drop()
            }
            try await Self.expectAlive(broker)
        }
    }
}
