// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// InProcessBrokerTests: starting, reaching, ordering about and looking into the in-process broker. What it does for a
// client is in the conformance suite, which runs against RabbitMQ too.

@Suite("In-process broker", .timeLimit(.minutes(1)))
struct InProcessBrokerTests {
    @Test("The example of the README works")
    func ordersAreKept() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                try await connection.withChannel { channel in
                    try await channel.declareQueue("orders")
                    try await channel.publish("42", to: .queue("orders"))
                    try await broker.waitUntil(depthOf: "orders", is: 1)
                }
            }
        }
    }

    @Test("A dropped link redelivers an unacknowledged message")
    func redelivered() async throws {
        try await InProcessBroker.withBroker { broker in
            let configuration = broker.configuration
            try await AMQPConnection.withConnection(configuration) { connection in
                try await connection.withChannel { channel in
                    try await channel.declareQueue("orders")
                    try await channel.publish("42", to: .queue("orders"))
                }
            }
            try await broker.waitUntil(depthOf: "orders", is: 1)
            var redeliveries: [Bool] = []
            while redeliveries.count < 2 {
                let connection = try await AMQPConnection.connect(configuration)
                let channel = try await connection.openChannel()
                let deliveries = try await channel.deliveries(from: "orders")
                var iterator = deliveries.makeAsyncIterator()
                let delivery = try #require(try await iterator.next(isolation: nil))
                #expect(delivery.body.string == "42")
                redeliveries.append(delivery.redelivered)
                if delivery.redelivered {
                    try delivery.ack()
                    try await connection.close()
                } else {
                    await broker.dropConnections("simulated partition")
                    await #expect(throws: AMQPError.self) { try await iterator.next(isolation: nil) }
                }
            }
            #expect(redeliveries == [false, true])
            #expect(await broker.depth(of: "orders") == 0)
            #expect(await broker.queue("orders")?.unacknowledged == 0)
        }
    }

    @Test("Clients connect by its URI over TCP and a Unix socket, and over a socket pair")
    func endpoints() async throws {
        var options = InProcessBroker.Options()
        let path = "/tmp/amqp091-test-\(UInt64.random(in: .min ... .max)).sock"
        options.endpoints = [.unix(path: path)]
        options.users = ["me": "p@ss/:"]
        options.virtualHosts = ["/stock"]
        try await InProcessBroker.withBroker(options) { broker in
            #expect(broker.port == nil)
            for _ in 0..<2 {
                try await AMQPConnection.withConnection(broker.uri) { connection in
                    _ = try await connection.withChannel { try await $0.declareQueue("q", durable: true) }
                }
            }
            let paired = try await broker.connect()
            try await paired.withChannel { _ = try await $0.inspectQueue("q") }
            try await paired.close()
        }
        try await InProcessBroker.withBroker { broker in
            #expect(broker.uri == "amqp://guest:guest@127.0.0.1:\(try #require(broker.port))/%2F")
            try await AMQPConnection.withConnection(broker.uri) { #expect($0.isOpen) }
        }
    }

    @Test("Several brokers in one process are independent")
    func independent() async throws {
        try await InProcessBroker.withBroker { first in
            try await InProcessBroker.withBroker { second in
                let connection = try await first.connect()
                try await connection.withChannel { _ = try await $0.declareQueue("q") }
                #expect(await first.queue("q") != nil)
                #expect(await second.queue("q") == nil)
                try await connection.close()
            }
        }
    }

    @Test("Confirms are nacked, returned and held on request")
    func confirmOrders() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            try await channel.enableConfirms()
            try await channel.declareQueue("q")
            await broker.confirm(.nackNext(1))
            let nacked = await #expect(throws: AMQPError.self) {
                try await channel.publishAndConfirm("a", to: .queue("q"))
            }
            #expect(nacked?.code == .nacked)
            try await channel.publishAndConfirm("b", to: .queue("q"))
            await broker.confirm(.returnNext(1))
            let returned = await #expect(throws: AMQPError.self) {
                try await channel.publishAndConfirm("c", to: .queue("q"), mandatory: true)
            }
            #expect(returned?.code == .returned)
            await broker.confirm(.hold)
            try await channel.publish("d", to: .queue("q"))
            try await broker.waitUntil(depthOf: "q", is: 2)
            #expect(channel.confirmCounts.unconfirmed == 1)
            await broker.confirm(.release)
            try await channel.waitForConfirms()
            try await connection.close()
        }
    }

    @Test("Confirms are delayed on request, in order, nacks included, until release")
    func delayedConfirms() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            try await channel.enableConfirms()
            try await channel.declareQueue("q")
            await broker.confirm(.delay(.seconds(600)))
            try await channel.publish("a", to: .queue("q"))
            try await broker.waitUntil(depthOf: "q", is: 1)
            _ = try await channel.inspectQueue("q")
            #expect(channel.confirmCounts.unconfirmed == 1)
            await broker.confirm(.release)
            try await channel.waitForConfirms()
            await broker.confirm(.delay(.milliseconds(20)))
            await broker.confirm(.nackNext(1))
            let nacked = await #expect(throws: AMQPError.self) {
                try await channel.publishAndConfirm("b", to: .queue("q"))
            }
            #expect(nacked?.code == .nacked)
            try await channel.publishAndConfirm("c", to: .queue("q"))
            // A delay that no clock reaches is one that is held.
            await broker.confirm(.delay(.seconds(Int64.max)))
            try await channel.publish("d", to: .queue("q"))
            try await broker.waitUntil(depthOf: "q", is: 3)
            await broker.confirm(.release)
            try await channel.waitForConfirms()
            try await connection.close()
        }
    }

    @Test("The end of a channel frees the memory of its transaction")
    func abandonedTransactions() async throws {
        var options = InProcessBroker.Options()
        options.memoryLimit = 1 << 20
        try await InProcessBroker.withBroker(options) { broker in
            let configuration = broker.configuration
            for _ in 0..<8 {
                let client = try await ScriptedClient.connect(configuration)
                try await client.login(configuration)
                try await client.call(.txSelect(.init()))
                try client.publish(String(repeating: "x", count: 200_000), to: "", key: "q")
                try await client.call(.channelClose(.init(replyCode: .success, replyText: "")))
                client.drop()
            }
            let connection = try await AMQPConnection.connect(configuration)
            let channel = try await connection.openChannel()
            try await channel.enableConfirms()
            for _ in 0..<2 { try await channel.publishAndConfirm("m", to: .queue("q"), timeout: .seconds(20)) }
            #expect(connection.blockedReason == nil)
            try await connection.close()
        }
    }

    @Test("Under an alarm the first publish blocks its connection, with the reason, until the alarm is cleared")
    func alarm() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            try await channel.enableConfirms()
            try await channel.declareQueue("q")
            await broker.setAlarm("low on disk")
            try await channel.publish("a", to: .queue("q"))
            while connection.blockedReason == nil { await Task.yield() }
            let error = await #expect(throws: AMQPError.self) {
                try await channel.publish("b", to: .queue("q"), timeout: .milliseconds(50))
            }
            #expect(error?.replyText.contains("low on disk") == true)
            #expect(await broker.connections().map(\.isBlocked) == [true])
            await broker.setAlarm(nil)
            try await channel.publishAndConfirm("c", to: .queue("q"))
            #expect(connection.blockedReason == nil)
            try await connection.close()
        }
    }

    @Test("Above the memory limit publishers are blocked until consumers free memory")
    func memoryLimit() async throws {
        var options = InProcessBroker.Options()
        options.memoryLimit = 1 << 20
        try await InProcessBroker.withBroker(options) { broker in
            let publisher = try await broker.connect()
            let channel = try await publisher.openChannel()
            try await channel.declareQueue("q")
            let message = AMQPMessage(AMQPBody([UInt8](repeating: 1, count: 64 << 10)))
            let count = 100
            let publishing = Task {
                for _ in 0..<count { try await channel.publish(message, to: .queue("q")) }
            }
            try await broker.waitUntil(queue: "q") { ($0?.ready ?? 0) > 16 }
            #expect((await broker.depth(of: "q") ?? 0) < 32)
            let consumer = try await broker.connect()
            try await consumer.withChannel { channel in
                try await channel.consume("q", acknowledgement: .automatic) { deliveries in
                    var received = 0
                    for try await _ in deliveries {
                        received += 1
                        if received == count { break }
                    }
                }
            }
            try await publishing.value
            try await publisher.close()
            try await consumer.close()
        }
    }

    @Test("A frozen broker answers nothing, and everything after it resumes")
    func pause() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            let channel = try await connection.openChannel()
            await broker.pause()
            let error = await #expect(throws: AMQPError.self) {
                try await channel.declareQueue("q", timeout: .milliseconds(30))
            }
            #expect(error?.code == .timedOut)
            await broker.resume()
            try await channel.declareQueue("r")
            #expect(await broker.queues().map(\.name) == ["q", "r"])
            try await connection.close()
        }
    }

    @Test("Refused connections, closed connections and deleted queues look like RabbitMQ's")
    func orders() async throws {
        try await InProcessBroker.withBroker { broker in
            let configuration = broker.configuration
            await broker.refuseConnections(true)
            await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
            await broker.refuseConnections(false)
            let connection = try await AMQPConnection.connect(configuration)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let deliveries = try await channel.deliveries(from: "q")
            #expect(await broker.deleteQueue("q"))
            var iterator = deliveries.makeAsyncIterator()
            let cancelled = await #expect(throws: AMQPError.self) { try await iterator.next(isolation: nil) }
            #expect(cancelled?.code == .consumerCancelled)
            await broker.closeConnections("maintenance")
            let closed = await #expect(throws: AMQPError.self) { try await channel.declareQueue("r") }
            #expect(closed?.replyCode == .connectionForced)
            #expect(
                closed?.replyText
                    == "CONNECTION_FORCED - broker forced connection closure with reason 'maintenance'"
            )
        }
    }

    @Test("A failed wait reports the actual state")
    func waitFails() async throws {
        try await InProcessBroker.withBroker { broker in
            let error = await #expect(throws: InProcessBroker.TimedOut.self) {
                try await broker.waitUntil(depthOf: "q", is: 1, timeout: .milliseconds(20))
            }
            #expect(error?.description == "queue 'q' has not been declared, not 1, after 0.02 seconds")
            let waiting = Task { try await broker.waitUntil(depthOf: "q", is: 1) }
            waiting.cancel()
            await #expect(throws: CancellationError.self) { try await waiting.value }
        }
    }

    @Test("Bindings and exchanges can be inspected")
    func inspection() async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            try await connection.withChannel { channel in
                try await channel.declareExchange("logs", type: .topic)
                try await channel.declareQueue("q")
                try await channel.bindQueue("q", to: "logs", routingKey: "a.#")
                try await channel.bindExchange("logs", to: "amq.fanout")
            }
            #expect(await broker.exchanges().contains("logs"))
            let bindings = await broker.bindings(from: "logs")
            #expect(bindings.map(\.routingKey) == ["a.#"])
            #expect(bindings.first?.destination == "q")
            #expect(await broker.bindings(from: "amq.fanout").first?.isToQueue == false)
            #expect(await broker.connections().first?.user == "guest")
            try await connection.close()
        }
    }

    @Test("run() ends with its task")
    func run() async throws {
        let broker = try await InProcessBroker()
        let running = Task { await broker.run() }
        let connection = try await AMQPConnection.connect(broker.configuration)
        running.cancel()
        await running.value
        await #expect(throws: AMQPError.self) { try await connection.openChannel() }
        let configuration = broker.configuration
        let refused = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
        #expect(refused?.code == .connectFailed)
    }
}
