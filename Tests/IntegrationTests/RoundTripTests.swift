// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

@Suite("Round trip", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct RoundTripTests {
    /// Every type of field, each at both ends of its range.
    static let values: [FieldValue] = [
        .bool(true), .bool(false), .int8(.min), .int8(.max), .uint8(0), .uint8(.max), .int16(.min), .int16(.max),
        .uint16(.max), .int32(.min), .int32(.max), .uint32(.max), .int64(.min), .int64(.max), .float(-1.5),
        .float(.greatestFiniteMagnitude), .double(.leastNonzeroMagnitude), .double(-0.0),
        .decimal(FieldDecimal(scale: 2, digits: 12345)), .decimal(FieldDecimal(scale: 255, digits: .max)),
        .string(""), .string("grüße"), .longString([0xFF, 0xFE, 0, 0xC3]), .bytes([0, 1, 2, 255]), .bytes([]),
        .timestamp(0), .timestamp(.max), .void, .array([]), .array([.int8(1), .string("two"), .array([.void])]),
        .table([:]), .table(["a": .table(["b": .array([.table(["c": 1])])])]),
    ]

    /// Publishes and takes back over one queue.
    private static func comesBack(
        _ message: AMQPMessage,
        on channel: AMQPChannel,
        from queue: String
    ) async throws -> AMQPDelivery {
        try await channel.publishAndConfirm(message, to: .queue(queue), mandatory: true)
        let delivery = try #require(try await channel.get(queue))
        try delivery.ack()
        return delivery
    }

    @Test("A field of every type comes back equal", arguments: values)
    func field(_ value: FieldValue) async throws {
        try await TestBroker.withChannel { channel in
            try await channel.enableConfirms()
            let queue = try await channel.declareQueue(exclusive: true).name
            let headers: FieldTable = ["before": 1, "value": value, "after": "x"]
            let message = AMQPMessage("x", properties: BasicProperties(headers: headers))
            let delivery = try await Self.comesBack(message, on: channel, from: queue)
            #expect(try delivery.properties().headers == headers)
        }
    }

    @Test("All fields in one table come back in their order")
    func allFields() async throws {
        try await TestBroker.withChannel { channel in
            try await channel.enableConfirms()
            let queue = try await channel.declareQueue(exclusive: true).name
            let headers = FieldTable(Self.values.enumerated().map { ("field \($0)", $1) })
            let message = AMQPMessage("x", properties: BasicProperties(headers: headers))
            let delivery = try await Self.comesBack(message, on: channel, from: queue)
            #expect(try delivery.properties().headers == headers)
        }
    }

    static let full = BasicProperties(
        contentType: "application/json",
        contentEncoding: "gzip",
        headers: ["x": 1],
        deliveryMode: 2,
        priority: 9,
        correlationID: "correlation",
        replyTo: "reply",
        expiration: "60000",
        messageID: "message",
        timestamp: .max,
        type: "type",
        userID: "guest",
        appID: "app",
        clusterID: "cluster"
    )

    @Test("Every property comes back, all together and each alone")
    func properties() async throws {
        try await TestBroker.withChannel { channel in
            try await channel.enableConfirms()
            let queue = try await channel.declareQueue(exclusive: true).name
            let changes: [(inout BasicProperties) -> Void] = [
                { $0.contentType = Self.full.contentType }, { $0.contentEncoding = Self.full.contentEncoding },
                { $0.headers = Self.full.headers }, { $0.deliveryMode = 1 }, { $0.deliveryMode = 2 },
                { $0.priority = 0 }, { $0.priority = 255 }, { $0.correlationID = Self.full.correlationID },
                { $0.replyTo = Self.full.replyTo }, { $0.expiration = Self.full.expiration },
                { $0.messageID = Self.full.messageID }, { $0.timestamp = 0 }, { $0.timestamp = .max },
                { $0.type = Self.full.type }, { $0.userID = Self.full.userID }, { $0.appID = Self.full.appID },
                { $0.clusterID = Self.full.clusterID }, { $0.messageID = "" },
                { $0.messageID = String(repeating: "ü", count: 127) + "x" },
            ]
            var rows = [BasicProperties(), Self.full]
            for change in changes {
                var properties = BasicProperties()
                change(&properties)
                rows.append(properties)
            }
            for properties in rows {
                let delivery = try await Self.comesBack(
                    AMQPMessage("x", properties: properties),
                    on: channel,
                    from: queue
                )
                #expect(try delivery.properties() == properties)
            }
        }
    }

    /// RabbitMQ's frame-max is 131072 octets, 8 of them around the payload.
    static let sizes = [0, 1, 131_072 - 9, 131_072 - 8, 131_072 - 7, 2 * (131_072 - 8), 16 << 20]

    @Test("A body of any size comes back equal to the octet, got and consumed", arguments: sizes)
    func body(_ size: Int) async throws {
        try await TestBroker.withChannel { channel in
            try await channel.enableConfirms()
            let queue = try await channel.declareQueue(exclusive: true).name
            var generator = SystemRandomNumberGenerator()
            var octets = [UInt8](repeating: 0, count: size)
            for index in stride(from: 0, to: size, by: 997) {
                octets[index] = UInt8.random(in: 1...255, using: &generator)
            }
            let message = AMQPMessage(AMQPBody(octets), properties: Self.full)
            let delivery = try await Self.comesBack(message, on: channel, from: queue)
            #expect(delivery.body.copy().array == octets)
            try await channel.publishAndConfirm(message, to: .queue(queue))
            try await channel.consume(queue) { deliveries in
                for try await delivery in deliveries {
                    #expect(delivery.body.copy().array == octets)
                    #expect(try delivery.properties() == Self.full)
                    try delivery.ack()
                    break
                }
            }
        }
    }

    @Test("Copies reach the queues of their keys; blind ones are not seen by consumers")
    func copies() async throws {
        try await TestBroker.withChannel { channel in
            try await channel.enableConfirms()
            var names: [String] = []
            for _ in 0..<3 { names.append(try await channel.declareQueue(exclusive: true).name) }
            var message: AMQPMessage = "copied"
            message.properties.carbonCopies = [names[1]]
            message.properties.blindCarbonCopies = [names[2]]
            try await channel.publishAndConfirm(message, to: .queue(names[0]), mandatory: true)
            for name in names {
                let delivery = try #require(try await channel.get(name))
                #expect(delivery.body.string == "copied")
                #expect(try delivery.properties().carbonCopies == [names[1]])
                #expect(try delivery.properties().blindCarbonCopies == [])
                try delivery.ack()
            }
        }
    }

    @Test("A message that expires is dead-lettered, and says where it has been")
    func dies() async throws {
        try await TestBroker.withChannel { channel in
            try await channel.enableConfirms()
            let dead = try await channel.declareQueue(exclusive: true).name
            let queue = try await channel.declareQueue(
                as: .classic(durable: false, exclusive: true, deadLetter: .queue(dead))
            ).name
            var message: AMQPMessage = "mortal"
            message.properties.timeToLive = .milliseconds(1)
            try await channel.publishAndConfirm(message, to: .queue(queue))
            #expect(try await TestBroker.settles(dead, on: channel, at: 1))
            let delivery = try #require(try await channel.get(dead))
            let death = try #require(try delivery.properties().deaths.first)
            #expect(death.reason == "expired")
            #expect(death.queue == queue)
            #expect(death.count == 1)
            #expect(death.routingKeys == [queue])
            try delivery.ack()
        }
    }
}
