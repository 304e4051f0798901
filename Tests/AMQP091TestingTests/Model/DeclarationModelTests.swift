// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@testable import AMQP091Testing

// DeclarationModelTests: what may be declared, and what is the same; properties of messages; dead letters; texts.

@Suite("Model of the in-process broker: declarations")
struct DeclarationModelTests {
    struct Row: CustomTestStringConvertible, Sendable {
        let arguments: FieldTable
        let durable: Bool
        let text: String?
        var testDescription: String { "\(self.arguments)" }

        /// `text` behind the head that all have.
        init(_ arguments: FieldTable, durable: Bool = true, _ text: String?) {
            self.arguments = arguments
            self.durable = durable
            self.text = text
        }
    }

    static let rows = [
        Row([:], nil),
        Row(["x-message-ttl": .uint32(5), "x-max-length": .int8(1), "x-unknown": .void], nil),
        Row(["x-message-ttl": 0], nil),
        Row(["x-message-ttl": -1], "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}"),
        Row(
            ["x-message-ttl": "5"],
            "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': \"expected integer, got longstr\""
        ),
        Row(["x-expires": 0], "invalid arg 'x-expires' for queue 'q' in vhost '/': {value_zero,0}"),
        Row(["x-max-priority": 255], nil),
        Row(
            ["x-max-priority": 256],
            "invalid arg 'x-max-priority' for queue 'q' in vhost '/': {max_value_exceeded,256}"
        ),
        Row(["x-overflow": "drop-tail"], "invalid arg 'x-overflow' for queue 'q' in vhost '/': invalid_overflow"),
        Row(
            ["x-single-active-consumer": "true"],
            "invalid arg 'x-single-active-consumer' for queue 'q' in vhost '/': {unacceptable_type,longstr}"
        ),
        Row(
            ["x-dead-letter-routing-key": "k"],
            "invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost '/': routing_key_but_no_dlx_defined"
        ),
        Row(
            ["x-dead-letter-exchange": .int32(1)],
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"
        ),
        Row(["x-queue-type": "quorum"], nil),
        Row(
            ["x-delivery-limit": 5],
            "invalid arg 'x-delivery-limit' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"
        ),
        Row(
            ["x-queue-type": "stream"],
            "invalid arg 'x-queue-type' for queue 'q' in vhost '/': \"unsupported queue type 'stream'\""
        ),
    ]

    @Test("The arguments of a queue are checked", arguments: rows)
    func arguments(_ row: Row) {
        let stage = ModelStage()
        let found = refusal { () throws(Refusal) in _ = try stage.queue(durable: row.durable, row.arguments) }
        #expect(found == row.text.map { "PRECONDITION_FAILED - \($0)" })
        #expect((stage.host.queues["q"] == nil) == (row.text != nil))
    }

    @Test("A queue declared again must be equal, integers by value")
    func again() throws {
        let stage = ModelStage()
        let queue = try stage.queue(["x-max-length": .int32(5)])
        #expect(try stage.queue(["x-max-length": .int64(5), "x-unknown": 1]) === queue)
        let other = refusal { () throws(Refusal) in _ = try stage.queue(["x-max-length": .int32(6)]) }
        #expect(other?.hasSuffix("for queue 'q' in vhost '/': received '6' but current is '5'") == true)
        let none = refusal { () throws(Refusal) in _ = try stage.queue() }
        #expect(none?.hasSuffix("received none but current is the value '5' of type 'signedint'") == true)
        let durable = refusal { () throws(Refusal) in
            _ = try stage.queue(durable: false, ["x-max-length": .int32(5)])
        }
        #expect(durable?.contains("inequivalent arg 'durable'") == true)
    }

    @Test("A classic queue may be declared again with its type or without, a quorum queue only with it")
    func queueTypes() throws {
        let (untyped, typed) = (FieldTable(), ["x-queue-type": "classic"] as FieldTable)
        for (first, second) in [(untyped, typed), (typed, untyped)] {
            let stage = ModelStage()
            #expect(try stage.queue(first) === stage.queue(second))
        }
        let stage = ModelStage()
        _ = try stage.queue(["x-queue-type": "quorum"])
        let found = refusal { () throws(Refusal) in _ = try stage.queue() }
        #expect(found?.contains("inequivalent arg 'x-queue-type'") == true)
    }

    @Test("An exclusive queue is locked to its owner, also for passive declarations")
    func exclusive() throws {
        let stage = ModelStage()
        let (mine, other) = (ModelSink(), ModelSink())
        let declare = Queue.Declare(queue: "q", exclusive: true)
        _ = try stage.host.declare(declare, for: ObjectIdentifier(mine))
        _ = try stage.host.declare(declare, for: ObjectIdentifier(mine))
        let passive = Queue.Declare(queue: "q", passive: true)
        for attempt in [declare, passive] {
            let found = refusal { () throws(Refusal) in
                _ = try stage.host.declare(attempt, for: ObjectIdentifier(other))
            }
            #expect(found?.hasPrefix("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q'") == true)
        }
        _ = try stage.host.declare(passive, for: ObjectIdentifier(mine))
    }

    @Test("Exchanges: reserved names, kinds, the default one, and being in use")
    func exchanges() throws {
        let stage = ModelStage()
        func refused(_ name: String, _ type: String, _ arguments: FieldTable = [:]) -> String? {
            refusal { () throws(Refusal) in
                try stage.host.declare(.init(exchange: name, type: type, arguments: arguments))
            }
        }
        #expect(refused("", "direct") == "ACCESS_REFUSED - operation not permitted on the default exchange")
        #expect(refused("amq.mine", "direct")?.contains("contains reserved prefix 'amq.*'") == true)
        #expect(refused("x", "odd") == "PRECONDITION_FAILED - invalid exchange type 'odd'")
        #expect(refused("x", "direct", ["alternate-exchange": 1])?.hasPrefix("PRECONDITION_FAILED") == true)
        #expect(refused("x", "direct") == nil)
        #expect(refused("x", "topic")?.contains("received 'topic' but current is 'direct'") == true)
        _ = try stage.queue()
        try stage.host.bind(.init(queue: "q", exchange: "x", routingKey: "k"), for: nil)
        let used = refusal { () throws(Refusal) in try stage.host.delete(.init(exchange: "x", ifUnused: true)) }
        #expect(used == "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use")
        try stage.host.delete(.init(exchange: "x"))
        try stage.host.delete(.init(exchange: "x"))
        let missing = refusal { () throws(Refusal) in _ = try stage.host.exchange(toPublish: "x") }
        #expect(missing == "NOT_FOUND - no exchange 'x' in vhost '/'")
        let trace = refusal { () throws(Refusal) in _ = try stage.host.exchange(toPublish: "amq.rabbitmq.trace") }
        #expect(trace?.hasPrefix("ACCESS_REFUSED - cannot publish to internal exchange") == true)
    }

    @Test("A queue is deleted only if unused and empty, on request")
    func deletion() throws {
        let stage = ModelStage()
        let queue = try stage.queue()
        #expect(queue.publish(.text("m")))
        let full = refusal { () throws(Refusal) in
            _ = try stage.host.delete(.init(queue: "q", ifEmpty: true), for: nil)
        }
        #expect(full == "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty")
        let (consumer, _) = try stage.consumer("c", on: queue)
        let used = refusal { () throws(Refusal) in
            _ = try stage.host.delete(.init(queue: "q", ifUnused: true), for: nil)
        }
        #expect(used == "PRECONDITION_FAILED - queue 'q' in vhost '/' in use")
        queue.remove(consumer)
        #expect(try stage.host.delete(.init(queue: "q", ifUnused: true), for: nil) == 1)
        #expect(try stage.host.delete(.init(queue: "q"), for: nil) == 0)
    }

    // MARK: messages

    static let expirations: [(String, String?)] = [
        ("0", nil), ("60000", nil), ("18446744073709551615", nil),
        ("", "no_integer"), ("soon", "no_integer"), ("-1", "{value_negative,-1}"),
        ("5s", "{leftover_string,\"s\"}"), ("1.5", "{leftover_string,\".5\"}"),
        ("18446744073709551616", "{value_too_large,18446744073709551616}"),
    ]

    @Test("An expiration is a number of milliseconds", arguments: expirations)
    func expiration(text: String, reason: String?) {
        let found = refusal { () throws(Refusal) in
            _ = try MessageTraits(BasicProperties(expiration: text), user: "guest", version: .v4_3)
        }
        #expect(found == reason.map { "PRECONDITION_FAILED - invalid expiration '\(text)': \($0)" })
    }

    @Test("User, copies and blind copies are read from the properties")
    func traits() throws {
        let headers: FieldTable = ["CC": .array(["a", "b"]), "BCC": .array(["c", .int32(1)])]
        let properties = BasicProperties(headers: headers, priority: 7, userID: "me")
        let traits = try MessageTraits(properties, user: "me", version: .v4_3)
        #expect(traits.extraKeys == ["a", "b", "c"])
        #expect(traits.hasBlindCopies)
        #expect(traits.priority == 7)
        let user = refusal { () throws(Refusal) in
            _ = try MessageTraits(BasicProperties(userID: "me"), user: "you", version: .v4_3)
        }
        #expect(user == "PRECONDITION_FAILED - user_id property set to 'me' but authenticated user was 'you'")
        let copies = refusal { () throws(Refusal) in
            _ = try MessageTraits(BasicProperties(headers: ["CC": "a"]), user: "me", version: .v4_3)
        }
        #expect(copies?.contains("{unacceptable_type_in_header,\"CC\",longstr}") == true)
    }

    @Test("A message keeps its octets with another route and other properties")
    func message() throws {
        let message = Message.text("body", exchange: "x", key: "k", priority: 3, properties: .init(messageID: "m"))
        #expect(message.route == ("x", "k"))
        #expect(message.properties.messageID == "m")
        let other = try #require(
            message.with(exchange: "y", routingKey: "", properties: BasicProperties(), timeToLive: 5)
        )
        #expect(other.route == ("y", ""))
        #expect(other.text == "body")
        #expect(other.header.timeToLive == 5)
        #expect(other.header.priority == nil)
        let long = String(repeating: "x", count: 256)
        #expect(message.with(exchange: "", routingKey: long, properties: BasicProperties(), timeToLive: nil) == nil)
    }

    // MARK: dead letters

    @Test("A death is added to the headers; a repeated one is counted and moved first")
    func deaths() throws {
        let stage = ModelStage()
        let queue = try stage.queue(["x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "dead"])
        let properties = BasicProperties(headers: ["CC": .array(["copy"]), "own": 1], expiration: "50")
        var message = Message.text("m", exchange: "x", key: "k", properties: properties)
        message = try #require(DeadLetters.message(message, from: queue, .expired, exchange: "dlx"))
        #expect(message.route == ("dlx", "dead"))
        var headers = try #require(message.properties.headers)
        #expect(message.properties.expiration == nil)
        #expect(headers["own"] == 1)
        #expect(headers["CC"] == ["copy"])
        #expect(headers["x-first-death-reason"] == "expired")
        var deaths = try #require(headers["x-death"]?.arrayValue).compactMap(\.tableValue)
        #expect(deaths.count == 1)
        #expect(deaths[0]["count"] == .int64(1))
        #expect(deaths[0]["routing-keys"] == .array(["k", "copy"]))
        #expect(deaths[0]["original-expiration"] == "50")
        message = try #require(DeadLetters.message(message, from: queue, .rejected, exchange: "dlx"))
        message = try #require(DeadLetters.message(message, from: queue, .expired, exchange: "dlx"))
        headers = try #require(message.properties.headers)
        deaths = try #require(headers["x-death"]?.arrayValue).compactMap(\.tableValue)
        #expect(deaths.map { $0["reason"]?.stringValue } == ["expired", "rejected"])
        #expect(deaths[0]["count"] == .int64(2))
        #expect(headers["x-first-death-reason"] == "expired")
    }

    @Test("Deaths forged by a publisher do not trap", arguments: [Int64.max, -1, 0])
    func inventedDeaths(count: Int64) throws {
        let stage = ModelStage()
        let queue = try stage.queue(["x-dead-letter-exchange": "dlx"])
        let death: FieldTable = ["queue": "q", "reason": "rejected", "count": .int64(count)]
        let rows: [FieldTable] = [
            ["x-death": .array([.table(death), 7, "text"])], ["x-death": "text"], ["x-death": .array([])],
        ]
        for headers in rows {
            let message = Message.text("m", properties: BasicProperties(headers: headers))
            let dead = try #require(DeadLetters.message(message, from: queue, .rejected, exchange: "dlx"))
            let deaths = dead.properties.headers?["x-death"]?.arrayValue ?? []
            #expect(deaths.first?.tableValue?["queue"] == "q")
        }
    }

    static let cycles: [([(String, String)], String, Bool)] = [
        ([], "q", false),
        ([("q", "expired")], "q", true),
        ([("q", "expired")], "r", false),
        ([("q", "rejected")], "q", false),
        ([("r", "maxlen"), ("q", "expired")], "q", true),
        ([("r", "rejected"), ("q", "expired")], "q", false),
        ([("q", "expired"), ("r", "rejected")], "q", true),
    ]

    @Test("A message in a cycle is dropped, one that was rejected on the way is not", arguments: cycles)
    func cycle(deaths: [(String, String)], queue: String, isCycle: Bool) {
        let rows = deaths.map { (queue, reason) -> FieldValue in
            .table(["queue": .string(queue), "reason": .string(reason)])
        }
        #expect(DeadLetters.isCycle(["x-death": .array(rows)], to: queue) == isCycle)
    }

    // MARK: texts

    @Test("A reply text is truncated to 255 octets between scalars")
    func texts() {
        let refusal = Refusal(.notFound, String(repeating: "ä", count: 200))
        #expect(refusal.text.utf8.count == 255)
        #expect(refusal.text.hasSuffix("ä..."))
        #expect(refusal.text.hasPrefix("NOT_FOUND - ää"))
        #expect(Refusal(.notFound, "q").text == "NOT_FOUND - q")
    }

    static let values: [(FieldValue, String, String)] = [
        (.bool(true), "bool", "true"), (.int8(-1), "byte", "-1"), (.uint8(1), "unsignedbyte", "1"),
        (.int16(-1), "short", "-1"), (.uint16(1), "unsignedshort", "1"), (.int32(-1), "signedint", "-1"),
        (.uint32(1), "unsignedint", "1"), (.int64(-1), "long", "-1"), (.double(1.5), "double", "1.5"),
        ("text", "longstr", "text"), (.bytes([0x41]), "binary", "A"),
    ]

    @Test("Values are named and shown as RabbitMQ does", arguments: values)
    func value(value: FieldValue, type: String, text: String) {
        #expect(value.typeName == type)
        #expect(value.plainText == text)
    }
}
