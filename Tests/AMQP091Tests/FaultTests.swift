// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// FaultTests: rows of docs/faults.md that no suite with a subject of its own shows: what a broker may send and what a user
// may ask for.

@Suite("Faults", .timeLimit(.minutes(1)))
struct FaultTests {
    private static func consuming(
        _ body: (ScriptedBroker, AMQPConnection, AMQPChannel, AMQPDeliveries) async throws -> Void
    ) async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let deliveries = try await PitfallTests.consume(broker, channel)
            try await body(broker, connection, channel, deliveries)
        }
    }

    // MARK: the broker

    @Test("C14: empty bodies and heartbeats by the thousand take no memory, and the content ends when its octets come")
    func floods() async throws {
        try await Self.consuming { broker, connection, channel, deliveries in
            let header = ViolationTests.frame(2, 1, PitfallTests.header(2))
            broker.sendRaw(ViolationTests.octets(PitfallTests.deliver(deliveries)) + header)
            let pair = ViolationTests.frame(3, 1, []) + ViolationTests.frame(8, 0, [])
            let empty = Array(repeatElement(pair, count: 1000).joined())
            for _ in 0..<50 { broker.sendRaw(empty) }
            broker.sendRaw(ViolationTests.frame(3, 1, [104, 105]))
            var iterator = deliveries.makeAsyncIterator()
            #expect(try await iterator.next(isolation: nil)?.body.string == "hi")
            #expect(connection.isOpen)
            try await DeadlineTests.goesOn(broker, channel)
        }
    }

    @Test("C26: properties of the broker that are huge or strange are read, and one that is missing is nothing")
    func serverProperties() async throws {
        var nested: FieldTable = ["capabilities": 5, "version": .void]
        for _ in 0..<30 { nested = ["in": .table(nested)] }
        let large: FieldTable = [
            "product": .bytes([UInt8](repeating: 0xFF, count: 50_000)), "version": 9, "capabilities": "none",
            "deep": .table(nested),
        ]
        for properties in [[:], large] {
            try await ScriptedBroker.withBroker { broker in
                async let connecting = broker.connect()
                var start = ScriptedBroker.start
                start.serverProperties = properties
                try await broker.handshake(start: start)
                let connection = try await connecting
                #expect(connection.serverProperties == properties)
                #expect(connection.isOpen)
                connection.abort()
            }
        }
    }

    @Test("C2: properties of the broker beyond the limit before tune are refused on the size of their frame, unread")
    func hugeStart() async throws {
        try await ScriptedBroker.withBroker { broker in
            let connecting = Task { try await broker.connect() }
            try await broker.expectProtocolHeader()
            broker.sendRaw([1, 0, 0, 0, 1, 0, 0])
            let error = await #expect(throws: AMQPError.self) { try await connecting.value }
            #expect(error?.code == .connectFailed)
            try await broker.expectEnd()
        }
    }

    @Test("C32: a login that comes octet by octet and never ends, ends at the deadline of the whole")
    func slowLoris() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.connectTimeout = .milliseconds(300)
        try await ScriptedBroker.withBroker { broker in
            let connecting = Task { [configuration] in try await broker.connect(configuration) }
            try await broker.expectProtocolHeader()
            let octets = try ScriptedBroker.octets(of: .connectionStart(ScriptedBroker.start), on: 0)
            // Each octet well within any deadline of a read.
            let trickle = Task {
                for octet in octets.dropLast() {
                    broker.sendRaw([octet])
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
            defer { trickle.cancel() }
            let error = await #expect(throws: AMQPError.self) { try await connecting.value }
            #expect(error?.code == .timedOut)
        }
    }

    @Test("C7: a channel number above channel-max is one that was never opened")
    func highChannel() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let queue = Task { try await channel.declareQueue("q") }
            try await broker.expect(Queue.Declare.self)
            try broker.send(.queueDeclareOk(.init(queue: "q", messageCount: 0, consumerCount: 0)), on: 65_535)
            #expect(try await broker.expect(Connection.Close.self, on: 0).replyCode == .channelError)
            await #expect(throws: AMQPError.self) { try await queue.value }
            #expect(!connection.isOpen)
        }
    }

    @Test("C8: methods on the wrong channel close the connection", arguments: [true, false])
    func wrongChannel(_ isOnConnection: Bool) async throws {
        try await ScriptedBroker.withChannel { broker, connection, _ in
            if isOnConnection {
                try broker.send(.basicQosOk(.init()), on: 0)
            } else {
                try broker.send(.connectionBlocked(.init(reason: "x")), on: 1)
            }
            #expect(try await broker.expect(Connection.Close.self, on: 0).replyCode == .commandInvalid)
            try await broker.expectEnd()
            #expect(!connection.isOpen)
        }
    }

    @Test("C11: a content header with a weight closes the connection")
    func weight() async throws {
        try await Self.consuming { broker, connection, _, deliveries in
            let header: [UInt8] = [0, 60, 0, 1] + PitfallTests.header(2).dropFirst(4)
            let octets = ViolationTests.octets(PitfallTests.deliver(deliveries)) + ViolationTests.frame(2, 1, header)
            broker.sendRaw(octets)
            let close = try await broker.expect(Connection.Close.self, on: 0)
            #expect(close.replyCode == .unexpectedFrame)
            #expect(!connection.isOpen)
        }
    }

    // MARK: the world

    @Test("F3: a connection an operator closes is told with the operator's words, and a client comes back")
    func operatorCloses() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            await broker.closeConnections("maintenance")
            let reason = try await connection.waitUntilClosed()
            #expect(reason.replyCode == .connectionForced)
            #expect(reason.replyText.contains("maintenance"))
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: AMQPClientTests.orders) { client in
                var events = client.events.makeAsyncIterator()
                try await client.withPublisher { publisher in
                    try await publisher.publish("1", to: .queue("orders"))
                    await broker.closeConnections("again")
                    // Publishes written before the close was read would be unknown.
                    #expect(await events.nextLoss(of: .publishing) != nil)
                    try await publisher.publish("2", to: .queue("orders"))
                }
            }
            #expect(await broker.depth(of: "orders") == 2)
        }
    }

    @Test("F7: a node that does not serve is passed over for the next address")
    func nextAddress() async throws {
        try await InProcessBroker.withBroker { gone in
            let port = try #require(gone.port)
            await gone.shutdown()
            try await InProcessBroker.withBroker { broker in
                var configuration = broker.configuration
                configuration.addresses.insert(.host("127.0.0.1", port: port), at: 0)
                let connection = try await AMQPConnection.connect(configuration)
                #expect(connection.isOpen)
                try await connection.close()
            }
        }
    }

    @Test("F11: a client whose user was removed keeps trying, and continues when the user is back")
    func userRemoved() async throws {
        try await InProcessBroker.withBroker { broker in
            let client = AMQPClient(AMQPClientTests.quick(broker))
            let running = Task { try await client.run() }
            var events = client.events.makeAsyncIterator()
            try await client.withChannel { try await $0.declareQueue("q") }
            await broker.setPassword(nil, of: "guest")
            await broker.dropConnections()
            var refusal: AMQPError?
            while refusal == nil, let event = await events.next(isolation: nil) {
                if case .connectFailed(let error) = event.kind { refusal = error }
            }
            #expect(refusal?.code == .authenticationFailed)
            await broker.setPassword("guest", of: "guest")
            try await client.withChannel { _ = try await $0.inspectQueue("q") }
            await client.shutdown()
            try await running.value
        }
    }

    @Test("F31: a hundred tasks use and close one connection: the broker is told once, and everybody gets an end")
    func closedByMany() async throws {
        try await ScriptedBroker.withChannel { broker, connection, channel in
            let tasks = Task {
                await withTaskGroup(of: Void.self) { group in
                    for number in 0..<100 {
                        group.addTask {
                            if number % 2 == 0 { _ = try? await channel.publish("x", to: .queue("q")) }
                            try? await connection.close()
                            let error = await #expect(throws: AMQPError.self) { try await connection.openChannel() }
                            #expect(error?.code == .connectionClosed)
                        }
                    }
                }
            }
            var closes = 0
            while closes == 0 {
                if case (.method(.connectionClose), _) = try await broker.next() { closes += 1 }
            }
            try broker.send(.connectionCloseOk(.init()))
            // Nothing stands behind it, no second close either.
            try await broker.expectEnd()
            await tasks.value
        }
    }

    // MARK: the user

    @Test("U2: a queue without a name gets the broker's, which the caller learns; the next one gets another")
    func unnamed() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            let names = [
                try await channel.declareQueue(exclusive: true).name,
                try await channel.declareQueue(exclusive: true).name,
            ]
            #expect(names[0] != names[1])
            for name in names {
                #expect(name.hasPrefix("amq.gen-"))
                #expect(await broker.queue(name) != nil)
            }
            try await connection.close()
        }
    }

    @Test("U3: a name with NUL in it is a name", arguments: ["\0", "a\0b", "\0\0"])
    func nul(_ name: String) async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            #expect(try await channel.declareQueue(name).name == name)
            try await channel.publish("x", to: .queue(name))
            #expect(try await channel.get(name)?.routingKey == name)
            try await connection.close()
        }
    }

    struct Bad: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let words: String
        let change: @Sendable (inout AMQPClientConfiguration) -> Void

        init(
            _ name: String,
            _ words: String,
            _ change: @escaping @Sendable (_ configuration: inout AMQPClientConfiguration) -> Void
        ) {
            self.testDescription = name
            self.words = words
            self.change = change
        }
    }

    static let bad = [
        Bad("U19: frames below RabbitMQ's least", "frameMax is below 8192") { $0.frameMax = 8191 },
        Bad("U19: no channels", "channelMax is 0") { $0.channelMax = 0 },
        Bad("U19: a heartbeat of half a second", "whole seconds") { $0.heartbeat = .milliseconds(500) },
        Bad("U19: a heartbeat of a day", "heartbeat is not 0 to 65535") { $0.heartbeat = .seconds(86_400) },
        Bad("U19: no time to connect", "connectTimeout") { $0.connectTimeout = .zero },
        Bad("U19: no time for an answer", "operationTimeout") { $0.operationTimeout = .seconds(-1) },
        Bad("U19: no address", "no broker address") { $0.addresses = [] },
        Bad("U19: port 0", "a port is 0") { $0.addresses = [.host("h", port: 0)] },
        Bad("U19: no room to write", "writeBufferSize") { $0.writeBufferSize = 0 },
        Bad("U19: no room for deliveries", "consumerBufferSize") { $0.consumerBufferSize = 0 },
        Bad("U19: a pause of more than a tenth of a second", "deliveryCoalescing") {
            $0.deliveryCoalescing = .milliseconds(101)
        },
        Bad("U19: bodies below nothing", "maximumBodySize") { $0.maximumBodySize = -1 },
        Bad("U19: bodies above what an offset can tell", "maximumBodySize") { $0.maximumBodySize = 1 << 30 + 1 },
        Bad("U19: frames above what a length can tell", "frameMax") { $0.frameMax = 0x8000_0000 },
        Bad("U1: a virtual host of 256 octets", "virtual host is longer") {
            $0.virtualHost = String(repeating: "v", count: 256)
        },
    ]

    @Test("A limit out of range is refused by name before anything is connected", arguments: bad)
    func limits(_ row: Bad) async throws {
        var configuration = AMQPClientConfiguration(addresses: [.host("nowhere.invalid")])
        row.change(&configuration)
        let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
        #expect(error?.code == .invalidConfiguration)
        #expect(error?.isSafeToRetry == true)
        #expect(error?.replyText.contains(row.words) == true, "\(error?.replyText ?? "")")
    }

    @Test("U18: a password of any characters is the same when it is written into a URI and read", arguments: 1...5)
    func passwords(_ seed: Int) throws {
        let characters = Array("@:/#%?&=+ äß漢🐇\"'\\[]\u{7F}\u{1}abcAB01")
        for length in 0..<60 {
            let password = String((0..<length).map { characters[($0 * 7 + length * seed) % characters.count] })
            let encoded = password.utf8.map { octet in
                "%" + (octet < 16 ? "0" : "") + String(octet, radix: 16, uppercase: length % 2 == 0)
            }
            let text = "amqp://user:\(encoded.joined())@host/"
            let uri = try AMQPURI(text)
            #expect(uri.password == password)
            if length > 3 {
                #expect(!"\(uri)".contains(password))
                #expect(!"\(try AMQPClientConfiguration(uri: text).authentication)".contains(password))
            }
        }
    }

    @Test("U21: a connection that nobody holds any more is closed, and so is its socket at the broker")
    func dropped() async throws {
        try await InProcessBroker.withBroker { broker in
            for _ in 0..<3 {
                let connection = try await broker.connect()
                _ = try await connection.openChannel()
            }
            try await broker.waitUntilAllHaveLeft()
        }
    }
}
