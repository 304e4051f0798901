// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation
import Testing

// The client against the RabbitMQ whose URI AMQP091_TEST_URI holds; scripts/test starts one.

enum TestBroker {
    static let uri = ProcessInfo.processInfo.environment["AMQP091_TEST_URI"]
    static let isMissing = Comment(
        rawValue: "AMQP091_TEST_URI is not set; scripts/test --integration starts a RabbitMQ"
    )

    /// The script that controls the broker; nil for a broker that is not ours.
    static let script = ProcessInfo.processInfo.environment["AMQP091_TEST_BROKER"]

    /// Whether no other test uses the broker, so that options of the whole broker may be changed.
    static let isAlone = ProcessInfo.processInfo.environment["AMQP091_TEST_ALONE"] != nil

    /// The program of Examples/daemon; nil where it was not built.
    static let daemon = ProcessInfo.processInfo.environment["AMQP091_TEST_DAEMON"]

    /// Runs `rabbitmqctl` on the broker.
    static func control(_ arguments: String...) async throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(Self.script))
        process.arguments = ["ctl"] + arguments
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        let status = try await withCheckedThrowingContinuation { (done: CheckedContinuation<Int32, any Error>) in
            process.terminationHandler = { done.resume(returning: $0.terminationStatus) }
            do { try process.run() } catch { done.resume(throwing: error) }
        }
        try #require(status == 0, "rabbitmqctl \(arguments) ended with \(status)")
    }

    static func withConnection<Result>(_ body: (AMQPConnection) async throws -> Result) async throws -> Result {
        try await AMQPConnection.withConnection(try #require(Self.uri), body)
    }

    /// Whether the queue comes to hold so many ready messages; the broker puts refused ones back in its own time.
    static func settles(_ queue: String, on channel: AMQPChannel, at count: Int) async throws -> Bool {
        let deadline = ContinuousClock.now + .seconds(20)
        while try await channel.inspectQueue(queue).messageCount != count {
            if ContinuousClock.now > deadline { return false }
            await Task.yield()
        }
        return true
    }

    static func withChannel<Result>(_ body: (AMQPChannel) async throws -> Result) async throws -> Result {
        let uri = try #require(Self.uri)
        return try await AMQPConnection.withConnection(uri) { connection in
            try await connection.withChannel(body)
        }
    }
}

@Suite("Publish and consume", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct PublishAndConsumeTests {
    @Test("A message published is the message consumed")
    func roundTrip() async throws {
        try await TestBroker.withChannel { channel in
            let queue = try await channel.declareQueue(exclusive: true)
            try await channel.publish("Hello, World!", to: .queue(queue.name))
            try await channel.consume(queue.name) { deliveries in
                for try await delivery in deliveries {
                    #expect(delivery.body.string == "Hello, World!")
                    #expect(delivery.routingKey == queue.name)
                    #expect(!delivery.redelivered)
                    try delivery.ack()
                    break
                }
            }
            let left = try await channel.get(queue.name)
            #expect(left == nil)
        }
    }

    @Test("Messages published with confirms arrive once each and in order")
    func manyConfirmed() async throws {
        try await TestBroker.withChannel { channel in
            let count = 20_000
            let queue = try await channel.declareQueue(exclusive: true)
            try await channel.enableConfirms(window: 1000)
            try await channel.setPrefetch(count: 500)
            for number in 0..<count {
                try await channel.publish(AMQPMessage("\(number)"), to: .queue(queue.name))
            }
            try await channel.waitForConfirms()
            try await channel.consume(queue.name) { deliveries in
                var next = 0
                for try await delivery in deliveries {
                    #expect(delivery.body.string == "\(next)")
                    try delivery.ack()
                    next += 1
                    if next == count { break }
                }
                #expect(next == count)
            }
        }
    }

    static let sizes = [0, 1, 131_063, 131_064, 131_065, 300_000, 1 << 20]

    @Test("A body of any size comes back as it was", arguments: sizes)
    func anySize(_ size: Int) async throws {
        try await TestBroker.withChannel { channel in
            let queue = try await channel.declareQueue(exclusive: true)
            try await channel.enableConfirms()
            let body = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            for _ in 0..<3 { try await channel.publishAndConfirm(AMQPMessage(AMQPBody(body)), to: .queue(queue.name)) }
            let got = try #require(try await channel.get(queue.name))
            #expect(got.body.copy().array == body)
            try got.ack()
            try await channel.consume(queue.name) { deliveries in
                var seen = 0
                for try await delivery in deliveries {
                    #expect(delivery.body.copy().array == body)
                    try delivery.ack()
                    seen += 1
                    if seen == 2 { break }
                }
            }
        }
    }

    @Test("U16: an unroutable mandatory publish is reported as returned")
    func returned() async throws {
        try await TestBroker.withChannel { channel in
            try await channel.enableConfirms()
            let error = await #expect(throws: AMQPError.self) {
                try await channel.publishAndConfirm("x", to: .queue("no such queue"), mandatory: true)
            }
            #expect(error?.code == .returned)
            #expect(error?.replyCode == .noRoute)
        }
    }

    @Test("A message of a consumer that goes away comes again, marked redelivered")
    func redelivered() async throws {
        try await TestBroker.withChannel { channel in
            let queue = try await channel.declareQueue(exclusive: true)
            try await channel.publish("once more", to: .queue(queue.name))
            let first = try #require(try await Self.first(of: queue.name, on: channel))
            try first.nack(requeue: true)
            let second = try #require(try await Self.first(of: queue.name, on: channel))
            #expect(second.redelivered)
            try second.ack()
            let error = #expect(throws: AMQPError.self) { try second.ack() }
            #expect(error?.code == .alreadySettled)
        }
    }

    private static func first(of queue: String, on channel: AMQPChannel) async throws -> AMQPDelivery? {
        try await channel.consume(queue) { deliveries in
            for try await delivery in deliveries { return delivery }
            return nil
        }
    }
}

@Suite("Errors of a real broker", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct BrokerErrorTests {
    @Test("U14: declaring a queue again with other arguments throws 406 and leaves the connection usable")
    func redeclared() async throws {
        let uri = try #require(TestBroker.uri)
        try await AMQPConnection.withConnection(uri) { connection in
            let name = "redeclared-\(UInt64.random(in: 0 ..< .max))"
            let first = try await connection.openChannel()
            try await first.declareQueue(name, exclusive: true)
            let error = await #expect(throws: AMQPError.self) {
                try await first.declareQueue(name, exclusive: true, arguments: ["x-max-length": 1])
            }
            #expect(error?.code == .channelClosed)
            #expect(error?.replyCode == .preconditionFailed)
            #expect(error?.scope == .channel)
            #expect(error?.replyText.contains("x-max-length") == true)
            #expect(!first.isOpen)
            try await connection.withChannel { second in
                let queue = try await second.inspectQueue(name)
                #expect(queue.name == name)
            }
        }
    }

    @Test("F11: a wrong password is refused with a typed error")
    func wrongPassword() async throws {
        var configuration = try AMQPClientConfiguration(uri: #require(TestBroker.uri))
        configuration.authentication = .plain(username: "guest", password: "not the password")
        let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
        #expect(error?.code == .authenticationFailed)
        #expect(error?.description.contains("not the password") == false)
    }

    @Test("An unknown virtual host is refused with a typed error")
    func unknownVirtualHost() async throws {
        var configuration = try AMQPClientConfiguration(uri: #require(TestBroker.uri))
        configuration.virtualHost = "nowhere"
        let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
        #expect(error?.code == .virtualHostRefused)
        #expect(error?.replyCode == .notAllowed)
    }
}
