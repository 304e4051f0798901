// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

@Suite("Bad use", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct BadUseTests {
    struct Row: CustomTestStringConvertible, Sendable {
        let name: String
        let words: String
        let call: @Sendable (AMQPChannel, String) async throws -> Void
        var testDescription: String { self.name }

        init(
            _ name: String,
            _ words: String,
            _ call: @escaping @Sendable (_ channel: AMQPChannel, _ long: String) async throws -> Void
        ) {
            self.name = name
            self.words = words
            self.call = call
        }
    }

    static func nested(_ depth: Int) -> FieldTable {
        var table: FieldTable = [:]
        for _ in 1..<depth { table = ["x": .table(table)] }
        return table
    }

    static let publishes = [
        Row("U1: publish, exchange", "exchange has 256 octets; the limit is 255") { channel, long in
            try await channel.publish("x", to: .exchange(long))
        },
        Row("U1: publish, routing key", "routingKey has 256 octets; the limit is 255") { channel, long in
            try await channel.publish("x", to: .queue(long))
        },
        Row("publish and confirm, routing key", "routingKey has 256 octets; the limit is 255") { channel, long in
            try await channel.publishAndConfirm("x", to: .queue(long))
        },
        Row("publish, application id", "appID has 256 octets; the limit is 255") { channel, long in
            try await channel.publish(AMQPMessage("x", properties: .init(appID: long)), to: .queue("q"))
        },
        Row("U1: publish, header name", "headers: a short string of 256 octets; 255 is the limit") { channel, long in
            try await channel.publish(AMQPMessage("x", properties: .init(headers: [long: 1])), to: .queue("q"))
        },
        Row("U10: publish, NaN in a header", "a field value of nan") { channel, _ in
            let headers: FieldTable = ["x": .double(.nan)]
            try await channel.publish(AMQPMessage("x", properties: .init(headers: headers)), to: .queue("q"))
        },
        Row("U10: publish, headers nested too deep", "headers: tables nested deeper than 32") { channel, _ in
            let headers = BadUseTests.nested(33)
            try await channel.publish(AMQPMessage("x", properties: .init(headers: headers)), to: .queue("q"))
        },
        Row("U10: publish, headers above a frame", "cannot be split; the negotiated frame-max allows") { channel, _ in
            let headers: FieldTable = ["x": .bytes(Array(repeating: 0, count: 200_000))]
            try await channel.publish(AMQPMessage("x", properties: .init(headers: headers)), to: .queue("q"))
        },
        Row("U13: publish, expiration that is no number", "expiration is not a number of milliseconds") { channel, _ in
            try await channel.publish(AMQPMessage("x", properties: .init(expiration: "abc")), to: .queue("q"))
        },
        Row("publish, expiration beyond the limit", "0 to 4294967295") { channel, _ in
            try await channel.publish(AMQPMessage("x", properties: .init(expiration: "4294967296")), to: .queue("q"))
        },
    ]

    static let others = [
        Row("U1: declare queue", "queue has 256 octets; the limit is 255") { try await $0.declareQueue($1) },
        Row("inspect queue", "queue has 256 octets; the limit is 255") { _ = try await $0.inspectQueue($1) },
        Row("delete queue", "queue has 256 octets; the limit is 255") { try await $0.deleteQueue($1) },
        Row("purge queue", "queue has 256 octets; the limit is 255") { try await $0.purgeQueue($1) },
        Row("bind queue, exchange", "exchange has 256 octets; the limit is 255") {
            try await $0.bindQueue("q", to: $1)
        },
        Row("unbind queue, routing key", "routingKey has 256 octets; the limit is 255") {
            try await $0.unbindQueue("q", from: "e", routingKey: $1)
        },
        Row("declare exchange", "exchange has 256 octets; the limit is 255") { try await $0.declareExchange($1) },
        Row("declare exchange, type", "type has 256 octets; the limit is 255") {
            try await $0.declareExchange("e", type: AMQPExchangeType(stringLiteral: $1))
        },
        Row("delete exchange", "exchange has 256 octets; the limit is 255") { try await $0.deleteExchange($1) },
        Row("bind exchange, source", "source has 256 octets; the limit is 255") {
            try await $0.bindExchange("e", to: $1)
        },
        Row("unbind exchange, destination", "destination has 256 octets; the limit is 255") {
            try await $0.unbindExchange($1, from: "e")
        },
        Row("consume", "queue has 256 octets; the limit is 255") { _ = try await $0.deliveries(from: $1) },
        Row("consume, tag", "consumerTag has 256 octets; the limit is 255") {
            _ = try await $0.deliveries(from: "q", consumerTag: $1)
        },
        Row("get", "queue has 256 octets; the limit is 255") { _ = try await $0.get($1) },
        Row("declare queue, argument's name", "a short string of 256 octets; 255 is the limit") {
            try await $0.declareQueue("q", arguments: [$1: 1])
        },
        Row("declare queue, arguments larger than a frame", "octets; the negotiated frame-max allows") { channel, _ in
            try await channel.declareQueue("q", arguments: ["x": .bytes(Array(repeating: 0, count: 200_000))])
        },
        Row("U10: declare queue, arguments nested too deep", "tables nested deeper than 32") { channel, _ in
            try await channel.declareQueue("q", arguments: BadUseTests.nested(33))
        },
        Row("confirm window of 0", "the confirm window is 1 to 4194304 messages") { channel, _ in
            try await channel.enableConfirms(window: 0)
        },
        Row("no handlers", "maxConcurrency is 0; it is at least 1") { channel, _ in
            let queue = try await channel.declareQueue(exclusive: true)
            try await channel.consume(queue.name) { try await $0.process(maxConcurrency: 0) { _ in } }
        },
    ]

    @Test(
        "An argument beyond its limit is refused by name before anything is sent, and the channel goes on",
        arguments: Self.publishes + Self.others
    )
    func refused(_ row: Row) async throws {
        try await TestBroker.withChannel { channel in
            try await channel.enableConfirms()
            // 128 characters of two octets: octets are counted, not characters.
            let long = String(repeating: "é", count: 128)
            let error = await #expect(throws: AMQPError.self) { try await row.call(channel, long) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.isSafeToRetry == true)
            #expect(error?.scope == .operation)
            #expect(error?.replyText.contains(row.words) == true, "\(error?.replyText ?? "")")
            // Nothing was numbered or left in the buffer.
            #expect(channel.confirmCounts.published == 0)
            let queue = try await channel.declareQueue(exclusive: true)
            try await channel.publishAndConfirm("fine", to: .queue(queue.name))
            #expect(try await channel.get(queue.name)?.body.string == "fine")
        }
    }

    @Test("The largest value passes where one more is refused")
    func largest() async throws {
        try await TestBroker.withChannel { channel in
            let name = String(repeating: "q", count: 255)
            let queue = try await channel.declareQueue(name, exclusive: true)
            try await channel.enableConfirms()
            let properties = BasicProperties(
                headers: Self.nested(32),
                expiration: "4294967295",
                appID: String(repeating: "x", count: 255)
            )
            try await channel.publishAndConfirm(AMQPMessage("x", properties: properties), to: .queue(queue.name))
            let got = try #require(try await channel.get(queue.name))
            #expect(try got.properties().headers == Self.nested(32))
        }
    }

    @Test("U4: a channel or connection that is closed refuses every call at once, with its cause, and nothing hangs")
    func closed() async throws {
        let connection = try await AMQPConnection.connect(AMQPClientConfiguration(uri: #require(TestBroker.uri)))
        let channel = try await connection.openChannel()
        _ = await #expect(throws: AMQPError.self) { try await channel.inspectQueue("no such queue") }
        let calls: [@Sendable () async throws -> Void] = [
            { try await channel.publish("x", to: .queue("q")) }, { try await channel.declareQueue("q") },
            { _ = try await channel.get("q") }, { try await channel.setPrefetch(count: 1) },
            { try await channel.recover() }, { try await channel.withTransaction { _ in } },
            { try await channel.enableConfirms() }, { _ = try await channel.deliveries(from: "q") },
        ]
        for call in calls {
            let error = await #expect(throws: AMQPError.self) { try await call() }
            #expect(error?.code == .channelClosed)
            #expect(error?.replyCode == .notFound)
            #expect(error?.isSafeToRetry == true)
        }
        try await channel.close()
        try await connection.close()
        for call in calls {
            let error = await #expect(throws: AMQPError.self) { try await call() }
            #expect(error?.isSafeToRetry == true)
        }
        let opening = await #expect(throws: AMQPError.self) { try await connection.openChannel() }
        #expect(opening?.code == .connectionClosed)
        #expect(opening?.isSafeToRetry == true)
        try await connection.close()
    }

    @Test("U5, U6: settling twice, or after the channel is gone, sends nothing")
    func settledTwice() async throws {
        try await TestBroker.withConnection { connection in
            let channel = try await connection.openChannel()
            let queue = try await channel.declareQueue(exclusive: true)
            for _ in 0..<2 { try await channel.publish("x", to: .queue(queue.name)) }
            let first = try #require(try await channel.get(queue.name))
            let second = try #require(try await channel.get(queue.name))
            try first.ack()
            for settle in [{ try first.ack() }, { try first.nack() }, { try first.reject() }] {
                let error = #expect(throws: AMQPError.self) { try settle() }
                #expect(error?.code == .alreadySettled)
            }
            _ = try await channel.inspectQueue(queue.name)
            try await channel.close()
            let error = #expect(throws: AMQPError.self) { try second.ack() }
            #expect(error?.code == .channelClosed)
            #expect(connection.isOpen)
        }
    }

    @Test("U13: a user id that is not the login's closes the channel with 406, and the connection stays open")
    func foreignUser() async throws {
        try await TestBroker.withConnection { connection in
            let publisher = try await connection.openPublisher()
            let error = await #expect(throws: AMQPError.self) {
                let properties = BasicProperties(userID: "somebody else")
                try await publisher.publish(AMQPMessage("x", properties: properties), to: .queue("q"))
            }
            #expect(error?.code == .refused)
            #expect(error?.replyCode == .preconditionFailed)
            #expect(error?.scope == .channel)
            #expect(connection.isOpen)
        }
    }
}
