// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// ConnectionStateDialogueTests: heartbeats while the broker blocks publishers, answers behind unread deliveries, what a
// connection knows of its own options, and limits of channels.

@Suite("State of a connection, in dialogue", .timeLimit(.minutes(1)))
struct ConnectionStateDialogueTests {
    private static func heartbeats() -> AMQPClientConfiguration {
        var configuration = AMQPClientConfiguration()
        configuration.heartbeat = .seconds(3)
        return configuration
    }

    @Test("F21: while the broker blocks publishers heartbeats go both ways, and a publish waits longer than they allow")
    func blockedAlive() async throws {
        try await ScriptedBroker.withChannel(Self.heartbeats()) { broker, connection, channel in
            try broker.send(.connectionBlocked(.init(reason: "low on memory")))
            var states = connection.blockedStates.makeAsyncIterator()
            while let state = await states.next(isolation: nil), state == nil {}
            async let publishing: Void = channel.publish("m", to: .queue("q"))
            // One and a half seconds each: beyond the two intervals after which silence would end the connection.
            for _ in 0..<5 {
                try await broker.expectHeartbeat()
                broker.sendHeartbeat()
            }
            #expect(connection.isOpen)
            try broker.send(.connectionUnblocked(.init()))
            try await publishing
            #expect(try await broker.expectPublish().body == Array("m".utf8))
        }
    }

    @Test("A broker that blocks publishers and then says nothing any more is given up, and the publish was not sent")
    func blockedDead() async throws {
        try await ScriptedBroker.withChannel(Self.heartbeats()) { broker, connection, channel in
            try broker.send(.connectionBlocked(.init(reason: "low on disk")))
            var states = connection.blockedStates.makeAsyncIterator()
            while let state = await states.next(isolation: nil), state == nil {}
            // It does not read either, as RabbitMQ does not.
            broker.stopReading()
            let error = await #expect(throws: AMQPError.self) { try await channel.publish("m", to: .queue("q")) }
            #expect(error?.code == .connectionClosed)
            #expect(error?.replyText.contains("silent") == true)
            #expect(error?.isSafeToRetry == true)
            #expect(!connection.isOpen)
        }
    }

    @Test(
        "An answer behind unread deliveries is read up to 16 times the buffer; behind more the call times out and says why"
    )
    func answersBehindDeliveries() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.consumerBufferSize = 128 << 10
        try await ScriptedBroker.withChannel(configuration) { broker, _, channel in
            async let starting = channel.deliveries(from: "q", acknowledgement: .automatic)
            let tag = try await broker.expect(Basic.Consume.self).consumerTag
            try broker.send(.basicConsumeOk(.init(consumerTag: tag)), on: 1)
            let deliveries = try await starting
            let body = String(repeating: "x", count: 16 << 10)
            var number: UInt64 = 0
            func deliver(_ count: Int) throws {
                for _ in 0..<count {
                    number += 1
                    try broker.deliver(body, tag: number, consumer: tag)
                }
            }
            // 1.5 MiB, twelve times the buffer, and nobody reads.
            try deliver(96)
            async let answered = channel.purgeQueue("q")
            try await broker.expect(Queue.Purge.self)
            try broker.send(.queuePurgeOk(.init(messageCount: 7)), on: 1)
            #expect(try await answered == 7)
            // 8 MiB more: beyond what is read for a caller that waits.
            let late = Task { try await channel.purgeQueue("q", timeout: .milliseconds(300)) }
            try await broker.expect(Queue.Purge.self)
            try deliver(512)
            try broker.send(.queuePurgeOk(.init(messageCount: 8)), on: 1)
            let error = await #expect(throws: AMQPError.self) { try await late.value }
            #expect(error?.code == .timedOut)
            #expect(error?.scope == .operation)
            #expect(error?.replyText.contains("more deliveries unread than its buffer takes") == true)
            // Once the consumer reads, everything continues, and the late reply is dropped.
            async let next = channel.purgeQueue("q")
            var iterator = deliveries.makeAsyncIterator()
            for expected in 1...number {
                let delivery = try #require(try await iterator.next(isolation: nil))
                #expect(delivery.deliveryTag == DeliveryTag(expected))
            }
            try await broker.expect(Queue.Purge.self)
            try broker.send(.queuePurgeOk(.init(messageCount: 9)), on: 1)
            #expect(try await next == 9)
        }
    }

    @Test("A new secret that the broker took is in the options for a later connect; a refused one is not")
    func secret() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.authentication = .plain(username: "me", password: "old")
        try await ScriptedBroker.withChannel(configuration) { broker, connection, _ in
            #expect(connection.configuration == configuration)
            async let updating: Void = connection.updateSecret("new")
            try await broker.expect(Connection.UpdateSecret.self)
            try broker.send(.connectionUpdateSecretOk(.init()))
            try await updating
            configuration.authentication = .plain(username: "me", password: "new")
            #expect(connection.configuration == configuration)
            let refused = Task { try await connection.updateSecret("bad") }
            try await broker.expect(Connection.UpdateSecret.self)
            try broker.send(.connectionClose(.init(replyCode: .notAllowed, replyText: "NOT_ALLOWED - refused")))
            await #expect(throws: AMQPError.self) { try await refused.value }
            #expect(connection.configuration == configuration)
        }
        // And they log in with it.
        let later = configuration
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect(later)
            let login = try await broker.handshake()
            #expect(login.startOk.response == Array("\0me\0new".utf8))
            try await connecting.abort()
        }
    }

    @Test("A provider of credentials stays one in the options of its connection")
    func provider() async throws {
        var configuration = AMQPClientConfiguration()
        let provider = AMQPCredentialsProvider { ("me", "now") }
        configuration.authentication = .provided(by: provider)
        try await InProcessBroker.withBroker(Self.users) { broker in
            var configured = broker.configuration
            configured.authentication = configuration.authentication
            try await AMQPConnection.withConnection(configured) { connection in
                #expect(connection.configuration.authentication.description == "PLAIN, user from a provider")
                try await AMQPConnection.withConnection(connection.configuration) { #expect($0.isOpen) }
            }
        }
    }

    private static var users: InProcessBroker.Options {
        var options = InProcessBroker.Options()
        options.users = ["me": "now"]
        return options
    }

    private protocol Scopes { static var wholeChannel: AMQPPrefetchScope { get } }

    private enum DeprecatedScopes: Scopes {
        @available(*, deprecated)
        static var wholeChannel: AMQPPrefetchScope { .wholeChannel }
    }

    /// The deprecated scope, without the compiler's warning.
    private static var wholeChannel: AMQPPrefetchScope { (DeprecatedScopes.self as any Scopes.Type).wholeChannel }

    @Test("A prefetch counts for each consumer, or for the channel where that is asked for")
    func prefetchScope() async throws {
        try await ScriptedBroker.withChannel { broker, _, channel in
            for scope in [.eachConsumer, Self.wholeChannel] {
                async let setting: Void = channel.setPrefetch(count: 5, for: scope)
                let global = scope != .eachConsumer
                #expect(try await broker.expect(Basic.Qos.self, on: 1) == .init(prefetchCount: 5, global: global))
                try broker.send(.basicQosOk(.init()), on: 1)
                try await setting
            }
        }
    }

    @Test("A prefetch of the whole channel is refused before it is sent to RabbitMQ 4.3, which would count otherwise")
    func wholeChannelOn4_3() async throws {
        for (version, isRefused) in [("4.2.9", false), ("4.3.0", true), ("5.0.0", true)] {
            try await ScriptedBroker.withBroker { broker in
                async let connecting = broker.connect()
                try await broker.handshake(start: ScriptedBroker.rabbitMQ(version))
                let connection = try await connecting
                defer { connection.abort() }
                async let opening = connection.openChannel()
                try await broker.openChannel()
                let channel = try await opening
                let scope = Self.wholeChannel
                if isRefused {
                    let error = await #expect(throws: AMQPError.self) {
                        try await channel.setPrefetch(count: 2, for: scope)
                    }
                    #expect(error?.code == .notSupportedByBroker)
                    #expect(error?.isSafeToRetry == true)
                    #expect(error?.replyText.contains(".eachConsumer") == true)
                }
                async let setting: Void = channel.setPrefetch(count: 5, for: isRefused ? .eachConsumer : scope)
                #expect(try await broker.expect(Basic.Qos.self, on: 1).prefetchCount == 5)
                try broker.send(.basicQosOk(.init()), on: 1)
                try await setting
            }
        }
    }
}
