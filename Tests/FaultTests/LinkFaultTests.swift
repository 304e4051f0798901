// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import EpollConcurrency
import EpollNetworking
import Testing

// LinkFaultTests: what a link can do to a client, through a proxy that does it. Each name begins with the number of its
// row in the list of faults. Faults of certificates, names and descriptors are in EpollNetworkingTests and
// IntegrationTests, under their numbers.

@Suite("Faults of the link", .serialized, .timeLimit(.minutes(3)))
struct LinkFaultTests {
    /// Permitted errors of a lost link, by the step of the session in which it was lost.
    static let kinds: [AMQPError.Code] = [
        .connectionClosed, .connectFailed, .authenticationFailed, .virtualHostRefused, .unknownOutcome,
    ]

    /// A broker, a proxy before it, and what a client needs to go through the proxy.
    private static func withProxy(
        heartbeat: Duration = .seconds(30),
        _ body: (InProcessBroker, FaultProxy, AMQPClientConfiguration) async throws -> Void
    ) async throws {
        try await InProcessBroker.withBroker { broker in
            try await FaultProxy.withProxy(to: try #require(broker.port)) { proxy in
                var configuration = broker.configuration
                configuration.addresses = [.host("127.0.0.1", port: proxy.port)]
                configuration.heartbeat = heartbeat
                try await body(broker, proxy, configuration)
            }
        }
    }

    /// Connects, declares, publishes with a confirm, and consumes what was published; the body that came back.
    private static func session(_ configuration: AMQPClientConfiguration, queue: String) async throws -> String? {
        let connection = try await AMQPConnection.connect(configuration)
        defer { connection.abort() }
        let channel = try await connection.openChannel()
        try await channel.enableConfirms()
        try await channel.declareQueue(queue, exclusive: true)
        try await channel.publishAndConfirm("a body of some octets", to: .queue(queue))
        return try await channel.consume(queue) { deliveries in
            var iterator = deliveries.makeAsyncIterator()
            let delivery = try await iterator.next(isolation: nil)
            try delivery?.ack()
            return delivery?.body.string
        }
    }

    @Test("F9: an alarm longer than the kernel's limit for a closed window ends no connection")
    func longAlarm() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = broker.configuration
            configuration.heartbeat = .seconds(1)
            let connection = try await AMQPConnection.connect(configuration)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            try await channel.enableConfirms()
            // More than all buffers on the way hold is under way when the broker resumes, reads the first and no more.
            await broker.pause()
            try await channel.publish("first", to: .queue("q"))
            let large = AMQPMessage(AMQPBody([UInt8](repeating: 7, count: 15 << 20)))
            let second = Task { try await channel.publish(large, to: .queue("q"), timeout: .seconds(60)) }
            await broker.setAlarm("low on memory")
            await broker.resume()
            while connection.blockedReason == nil, connection.isOpen { await Task.yield() }
            // The fault: several times the interval in which silence would end the connection.
            try await Task.sleep(for: .seconds(6))
            #expect(connection.isOpen)
            await broker.setAlarm(nil)
            try await second.value
            try await channel.waitForConfirms(timeout: .seconds(60))
            #expect(await broker.depth(of: "q") == 2)
            try await connection.close()
        }
    }

    @Test(
        "F14: a link that ends at any octet, by a reset or in order, is an error of a kind",
        arguments: [true, false]
    )
    func cut(resets: Bool) async throws {
        try await Self.withProxy { _, proxy, configuration in
            #expect(try await Self.session(configuration, queue: "whole") == "a body of some octets")
            let total = proxy.octetsToClient
            try #require(total > 300)
            for count in 0..<total {
                proxy.set(.cut(after: count, resets: resets))
                do {
                    _ = try await Self.session(configuration, queue: "cut \(count) \(resets)")
                    // Behind the delivery there is only the answer to the cancel of the consumer.
                    #expect(count > total - 40, "cut after \(count) of \(total) octets")
                } catch let error as AMQPError {
                    #expect(
                        Self.kinds.contains(error.code),
                        "cut after \(count): \(error)"
                    )
                }
            }
        }
    }

    @Test("F15: a reset of one connection does not affect others")
    func resetOne() async throws {
        try await Self.withProxy { _, proxy, configuration in
            let first = try await AMQPConnection.connect(configuration)
            defer { first.abort() }
            let second = try await AMQPConnection.connect(configuration)
            let channel = try await second.openChannel()
            proxy.resetNewest()
            await #expect(throws: AMQPError.self) {
                while true { try await channel.declareQueue("q") }
            }
            #expect(!second.isOpen)
            #expect(first.isOpen)
            let other = try await first.openChannel()
            try await other.declareQueue("q")
        }
    }

    @Test("F16: a broker that half-closes and keeps reading ends the connection")
    func halfClose() async throws {
        try await Self.withProxy { _, proxy, configuration in
            let connection = try await AMQPConnection.connect(configuration)
            defer { connection.abort() }
            let channel = try await connection.openChannel()
            proxy.set(.halfClose)
            let error = await #expect(throws: AMQPError.self) {
                while true { try await channel.declareQueue("q") }
            }
            #expect(error?.code == .connectionClosed)
            #expect(!connection.isOpen)
        }
    }

    @Test("F17: a peer that disappeared is detected by its silence, also with a full send buffer")
    func blackHole() async throws {
        try await Self.withProxy(heartbeat: .seconds(1)) { _, proxy, configuration in
            let connection = try await AMQPConnection.connect(configuration)
            defer { connection.abort() }
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            proxy.set(.stall)
            let body = AMQPMessage(AMQPBody([UInt8](repeating: 7, count: 100_000)))
            let error = await #expect(throws: AMQPError.self) {
                // Much more than all buffers on the way hold: the last waits for room that never comes.
                for _ in 0..<200 { try await channel.publish(body, to: .queue("q"), timeout: .seconds(60)) }
            }
            // By the heartbeat, or by the kernel's own limit for octets that nobody acknowledges.
            #expect(error?.code == .connectionClosed)
            let text = error?.description ?? ""
            #expect(text.contains("silent") || text.contains("Connection timed out"), "\(text)")
        }
    }

    @Test("F18: over a slow link everything arrives, in order")
    func slow() async throws {
        try await Self.withProxy(heartbeat: .seconds(10)) { broker, proxy, configuration in
            let connection = try await AMQPConnection.connect(configuration)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            try await channel.enableConfirms()
            // Two thousand pieces each way, each a millisecond after the last.
            proxy.set(.throttle(200))
            let body = AMQPMessage(AMQPBody([UInt8](repeating: 7, count: 20_000)))
            for _ in 0..<20 { try await channel.publish(body, to: .queue("q"), timeout: .seconds(60)) }
            try await channel.waitForConfirms(timeout: .seconds(60))
            var count = 0
            try await channel.consume("q") { deliveries in
                for try await delivery in deliveries {
                    #expect(delivery.body.count == 20_000)
                    try delivery.ack()
                    count += 1
                    if count == 20 { break }
                }
            }
            #expect(connection.isOpen)
            try await connection.close(timeout: .seconds(60))
            try await broker.waitUntil(queue: "q") { $0?.ready == 0 && $0?.unacknowledged == 0 }
        }
    }

    @Test("F19: a session in writes of one octet, in both directions, is the same session")
    func sliced() async throws {
        try await Self.withProxy { _, proxy, configuration in
            proxy.set(.slice)
            for number in 0..<3 {
                let body = try await Self.session(configuration, queue: "sliced \(number)")
                #expect(body == "a body of some octets")
            }
        }
    }

    @Test("F20: a changed octet is a typed error or goes unnoticed; nothing traps or hangs")
    func corrupted() async throws {
        try await Self.withProxy { broker, proxy, configuration in
            var configuration = configuration
            configuration.operationTimeout = .milliseconds(100)
            configuration.connectTimeout = .milliseconds(300)
            #expect(try await Self.session(configuration, queue: "whole") == "a body of some octets")
            let total = proxy.octetsToClient
            for at in stride(from: 0, to: total, by: 5) {
                proxy.set(.corrupt(at: at, mask: at % 2 == 0 ? 0x80 : 0x01))
                do {
                    let task = Task { [configuration] in
                        try await Self.session(configuration, queue: "changed \(at)")
                    }
                    // A delivery whose consumer is not known any more never comes: that wait is the application's.
                    let giveUp = Task {
                        try await Task.sleep(for: .milliseconds(1500))
                        task.cancel()
                    }
                    defer { giveUp.cancel() }
                    _ = try await task.value
                } catch is AMQPError {
                    // Which one depends on what the octet was.
                }
            }
            proxy.set(.none)
            #expect(try await Self.session(configuration, queue: "after") == "a body of some octets")
        }
    }

    @Test("F21: heartbeats keep an idle connection alive, and without them it ends")
    func heartbeats() async throws {
        try await Self.withProxy(heartbeat: .seconds(1)) { _, proxy, configuration in
            let connection = try await AMQPConnection.connect(configuration)
            defer { connection.abort() }
            let channel = try await connection.openChannel()
            proxy.set(.none)
            // At least two of them, and nothing else, came meanwhile: eight octets each.
            let deadline = ContinuousClock.now + .seconds(30)
            while proxy.octetsToClient < 16, ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(20))
            }
            #expect(proxy.octetsToClient % 8 == 0)
            try await channel.declareQueue("q")
            proxy.set(.swallow)
            let error = await #expect(throws: AMQPError.self) { try await channel.declareQueue("q") }
            #expect(error?.description.contains("silent") == true, "\(error?.description ?? "")")
        }
    }

    static let banners = [
        ("SSH", "SSH-2.0-OpenSSH_9.6\r\n"), ("HTTP", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
        ("SMTP", "220 mail.example ESMTP\r\n"), ("TLS", "\u{15}\u{3}\u{3}\u{0}\u{2}\u{2}\u{28}"),
    ]

    @Test(
        "F28: a peer that speaks something else is told apart from a broker, without memory for its words",
        arguments: banners
    )
    func banner(name: String, text: String) async throws {
        try await StreamListener.withListener(on: .loopback(port: 0)) { listener in
            async let served: Void = listener.serve { connection in
                _ = try await connection.read()
                try await connection.write(text)
                _ = try await connection.read()
            }
            var configuration = AMQPClientConfiguration()
            configuration.addresses = [
                .host("127.0.0.1", port: try #require(listener.localAddress.port))
            ]
            configuration.connectTimeout = .seconds(5)
            let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
            #expect(error?.code != .timedOut, "\(error?.description ?? "")")
            #expect(error?.scope == .connection)
            listener.shutdown(within: .zero)
            try await served
        }
    }

    @Test("F29: a broker that does not read blocks the publisher; waits for confirms end at their deadline")
    func zeroWindow() async throws {
        try await Self.withProxy { broker, proxy, configuration in
            let connection = try await AMQPConnection.connect(configuration)
            defer { connection.abort() }
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q", exclusive: true)
            proxy.set(.stall)
            let body = AMQPMessage(AMQPBody([UInt8](repeating: 7, count: 100_000)))
            var published = 0
            let late = await #expect(throws: AMQPError.self) {
                while published < 1000 {
                    try await channel.publish(body, to: .queue("q"), timeout: .milliseconds(300))
                    published += 1
                }
            }
            #expect(late?.code == .timedOut)
            #expect(late?.isSafeToRetry == true)
            #expect(connection.isOpen)
            proxy.set(.none)
            try await broker.waitUntil(depthOf: "q", is: published)
        }
    }

    @Test("F32: two hundred connections that are lost at once all reconnect")
    func allAtOnce() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = broker.configuration
            configuration.recovery.initialDelay = .milliseconds(1)
            configuration.recovery.maximumDelay = .milliseconds(200)
            let clients = (0..<200).map { _ in AMQPClient(configuration) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for client in clients { group.addTask { try await client.run() } }
                for client in clients { try await client.withChannel { _ = try await $0.declareQueue("q") } }
                #expect(await broker.connections().count == 200)
                await broker.dropConnections()
                for client in clients {
                    var isBack = false
                    while !isBack {
                        do {
                            try await client.withChannel { _ = try await $0.inspectQueue("q") }
                            isBack = true
                        } catch let error as AMQPError where error.scope == .connection {
                            continue
                        }
                    }
                }
                for client in clients { client.beginShutdown() }
                try await group.waitForAll()
            }
        }
    }
}
