// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// Steps out of order, values at the edges, and floods: each by the number of its row in docs/faults.md.

extension BrokerInputTests {
    static let basicQos = Method.basicQos(.init(prefetchCount: 1))
    static let tuneOk = Method.connectionTuneOk(.init(channelMax: 10, frameMax: 8192, heartbeat: 0))

    static func startOk() -> Method {
        .connectionStartOk(
            .init(clientProperties: [:], mechanism: "PLAIN", response: Array("\0guest\0guest".utf8), locale: "en_US")
        )
    }

    static func nested(_ depth: Int) -> [UInt8] {
        var table: [UInt8] = []
        for _ in 0..<depth {
            let count = UInt32(table.count)
            table = [1, 97, 70] + (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * $0)) } + table
        }
        return table
    }

    /// queue.declare with a table of these octets, in a frame of any size.
    static func declaring(_ table: [UInt8]) -> [UInt8] {
        func size(_ count: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * $0)) } }
        let payload = Self.declare + size(table.count) + table
        return [1, 0, 1] + size(payload.count) + payload + [0xCE]
    }

    static let steps: [Row] = [
        Row("S8: a method of a channel on the connection", octets(basicQos, on: 0), .channelError),
        Row("S8: a method of the connection on a channel", octets(tuneOk, on: 1), .commandInvalid),
        Row("S8: a content on the connection", frame(3, 0, [1]), .channelError),
        Row("S9: a heartbeat on a channel", frame(8, 1, []), .frameError),
        Row("S15: a table of 33 levels", declaring(nested(33)), .frameError),
        Row("S15: a table of a thousand levels", declaring(nested(1000)), .frameError),
        Row("S24: a second start-ok", octets(startOk(), on: 0), .channelError),
        Row("S24: a second tune-ok", octets(tuneOk, on: 0), .channelError),
        Row("S24: a second open", octets(.connectionOpen(.init(virtualHost: "/")), on: 0), .channelError),
        Row("S24: a second channel.open", octets(.channelOpen(.init())), .channelError),
        Row("S22: a method that only a broker sends", octets(.basicQosOk(.init())), .commandInvalid),
    ]

    @Test("S7: one channel above channel-max closes the connection")
    func channelMax() async throws {
        var options = InProcessBroker.Options()
        options.channelMax = 2
        try await InProcessBroker.withBroker(options) { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            try await client.call(.channelOpen(.init()), on: 2)
            try client.send(.channelOpen(.init()), on: 3)
            let close = try await client.expectClose()
            #expect(close.code == .notAllowed)
            #expect(close.isConnection)
        }
    }

    @Test("S14: thousands of empty bodies and heartbeats delay no other client, and the content ends with its octets")
    func floods() async throws {
        try await InProcessBroker.withBroker { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            try await client.call(.queueDeclare(.init(queue: "q", durable: true)))
            let publish = Method.basicPublish(.init(exchange: "", routingKey: "q"))
            client.sendRaw(Self.octets(publish) + Self.header(Self.two))
            let empty = Array(repeatElement(Self.frame(3, 1, []) + Self.frame(8, 0, []), count: 1000).joined())
            for _ in 0..<20 { client.sendRaw(empty) }
            try await Self.expectAlive(broker)
            client.sendRaw(Self.frame(3, 1, [104, 105]))
            #expect(try await client.get("q")?.text == "hi")
        }
    }

    @Test("S19, S20, S21: unusual numbers and text are accepted and returned; the first of a duplicate name counts")
    func oddValues() async throws {
        try await InProcessBroker.withBroker { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            // x-max-length 1, then 5; a NaN, a time without a calendar, a decimal of scale 255, a name that is no UTF-8.
            let names = ["x-max-length", "x-max-length"].map { [UInt8($0.utf8.count)] + Array($0.utf8) }
            let table = names[0] + [73, 0, 0, 0, 1] + names[1] + [73, 0, 0, 0, 5]
            client.sendRaw(Self.declaring(table))
            _ = try await client.expect(Queue.DeclareOk.self)
            let odd: [UInt8] =
                [1, 110, 100, 0x7F, 0xF8, 0, 0, 0, 0, 0, 0] + [1, 116, 84] + [UInt8](repeating: 0xFF, count: 8)
                + [1, 100, 68, 255, 0xFF, 0xFF, 0xFF, 0xFF] + [2, 0xC3, 0x28, 86]
            let header = Self.header(Self.two, flags: [0x20, 0], [0, 0, 0, UInt8(odd.count)] + odd)
            let publish = Method.basicPublish(.init(exchange: "", routingKey: "q"))
            for _ in 0..<2 { client.sendRaw(Self.octets(publish) + header + Self.frame(3, 1, [104, 105])) }
            let event = try #require(try await client.get("q"))
            let headers = try #require(event.properties.headers)
            #expect(headers["n"]?.doubleValue?.isNaN == true)
            #expect(headers["t"] == .timestamp(.max))
            #expect(headers["d"] == .decimal(FieldDecimal(scale: 255, digits: .max)))
            #expect(headers.count == 4)
            // The first limit counted: of two messages one was kept.
            #expect(try await client.get("q") == nil)
        }
    }

    @Test("S25: an acknowledgement of nothing closes its channel, and the connection stays open")
    func unknownTag() async throws {
        try await InProcessBroker.withBroker { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.login(broker.configuration)
            let settlements: [Method] = [
                .basicAck(.init(deliveryTag: DeliveryTag(1))),
                .basicNack(.init(deliveryTag: DeliveryTag(.max), requeue: true)),
                .basicReject(.init(deliveryTag: DeliveryTag(0), requeue: true)),
            ]
            for (index, settlement) in settlements.enumerated() {
                let channel = UInt16(index + 2)
                try await client.call(.channelOpen(.init()), on: channel)
                try client.send(settlement, on: channel)
                let close = try await client.expectClose()
                #expect(close.code == .preconditionFailed)
                #expect(!close.isConnection)
            }
            try await client.call(.queueDeclare(.init(queue: "q", durable: true)))
        }
    }

    @Test("S26: connection.close is answered in any step of the login", arguments: 0...3)
    func closeInStep(_ count: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            let client = try await ScriptedClient.connect(broker.configuration)
            try await client.greet()
            let steps = [Self.startOk(), Self.tuneOk, .connectionOpen(.init(virtualHost: "/"))]
            for step in steps.prefix(count) { try client.send(step, on: 0) }
            if count > 0 { _ = try await client.expect(Connection.Tune.self) }
            if count > 2 { _ = try await client.expect(Connection.OpenOk.self) }
            try client.send(.connectionClose(.init(replyCode: .success, replyText: "", classID: 0, methodID: 0)), on: 0)
            _ = try await client.expect(Connection.CloseOk.self)
            try await client.expectEnd()
            await Self.expectNoConnections(broker)
        }
    }
}
