// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Foundation
import Testing

// TemporaryRefusalTests: RabbitMQ refuses a client for a while, and the client goes on when it does no longer: permissions,
// limits of connections, a virtual host that is made again, a consumer that is still there on a half-open link, an alarm.
// Each test has a virtual host and a user of its own, so that the others notice nothing.

@Suite(
    "Refused for a while",
    .enabled(if: TestBroker.script != nil, "AMQP091_TEST_BROKER names no script that controls the broker"),
    .timeLimit(.minutes(6))
)
struct TemporaryRefusalTests {
    /// A virtual host and a user of one test.
    struct Stage {
        let name = TopologyTests.unique("refused")
        let topology = AMQPTopology {
            $0.exchange("events", type: .topic)
            $0.queue("q", boundTo: "events", routingKey: "#")
        }

        func allow(configure: String = ".*", write: String = ".*", read: String = ".*") async throws {
            try await TestBroker.control("set_permissions", "-p", self.name, self.name, configure, write, read)
        }

        func addVirtualHost() async throws {
            try await TestBroker.control("add_vhost", self.name)
            try await self.allow()
        }

        func dropConnections() async throws {
            try await TestBroker.control("close_all_connections", "--vhost", self.name, "test")
        }

        var configuration: AMQPClientConfiguration {
            get throws {
                var configuration = try AMQPClientConfiguration(uri: #require(TestBroker.uri))
                configuration.virtualHost = self.name
                configuration.authentication = .plain(username: self.name, password: "secret")
                configuration.recovery.initialDelay = .milliseconds(10)
                configuration.recovery.maximumDelay = .milliseconds(200)
                configuration.operationTimeout = .seconds(60)
                return configuration
            }
        }
    }

    static func withStage(_ body: (Stage) async throws -> Void) async throws {
        let stage = Stage()
        try await TestBroker.control("add_user", stage.name, "secret")
        try await stage.addVirtualHost()
        var failure: (any Error)?
        do {
            try await body(stage)
        } catch {
            failure = error
        }
        try? await TestBroker.control("delete_vhost", stage.name)
        try? await TestBroker.control("delete_user", stage.name)
        if let failure { throw failure }
    }

    /// Waits for a refusal of a login; returns its text.
    static func refusal(_ events: AMQPClientEvents) async -> String {
        for await event in events {
            if case .connectFailed(let error) = event.kind, error.replyCode != nil { return "\(error)" }
        }
        return ""
    }

    static func body(of deliveries: AMQPDeliveries) async throws -> String? {
        for try await delivery in deliveries {
            try delivery.ack()
            return delivery.body.string
        }
        return nil
    }

    @Test("A user without permissions for a while: consumer and outbox continue when it has them again")
    func permissions() async throws {
        try await Self.withStage { stage in
            try await AMQPClient.withClient(stage.configuration, topology: stage.topology) { client in
                try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                    try await publisher.publish("1", to: .queue("q"))
                    try await client.consume("q") { deliveries in
                        #expect(try await Self.body(of: deliveries) == "1")
                        let refusal = Task { [events = client.events] in await Self.refusal(events) }
                        try await TestBroker.control("clear_permissions", "-p", stage.name, stage.name)
                        try await stage.dropConnections()
                        let text = await refusal.value
                        #expect(text.contains("530"), "\(text)")
                        async let sent: Void = publisher.publish("2", to: .queue("q"))
                        try await stage.allow()
                        try await sent
                        #expect(try await Self.body(of: deliveries) == "2")
                    }
                }
            }
        }
    }

    @Test("A permission to read that is missing for a while: the consumer continues; one that starts without it throws")
    func readPermission() async throws {
        try await Self.withStage { stage in
            try await AMQPClient.withClient(stage.configuration, topology: stage.topology) { client in
                try await client.withPublisher { try await $0.publish("1", to: .queue("q")) }
                try await client.consume("q") { deliveries in
                    #expect(try await Self.body(of: deliveries) == "1")
                    let recovery = Task { [events = client.events] in
                        for await event in events where event.connection == .consuming {
                            if case .recovered = event.kind { return }
                        }
                    }
                    let waiting = Task { try await Self.body(of: deliveries) }
                    try await stage.allow(read: "^$")
                    try await stage.dropConnections()
                    await recovery.value
                    let error = await #expect(throws: AMQPError.self) { try await client.consume("q") { _ in } }
                    #expect(error?.replyCode == .accessRefused)
                    try await stage.allow()
                    try await client.withPublisher { try await $0.publish("2", to: .queue("q")) }
                    #expect(try await waiting.value == "2")
                }
            }
        }
    }

    @Test("A password that is wrong for a while: the client continues when it is right again")
    func password() async throws {
        try await Self.withStage { stage in
            try await AMQPClient.withClient(stage.configuration, topology: stage.topology) { client in
                try await client.consume("q") { deliveries in
                    let refusal = Task { [events = client.events] in await Self.refusal(events) }
                    try await TestBroker.control("change_password", stage.name, "another")
                    try await stage.dropConnections()
                    #expect(await refusal.value.contains("403"))
                    try await TestBroker.control("change_password", stage.name, "secret")
                    try await client.withPublisher { try await $0.publish("1", to: .queue("q")) }
                    #expect(try await Self.body(of: deliveries) == "1")
                }
            }
        }
    }

    @Test(
        "An exchange without permission to write: its message is refused alone, and accepted later",
        arguments: [false, true]
    )
    func writePermission(hasOutbox: Bool) async throws {
        try await Self.withStage { stage in
            try await AMQPClient.withClient(stage.configuration, topology: stage.topology) { client in
                try await client.withPublisher(outbox: hasOutbox ? .octets(1 << 20) : .none) { publisher in
                    let destination = AMQPDestination.exchange("events", routingKey: "a")
                    try await publisher.publish("0", to: destination)
                    try await stage.allow(write: "^(amq.default|q)$")
                    // Permissions are looked up again on a new connection.
                    try await stage.dropConnections()
                    var outcomes: [AMQPPublishOutcome] = []
                    for number in 1...3 {
                        let destination = number == 2 ? destination : .queue("q")
                        outcomes += await publisher.publish(contentsOf: [AMQPMessage("\(number)")], to: destination)
                    }
                    #expect(outcomes[0] == .confirmed)
                    #expect(outcomes[2] == .confirmed)
                    guard case .refused(let error) = outcomes[1] else {
                        Issue.record("\(outcomes[1])")
                        return
                    }
                    #expect(error.replyCode == .accessRefused)
                    #expect(error.replyText.contains("'events'"), "\(error)")
                    try await stage.allow()
                    try await stage.dropConnections()
                    try await publisher.publish("4", to: destination)
                }
            }
        }
    }

    @Test(
        "The connection limit of a virtual host, and of a user: a client waits for its turn",
        arguments: [true, false]
    )
    func connectionLimit(isOfVirtualHost: Bool) async throws {
        try await Self.withStage { stage in
            let limit = "{\"max-connections\": 1}"
            if isOfVirtualHost {
                try await TestBroker.control("set_vhost_limits", "-p", stage.name, limit)
            } else {
                try await TestBroker.control("set_user_limits", stage.name, limit)
            }
            let first = try await AMQPConnection.connect(stage.configuration)
            try await AMQPClient.withClient(stage.configuration, topology: stage.topology) { client in
                let refusal = Task { [events = client.events] in await Self.refusal(events) }
                let publish = Task { try await client.withPublisher { try await $0.publish("1", to: .queue("q")) } }
                let text = await refusal.value
                #expect(text.contains("limit"), "\(text)")
                try await first.close()
                try await publish.value
            }
        }
    }

    @Test(
        "A virtual host that is deleted and made again: topology, outbox, and a consumer that is busy or waits, continue",
        arguments: [false, true]
    )
    func virtualHost(isWaiting: Bool) async throws {
        try await Self.withStage { stage in
            try await AMQPClient.withClient(stage.configuration, topology: stage.topology) { client in
                try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                    let destination = AMQPDestination.exchange("events", routingKey: "a")
                    try await publisher.publish("1", to: destination)
                    try await client.consume("q") { deliveries in
                        #expect(try await Self.body(of: deliveries) == "1")
                        let refusal = Task { [events = client.events] in await Self.refusal(events) }
                        // The permissions go first, and a consumer that waits is told 403 before the connection is closed.
                        let waiting = isWaiting ? Task { try await Self.body(of: deliveries) } : nil
                        try await TestBroker.control("delete_vhost", stage.name)
                        let text = await refusal.value
                        #expect(text.contains(stage.name), "\(text)")
                        async let sent: Void = publisher.publish("2", to: destination, mandatory: true)
                        try await stage.addVirtualHost()
                        try await sent
                        let reading = waiting ?? Task { try await Self.body(of: deliveries) }
                        #expect(try await reading.value == "2")
                    }
                }
            }
        }
    }

    @Test("An exclusive consumer, and an exclusive queue, that a half-open link still holds: the client waits for them")
    func halfOpen() async throws {
        let direct = try AMQPClientConfiguration(uri: #require(TestBroker.uri))
        let port = try #require(direct.addresses.first?.port)
        let queue = TopologyTests.unique("exclusive")
        let own = TopologyTests.unique("own")
        let topology = AMQPTopology {
            $0.queue(queue)
            $0.queue(own, as: .classic(durable: false, exclusive: true))
        }
        try await FaultProxy.withProxy(to: port) { proxy in
            var configuration = direct
            // No other address: a link that a busy machine loses comes back through the proxy too, and can be half open.
            configuration.addresses = [.host("127.0.0.1", port: proxy.port)]
            // The client notices after two seconds, the broker later.
            configuration.heartbeat = .seconds(1)
            try await AMQPClient.withClient(configuration, topology: topology) { client in
                try await client.consume(queue, exclusive: true) { deliveries in
                    try await client.consume(own) { others in
                        for round in 0..<2 {
                            // Again and again: what goes into the exclusive queue of the dead link is lost with it.
                            let publishing = Task {
                                try await TestBroker.withConnection { connection in
                                    // An exclusive queue takes publishes from everybody.
                                    try await connection.withPublisher { publisher in
                                        while !Task.isCancelled {
                                            for name in [queue, own] {
                                                try? await publisher.publish(
                                                    AMQPMessage("\(round)"),
                                                    to: .queue(name),
                                                    mandatory: true
                                                )
                                            }
                                            try? await Task.sleep(for: .milliseconds(100))
                                        }
                                    }
                                }
                            }
                            while try await Self.body(of: deliveries) != "\(round)" {}
                            while try await Self.body(of: others) != "\(round)" {}
                            publishing.cancel()
                            _ = await publishing.result
                            guard round == 0 else { break }
                            let recovered = Task { [events = client.events] in
                                for await event in events {
                                    if event.connection == .consuming, case .recovered = event.kind { return }
                                }
                            }
                            proxy.stallLinks()
                            await recovered.value
                        }
                    }
                }
            }
            _ = try await TestBroker.withChannel { try await $0.deleteQueue(queue) }
        }
    }

    @Test("A login larger than the broker's frame is told as such, and one that fits is not")
    func largeLogin() async throws {
        for (octets, fits) in [(3_000, true), (9_000, false)] {
            var configuration = try AMQPClientConfiguration(uri: #require(TestBroker.uri))
            configuration.authentication = .plain(username: "guest", password: String(repeating: "x", count: octets))
            let sent = configuration
            let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(sent).abort() }
            #expect(error?.code == (fits ? .authenticationFailed : .connectFailed), "\(error as Any)")
            #expect(error?.replyText.contains("4096 before 4.1") == !fits, "\(error as Any)")
        }
    }

    @Test(
        "A scope that ends under a memory alarm says what is not confirmed, within its deadlines",
        .enabled(if: TestBroker.isAlone, "the alarm is the whole broker's")
    )
    func alarm() async throws {
        try await Self.withStage { stage in
            var configuration = try stage.configuration
            configuration.operationTimeout = .seconds(5)
            configuration.recovery.shutdownTimeout = .seconds(2)
            let client = AMQPClient(configuration, topology: stage.topology)
            let counts = Task { [events = client.events] in
                var count = 0
                for await event in events { if case .publishesGivenUp(let more, _) = event.kind { count += more } }
                return count
            }
            let running = Task { try await client.run() }
            let error = await #expect(throws: AMQPError.self) {
                try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                    try await publisher.publish("1", to: .queue("q"))
                    try await TestBroker.control("set_vm_memory_high_watermark", "0.00001")
                    for _ in 0..<3 { try? await publisher.send("m", to: .queue("q")) }
                }
            }
            let start = ContinuousClock.now
            await client.shutdown()
            #expect(ContinuousClock.now - start < .seconds(10))
            _ = await running.result
            try await TestBroker.control("set_vm_memory_high_watermark", "0.4")
            #expect(error?.code == .timedOut, "\(error as Any)")
            #expect(error?.replyText.contains("not confirmed") == true, "\(error as Any)")
            #expect(await counts.value >= 1)
        }
    }
}
