// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import Testing

// MandatoryPublishes by tables: which outstanding publish a returned message is, when exchange, key and length are equal.

@Suite("Mandatory publishes")
struct MandatoryPublishesTests {
    struct Message: Sendable {
        var exchange = "x"
        var key = "a"
        var body = "body"
        var properties: BasicProperties? = BasicProperties()

        var mark: MandatoryPublishes.Mark {
            MandatoryPublishes.Mark(exchange: self.exchange, routingKey: self.key, bodyHash: OctetHash.of(self.body))
        }
    }

    static func ring(_ messages: [Message]) -> ConfirmRing {
        var ring = ConfirmRing(capacity: 16)
        for message in messages {
            let sequence = ring.append(octets: message.body.utf8.count, token: 0)
            ring.markMandatory(sequence, message.mark, message.properties ?? BasicProperties())
        }
        return ring
    }

    static func receive(_ ring: inout ConfirmRing, _ message: Message) -> UInt64? {
        let properties = ReturnedProperties(message.properties)
        return ring.receivedReturn(message.mark, properties, code: .noRoute, text: "NO_ROUTE")
    }

    static func ends(
        _ ring: inout ConfirmRing,
        _ tag: UInt64,
        multiple: Bool = false,
        _ outcome: ConfirmRing.Outcome = .confirmed
    ) -> [UInt64: ConfirmRing.Outcome] {
        var ends: [UInt64: ConfirmRing.Outcome] = [:]
        try? ring.settle(tag: tag, multiple: multiple, outcome: outcome) { sequence, _, end in ends[sequence] = end }
        return ends
    }

    struct Row: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let published: [Message]
        let returned: Message
        /// The number of the publish that came back, from 1.
        let expected: UInt64?

        init(_ name: String, _ published: [Message], _ returned: Message, _ expected: UInt64?) {
            self.testDescription = name
            self.published = published
            self.returned = returned
            self.expected = expected
        }
    }

    static func headers(_ fields: (String, FieldValue)...) -> BasicProperties {
        BasicProperties(headers: FieldTable(fields))
    }

    static func id(_ id: String) -> BasicProperties { BasicProperties(messageID: id) }

    static let rows = [
        Row("equal in all: the oldest", [Message(), Message()], Message(), 1),
        Row("another body of the same length", [Message(), Message(body: "ydob")], Message(body: "ydob"), 2),
        Row("another exchange", [Message(), Message(exchange: "y")], Message(exchange: "y"), 2),
        Row("another key", [Message(), Message(key: "b")], Message(key: "b"), 2),
        Row("exchange and key are not run together", [Message(exchange: "xa", key: "")], Message(), nil),
        Row("none has the body", [Message()], Message(body: "ydob"), nil),
        Row(
            "message-id",
            [Message(properties: id("1")), Message(properties: id("2"))],
            Message(properties: id("2")),
            2
        ),
        Row(
            "a message-id that none has",
            [Message(properties: id("1")), Message()],
            Message(properties: id("3")),
            nil
        ),
        Row(
            "equal message-id, another body",
            [Message(properties: id("1")), Message(body: "ydob", properties: id("1"))],
            Message(body: "ydob", properties: id("1")),
            2
        ),
        Row(
            "any property",
            [Message(), Message(properties: .init(timestamp: 1)), Message(properties: .init(timestamp: 2))],
            Message(properties: .init(timestamp: 2)),
            3
        ),
        Row(
            "a header's value",
            [Message(properties: headers(("n", 1))), Message(properties: headers(("n", 2)))],
            Message(properties: headers(("n", 2))),
            2
        ),
        Row(
            "headers in another order",
            [Message(properties: headers(("b", 1))), Message(properties: headers(("b", 2), ("a", "v")))],
            Message(properties: headers(("a", "v"), ("b", 2))),
            2
        ),
        Row(
            "headers without the duplicates of a name",
            [Message(properties: headers(("a", 1))), Message(properties: headers(("a", 1), ("b", 1), ("b", 2)))],
            Message(properties: headers(("a", 1), ("b", 2))),
            2
        ),
        Row(
            "headers with numbers of another width",
            [Message(properties: headers(("a", .int32(7)))), Message(properties: headers(("a", .uint8(8))))],
            Message(properties: headers(("a", .int64(8)))),
            2
        ),
        Row(
            "a table in a table in another order",
            [
                Message(properties: headers(("t", .table(["y": 1, "x": 1])))),
                Message(properties: headers(("t", .table(["y": 2, "x": 1])))),
            ],
            Message(properties: headers(("t", .table(["x": 1, "y": 2])))),
            2
        ),
        Row(
            "without BCC, which RabbitMQ removes",
            [Message(properties: headers(("n", 1))), Message(properties: headers(("n", 2), ("BCC", .array(["q"]))))],
            Message(properties: headers(("n", 2))),
            2
        ),
        Row(
            "with a header and a timestamp that a plugin set: the most alike",
            [Message(properties: headers(("n", 1))), Message(properties: headers(("n", 2)))],
            Message(properties: .init(headers: ["n": 2, "timestamp_in_ms": 5], timestamp: 9)),
            2
        ),
        Row(
            "properties that cannot be decoded say nothing",
            [Message(key: "b"), Message(properties: id("1"))],
            Message(properties: nil),
            2
        ),
    ]

    @Test("A return is matched to the publish it carries", arguments: rows)
    func credited(_ row: Row) {
        var ring = Self.ring(row.published)
        #expect(Self.receive(&ring, row.returned) == row.expected)
    }

    @Test("Returns of equal publishes are matched oldest first, each once")
    func twins() {
        var ring = Self.ring([Message(), Message(body: "ydob"), Message(), Message()])
        #expect(Self.receive(&ring, Message()) == 1)
        #expect(Self.receive(&ring, Message(body: "ydob")) == 2)
        // Returns keep the order of the publishes: this one cannot be the first.
        #expect(Self.receive(&ring, Message()) == 3)
        #expect(Self.receive(&ring, Message()) == 4)
        #expect(Self.receive(&ring, Message()) == nil)
        let ends = Self.ends(&ring, 4, multiple: true)
        #expect(ends.count == 4 && ends.values.allSatisfy { $0 == .returned(.noRoute, "NO_ROUTE") })
    }

    @Test("A return is searched after the last one before the older publishes")
    func cursor() {
        var ring = Self.ring([Message(), Message(body: "ydob"), Message()])
        #expect(Self.receive(&ring, Message(body: "ydob")) == 2)
        #expect(Self.receive(&ring, Message()) == 3)
        #expect(Self.receive(&ring, Message()) == 1)
    }

    @Test("A nack shows that an equal publish was returned, which ends as returned")
    func nackedTwin() {
        var ring = Self.ring([Message(), Message(body: "ydob"), Message()])
        #expect(Self.receive(&ring, Message()) == 1)
        #expect(Self.ends(&ring, 1, .nacked) == [1: .nacked])
        #expect(Self.ends(&ring, 3, multiple: true) == [3: .returned(.noRoute, "NO_ROUTE")])
    }

    @Test("A nack of a returned publish without an equal one is a nack")
    func nackedAlone() {
        var ring = Self.ring([Message(), Message(body: "ydob")])
        #expect(Self.receive(&ring, Message()) == 1)
        #expect(Self.ends(&ring, 1, .nacked) == [1: .nacked])
        #expect(Self.ends(&ring, 2).isEmpty)
    }

    @Test("A settled publish matches no return")
    func settled() {
        var ring = Self.ring([Message(), Message(body: "ydob")])
        #expect(Self.ends(&ring, 1).isEmpty)
        #expect(Self.receive(&ring, Message()) == nil)
        _ = ring.append(octets: 1, token: 0)
        ring.markMandatory(3, Message().mark, BasicProperties())
        #expect(Self.receive(&ring, Message()) == 3)
        ring.failAll { _, _ in }
        #expect(Self.receive(&ring, Message()) == nil)
    }

    @Test("Random returns are matched to a publish equal to the unrouted one", arguments: 0..<40)
    func model(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        var ring = ConfirmRing(capacity: 16)
        var routed: [UInt64: Bool] = [:]
        var messages: [UInt64: String] = [:]
        var awaited: [UInt64] = []
        var ends: [UInt64: ConfirmRing.Outcome] = [:]
        for _ in 0..<2000 {
            if Int.random(in: 0..<3, using: &random) > 0 || awaited.isEmpty {
                let isRouted = Bool.random(using: &random)
                let number = Int.random(in: 0..<6, using: &random)
                let properties = BasicProperties(headers: ["n": .int64(Int64(number / 2))], timestamp: 7)
                let message = Message(body: "body\(number % 2)", properties: properties)
                let sequence = ring.append(octets: 5, token: 1)
                ring.markMandatory(sequence, message.mark, properties)
                routed[sequence] = isRouted
                messages[sequence] = "\(number)"
                awaited.append(sequence)
                if !isRouted {
                    let found = Self.receive(&ring, message)
                    #expect(found.flatMap { messages[$0] } == messages[sequence])
                }
            } else {
                let index = Int.random(in: 0..<min(awaited.count, 20), using: &random)
                let sequence = awaited.remove(at: index)
                let isNacked = routed[sequence] == true && Int.random(in: 0..<5, using: &random) == 0
                let settled = Self.ends(&ring, sequence, isNacked ? .nacked : .confirmed)
                ends.merge(settled) { $1 }
                if isNacked { routed[sequence] = nil }
            }
        }
        for sequence in awaited { ends.merge(Self.ends(&ring, sequence)) { $1 } }
        // For each kind of message the number of confirms equals the number in a queue.
        for kind in Set(messages.values) {
            let sequences = messages.filter { $0.value == kind }.map(\.key)
            #expect(
                sequences.count { ends[$0] == .confirmed } == sequences.count { routed[$0] == true },
                "messages of kind \(kind)"
            )
        }
    }
}
