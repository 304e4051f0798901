// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// ViolationTests: octets no broker may send, each answered with the right reply code, and never with a trap.

@Suite("Violations by the broker", .timeLimit(.minutes(1)))
struct ViolationTests {
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

    static func octets(_ method: Method, on channel: UInt16 = 1) -> [UInt8] {
        (try? ScriptedBroker.octets(of: method, on: channel)) ?? []
    }

    static func frame(_ type: UInt8, _ channel: UInt8, _ payload: [UInt8], end: UInt8 = 0xCE) -> [UInt8] {
        [type, 0, channel, 0, 0, 0, UInt8(payload.count)] + payload + [end]
    }

    static let deliver = Method.basicDeliver(
        .init(consumerTag: "c", deliveryTag: DeliveryTag(1), redelivered: false, exchange: "", routingKey: "")
    )
    static let header: [UInt8] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]

    static let rows: [Row] = [
        Row("C1: a wrong frame end", frame(1, 1, [0, 20, 0, 11, 0, 0, 0, 0], end: 0), .frameError),
        Row("C5: an unknown frame type", frame(7, 1, [1, 2, 3, 4]), .frameError),
        Row("C2: a frame above the limit", [1, 0, 1, 0, 2, 0, 0], .frameError),
        Row("C3: a frame of 4 GiB", [3, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF], .frameError),
        Row("C4: a method of three octets", frame(1, 1, [0, 50, 0]), .frameError),
        Row("C4: a header of thirteen octets", frame(2, 1, Array(header.dropLast())), .frameError),
        Row("C9: a heartbeat on a channel", frame(8, 1, []), .frameError),
        Row("C9: a heartbeat with a payload", frame(8, 0, [1]), .frameError),
        Row("C22: an unknown class", frame(1, 1, [0, 99, 0, 1]), .commandInvalid),
        Row("C22: an unknown method", frame(1, 1, [0, 50, 0, 99]), .commandInvalid),
        Row("C17: a method cut short", frame(1, 1, [0, 50, 0, 11, 5, 1]), .syntaxError),
        Row("C17: octets behind a method", frame(1, 1, [0, 50, 0, 21, 0]), .syntaxError),
        Row("C28: a reply nobody waits for", octets(.queueBindOk(.init())), .commandInvalid),
        Row("C28: a second open-ok", octets(.channelOpenOk(.init())), .commandInvalid),
        Row("C7: a method on a channel that was never opened", octets(.queueBindOk(.init()), on: 9), .channelError),
        Row("C8: a content on channel 0", frame(3, 0, [1]), .unexpectedFrame),
        Row("C10: a body without a method", frame(3, 1, [1]), .unexpectedFrame),
        Row("C10: a header without a method", frame(2, 1, header), .unexpectedFrame),
        Row("C10: a method inside a content", octets(deliver) + octets(.queueBindOk(.init())), .unexpectedFrame),
        Row("C10: two headers", octets(deliver) + frame(2, 1, header) + frame(2, 1, header), .unexpectedFrame),
        Row("C12: too long a body", octets(deliver) + frame(2, 1, header) + frame(3, 1, [1, 2, 3]), .frameError),
        Row(
            "C11: a header of another class",
            octets(deliver) + frame(2, 1, [0, 50] + header.dropFirst(2)),
            .unexpectedFrame
        ),
        Row("C28: a second connection.start", octets(.connectionStart(ScriptedBroker.start), on: 0), .commandInvalid),
        Row("C28: a second open-ok of the connection", octets(.connectionOpenOk(.init()), on: 0), .commandInvalid),
    ]

    @Test("A violation closes the connection with the right code", arguments: rows)
    func violation(_ row: Row) async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let queue = Task { try await channel.declareQueue("orders") }
            try await broker.expect(Queue.Declare.self)
            broker.sendRaw(row.octets)
            let close = try await broker.expect(Connection.Close.self, on: 0)
            #expect(close.replyCode == row.code)
            try await broker.expectEnd()
            let error = await #expect(throws: AMQPError.self) { try await queue.value }
            #expect(error?.code == .protocolViolation)
            #expect(error?.replyCode == row.code)
            #expect(!connection.isOpen)
        }
    }
}
