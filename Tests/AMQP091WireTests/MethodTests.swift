// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@testable import AMQP091Codegen

@Suite("Methods")
struct MethodTests {
    static let table: FieldTable = ["x-max-priority": 10, "x-queue-type": "quorum"]
    static let text = "ключ ✓"
    static let bytes: [UInt8] = [0, 0xFF, 0xC3, 0x28]

    /// Every method, with no argument at its default.
    static let samples: [Method] = [
        .connectionStart(
            .init(versionMajor: 1, versionMinor: 2, serverProperties: table, mechanisms: bytes, locales: bytes)
        ),
        .connectionStartOk(.init(clientProperties: table, mechanism: "PLAIN", response: bytes, locale: "de_DE")),
        .connectionSecure(.init(challenge: bytes)),
        .connectionSecureOk(.init(response: bytes)),
        .connectionTune(.init(channelMax: 2047, frameMax: 131_072, heartbeat: 60)),
        .connectionTuneOk(.init(channelMax: 65535, frameMax: .max, heartbeat: 1)),
        .connectionOpen(.init(virtualHost: "/")),
        .connectionOpenOk(.init()),
        .connectionClose(.init(replyCode: .notAllowed, replyText: text, classID: 10, methodID: 40)),
        .connectionCloseOk(.init()),
        .connectionBlocked(.init(reason: "low on memory")),
        .connectionUnblocked(.init()),
        .connectionUpdateSecret(.init(newSecret: bytes, reason: text)),
        .connectionUpdateSecretOk(.init()),
        .channelOpen(.init()),
        .channelOpenOk(.init()),
        .channelFlow(.init(active: true)),
        .channelFlowOk(.init(active: true)),
        .channelClose(.init(replyCode: ReplyCode(999), replyText: text, classID: 60, methodID: 40)),
        .channelCloseOk(.init()),
        .exchangeDeclare(
            .init(
                exchange: text,
                type: "topic",
                passive: true,
                durable: true,
                autoDelete: true,
                internal: true,
                noWait: true,
                arguments: table
            )
        ),
        .exchangeDeclareOk(.init()),
        .exchangeDelete(.init(exchange: text, ifUnused: true, noWait: true)),
        .exchangeDeleteOk(.init()),
        .exchangeBind(.init(destination: "d", source: "s", routingKey: text, noWait: true, arguments: table)),
        .exchangeBindOk(.init()),
        .exchangeUnbind(.init(destination: "d", source: "s", routingKey: text, noWait: true, arguments: table)),
        .exchangeUnbindOk(.init()),
        .queueDeclare(
            .init(
                queue: text,
                passive: true,
                durable: true,
                exclusive: true,
                autoDelete: true,
                noWait: true,
                arguments: table
            )
        ),
        .queueDeclareOk(.init(queue: text, messageCount: .max, consumerCount: 7)),
        .queueBind(.init(queue: "q", exchange: "e", routingKey: text, noWait: true, arguments: table)),
        .queueBindOk(.init()),
        .queuePurge(.init(queue: text, noWait: true)),
        .queuePurgeOk(.init(messageCount: 3)),
        .queueDelete(.init(queue: text, ifUnused: true, ifEmpty: true, noWait: true)),
        .queueDeleteOk(.init(messageCount: 3)),
        .queueUnbind(.init(queue: "q", exchange: "e", routingKey: text, arguments: table)),
        .queueUnbindOk(.init()),
        .basicQos(.init(prefetchSize: 1, prefetchCount: 65535, global: true)),
        .basicQosOk(.init()),
        .basicConsume(
            .init(
                queue: "q",
                consumerTag: text,
                noLocal: true,
                noAck: true,
                exclusive: true,
                noWait: true,
                arguments: table
            )
        ),
        .basicConsumeOk(.init(consumerTag: text)),
        .basicCancel(.init(consumerTag: text, noWait: true)),
        .basicCancelOk(.init(consumerTag: text)),
        .basicPublish(.init(exchange: "e", routingKey: text, mandatory: true, immediate: true)),
        .basicReturn(.init(replyCode: .noRoute, replyText: "NO_ROUTE", exchange: "e", routingKey: text)),
        .basicDeliver(
            .init(consumerTag: "c", deliveryTag: DeliveryTag(.max), redelivered: true, exchange: "e", routingKey: text)
        ),
        .basicGet(.init(queue: "q", noAck: true)),
        .basicGetOk(
            .init(deliveryTag: DeliveryTag(1), redelivered: true, exchange: "e", routingKey: text, messageCount: 9)
        ),
        .basicGetEmpty(.init()),
        .basicAck(.init(deliveryTag: DeliveryTag(1 << 40), multiple: true)),
        .basicReject(.init(deliveryTag: DeliveryTag(2), requeue: true)),
        .basicRecoverAsync(.init(requeue: true)),
        .basicRecover(.init(requeue: true)),
        .basicRecoverOk(.init()),
        .basicNack(.init(deliveryTag: DeliveryTag(3), multiple: true, requeue: true)),
        .confirmSelect(.init(noWait: true)),
        .confirmSelectOk(.init()),
        .txSelect(.init()),
        .txSelectOk(.init()),
        .txCommit(.init()),
        .txCommitOk(.init()),
        .txRollback(.init()),
        .txRollbackOk(.init()),
    ]

    @Test("The samples are all methods of the table, once each")
    func complete() {
        let all = MethodTable.classes.flatMap { owner in
            owner.methods.map { MethodID(classID: owner.id, methodID: $0.id) }
        }
        #expect(Self.samples.map(\.id) == all)
    }

    @Test("A method survives a round trip", arguments: samples)
    func roundTrip(_ method: Method) throws {
        let payload = try octets { (buffer) throws(WireError) in try method.encode(into: &buffer) }
        #expect(try Method.decode(payload.span.bytes) == method)
    }

    @Test("A truncated method is an error, and so is a trailing octet", arguments: samples)
    func cut(_ method: Method) throws {
        let payload = try octets { (buffer) throws(WireError) in try method.encode(into: &buffer) }
        for count in 0..<payload.count {
            #expect(throws: WireError.self) { try Method.decode(payload.span.bytes.extracting(first: count)) }
        }
        let longer = payload + [0]
        #expect(throws: WireError(.trailingOctets(count: 1))) { try Method.decode(longer.span.bytes) }
    }

    @Test("Random octets as a method are decoded or refused, and never trap", arguments: samples)
    func noise(_ method: Method) throws {
        let payload = try octets { (buffer) throws(WireError) in try method.encode(into: &buffer) }
        var generator = SeededGenerator(state: UInt64(method.id.number))
        for _ in 0..<200 {
            var changed = payload
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let index = Int.random(in: 0..<changed.count, using: &generator)
                changed[index] = UInt8.random(in: 0...255, using: &generator)
            }
            _ = try? Method.decode(changed.span.bytes)
        }
    }

    struct Row: CustomTestStringConvertible {
        var method: Method
        var octets: [UInt8]
        var testDescription: String { method.id.description }
    }

    static let rows = [
        Row(
            method: .queueDeclare(.init(queue: "ab", durable: true, autoDelete: true)),
            octets: [
                0, 50, 0, 10,  // class, method
                0, 0,  // ticket
                2, 0x61, 0x62,  // queue
                0b01010,  // passive, durable, exclusive, auto-delete, no-wait from the lowest bit
                0, 0, 0, 0,  // arguments
            ]
        ),
        Row(
            method: .basicConsume(.init(queue: "q", consumerTag: "", noAck: true)),
            octets: [
                0, 60, 0, 20,  // class, method
                0, 0,  // ticket
                1, 0x71,  // queue
                0,  // consumer tag
                0b0010,  // no-local, no-ack, exclusive, no-wait
                0, 0, 0, 0,  // arguments
            ]
        ),
        Row(
            method: .connectionOpen(.init(virtualHost: "/")),
            octets: [
                0, 10, 0, 40,  // class, method
                1, 0x2F,  // virtual host
                0,  // capabilities
                0,  // insist
            ]
        ),
        Row(method: .channelOpenOk(.init()), octets: [0, 20, 0, 11, 0, 0, 0, 0]),
        Row(method: .exchangeUnbindOk(.init()), octets: [0, 40, 0, 51]),
        Row(method: .confirmSelect(.init()), octets: [0, 85, 0, 10, 0]),
        Row(
            method: .basicNack(.init(deliveryTag: DeliveryTag(258), multiple: false, requeue: true)),
            octets: [
                0, 60, 0, 120,  // class, method
                0, 0, 0, 0, 0, 0, 1, 2,  // delivery tag
                0b10,  // multiple, requeue
            ]
        ),
        Row(
            method: .connectionTuneOk(.init(channelMax: 2047, frameMax: 131_072, heartbeat: 60)),
            octets: [0, 10, 0, 31, 7, 0xFF, 0, 2, 0, 0, 0, 60]
        ),
    ]

    @Test("A method has these octets", arguments: rows)
    func golden(_ row: Row) throws {
        #expect(try octets { (buffer) throws(WireError) in try row.method.encode(into: &buffer) } == row.octets)
    }

    @Test("A method frame is the payload in its envelope, and its largest frame-max is exact")
    func frame() throws {
        let method = Method.basicQos(.init(prefetchCount: 5))
        let expected: [UInt8] = [
            1, 0, 3, 0, 0, 0, 11,  // type, channel, size
            0, 60, 0, 10, 0, 0, 0, 0, 0, 5, 0,  // payload
            0xCE,
        ]
        let written = try octets { (buffer) throws(WireError) in
            try method.encodeFrame(channel: ChannelNumber(3), into: &buffer, maximumFrameSize: 19)
        }
        #expect(written == expected)
        #expect(throws: WireError(.frameTooLarge(size: 11, limit: 10))) {
            try octets { (buffer) throws(WireError) in
                try method.encodeFrame(channel: ChannelNumber(3), into: &buffer, maximumFrameSize: 18)
            }
        }
    }

    @Test("A method that cannot be encoded leaves the buffer unchanged")
    func atomic() throws {
        let name = String(repeating: "x", count: 256)
        let methods: [Method] = [
            .queueDeclare(.init(queue: name)),
            .queueDeclare(.init(queue: "q", arguments: ["x": .double(.nan)])),
        ]
        var buffer = WireBuffer(capacity: 16)
        buffer.append(1 as UInt8)
        for method in methods {
            #expect(throws: WireError.self) {
                try method.encodeFrame(channel: ChannelNumber(1), into: &buffer)
            }
            let left = buffer.withUnsafeBytes { Array($0) }
            #expect(left == [1])
        }
    }

    @Test("Only publish, return, deliver and get-ok have content")
    func content() {
        let ids = Self.samples.filter(\.hasContent).map(\.id)
        #expect(ids == [Basic.Publish.id, Basic.Return.id, Basic.Deliver.id, Basic.GetOk.id])
    }

    @Test("A request names its replies")
    func replies() {
        #expect(Basic.Get.id.replies == [Basic.GetOk.id, Basic.GetEmpty.id])
        #expect(Exchange.Unbind.id.replies == [Exchange.UnbindOk.id])
        #expect(Basic.Ack.id.replies.isEmpty)
    }

    @Test("A method ID shows its name, or only its numbers")
    func description() {
        #expect(Basic.Publish.id.description == "basic.publish (60, 40)")
        #expect(MethodID(classID: 61, methodID: 1).description == "(61, 1)")
    }

    @Test(
        "A method that carries credentials does not show them",
        arguments: [
            .connectionStartOk(.init(clientProperties: [:], mechanism: "PLAIN", response: [123, 45])),
            .connectionSecureOk(.init(response: [123, 45])),
            .connectionUpdateSecret(.init(newSecret: [123, 45], reason: "")),
        ] as [Method]
    )
    func secrets(_ method: Method) {
        #expect(!"\(method)".contains("123"))
        #expect(!String(reflecting: method).contains("123"))
    }
}
