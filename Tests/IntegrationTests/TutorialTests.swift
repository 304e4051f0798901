// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

// The programs of Snippets/ for the tutorials behind the work queues, run against a real RabbitMQ.

@Suite("Tutorials", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .serialized, .timeLimit(.minutes(5)))
struct TutorialTests {
    private static let ready = " [*] Waiting for logs. To exit press CTRL+C"

    private static func emit(_ name: String, _ arguments: String..., prints line: String) async throws {
        let program = try Program(name, arguments)
        #expect(try await program.exitStatus() == 0)
        #expect(program.lines == [line])
    }

    private static func withExchange(_ name: String, _ body: () async throws -> Void) async throws {
        try await body()
        try await TestBroker.withChannel { try await $0.deleteExchange(name) }
    }

    @Test("Publish/subscribe: everyone who listens gets every line")
    func publishSubscribe() async throws {
        try await Self.withExchange("logs") {
            let listeners = [try Program("receive-logs"), try Program("receive-logs")]
            defer { for listener in listeners { listener.kill() } }
            for listener in listeners { try await listener.waits(for: Self.ready) }
            try await Self.emit("emit-log", prints: " [x] Sent 'info: Hello World!'")
            try await Self.emit("emit-log", "a", "line", prints: " [x] Sent 'a line'")
            for listener in listeners {
                try await listener.waits(for: " [x] a line")
                #expect(listener.lines.dropFirst() == [" [x] info: Hello World!", " [x] a line"])
            }
        }
    }

    @Test("Routing: a listener gets the severities it asked for")
    func routing() async throws {
        try await Self.withExchange("direct_logs") {
            let errors = try Program("receive-logs-direct", "error")
            let all = try Program("receive-logs-direct", "info", "warning", "error")
            defer { for listener in [errors, all] { listener.kill() } }
            for listener in [errors, all] { try await listener.waits(for: Self.ready) }
            try await Self.emit("emit-log-direct", prints: " [x] Sent 'info':'Hello World!'")
            try await Self.emit("emit-log-direct", "error", "Run.", "Now.", prints: " [x] Sent 'error':'Run. Now.'")
            try await all.waits(for: " [x] 'error':'Run. Now.'")
            try await errors.waits(for: " [x] 'error':'Run. Now.'")
            #expect(all.lines.dropFirst() == [" [x] 'info':'Hello World!'", " [x] 'error':'Run. Now.'"])
            #expect(errors.lines.dropFirst() == [" [x] 'error':'Run. Now.'"])
            let usage = try Program("receive-logs-direct")
            #expect(try await usage.exitStatus(lastLine: "Usage:") == 1)
        }
    }

    @Test("Topics: a listener gets the keys its patterns match")
    func topics() async throws {
        try await Self.withExchange("topic_logs") {
            let kernel = try Program("receive-logs-topic", "kern.*")
            let critical = try Program("receive-logs-topic", "#.critical")
            defer { for listener in [kernel, critical] { listener.kill() } }
            for listener in [kernel, critical] { try await listener.waits(for: Self.ready) }
            for (key, text) in [("kern.info", "1"), ("cron.critical", "2"), ("kern.critical", "3")] {
                try await Self.emit("emit-log-topic", key, text, prints: " [x] Sent '\(key)':'\(text)'")
            }
            for listener in [kernel, critical] { try await listener.waits(for: " [x] 'kern.critical':'3'") }
            #expect(kernel.lines.dropFirst() == [" [x] 'kern.info':'1'", " [x] 'kern.critical':'3'"])
            #expect(critical.lines.dropFirst() == [" [x] 'cron.critical':'2'", " [x] 'kern.critical':'3'"])
        }
    }

    @Test("RPC: the server answers what the client asks")
    func rpc() async throws {
        try await TestBroker.withChannel { channel in
            try await channel.deleteQueue("rpc_queue")
            let server = try Program("rpc-server")
            defer { server.kill() }
            try await server.waits(for: " [x] Awaiting RPC requests")
            let client = try Program("rpc-client")
            #expect(try await client.exitStatus(lastLine: " [x] Got") == 0)
            #expect(client.lines == [" [x] Requesting fib(30)", " [x] Got '832040'"])
            try await server.waits(for: " [.] fib(30)")
            server.kill()
            try await channel.deleteQueue("rpc_queue")
        }
    }

    @Test("Publisher confirms: every message is confirmed, each way")
    func confirms() async throws {
        let program = try Program("publisher-confirms")
        #expect(try await program.exitStatus(lastLine: " [x] Confirmed 500 by receipts") == 0)
        #expect(
            program.lines == [
                " [x] Confirmed 500 one by one", " [x] Confirmed 500 in a batch", " [x] Confirmed 500 by receipts",
            ]
        )
    }

    @Test("Streams: what was published is read from its first message, and again")
    func stream() async throws {
        try await TestBroker.withChannel { channel in
            try await channel.deleteQueue("events")
            for _ in 0..<2 {
                let program = try Program("stream")
                #expect(try await program.exitStatus(lastLine: " [x] Read") == 0)
                #expect(program.lines == [" [x] Published 100 events", " [x] Read 'event 99' at offset 99"])
            }
            try await channel.deleteQueue("events")
        }
    }
}
