// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation
import Testing

// DurableExclusiveTests: behaviour that only a restart shows, on a separate RabbitMQ node, which is killed.

@Suite("Traps of a restart", .enabled(if: TestBroker.script != nil, TestBroker.isMissing), .timeLimit(.minutes(5)))
struct DurableExclusiveTests {
    /// scripts/broker with another directory than that of the other tests; returns what it printed.
    ///
    /// Not through Process: it would wait for the node too, which the script leaves behind.
    private static func broker(_ directory: String, _ command: String) async throws -> String {
        let script = try #require(TestBroker.script)
        let line = "AMQP091_BROKER_DIR=\(directory) '\(script)' \(command) </dev/null >\(directory).out 2>/dev/null"
        let status = await withCheckedContinuation { (done: CheckedContinuation<Int32, Never>) in
            DispatchQueue.global().async { done.resume(returning: system(line)) }
        }
        let file = URL(fileURLWithPath: "\(directory).out")
        let output = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
        try? FileManager.default.removeItem(at: file)
        try #require(status == 0, "scripts/broker \(command) ended with \(status)")
        return output.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    @Test(
        "F1: Durable and exclusive: after a crash of the broker the exclusive queue is gone, the durable one is there"
    )
    func durableExclusive() async throws {
        let directory = "\(NSTemporaryDirectory())amqp091-restart-\(UInt32.random(in: .min ... .max))"
        do {
            let uri = try await Self.broker(directory, "start")
            let connection = try await AMQPConnection.connect(AMQPClientConfiguration(uri: uri))
            let channel = try await connection.openChannel()
            try await channel.declareQueue("both", durable: true, exclusive: true)
            try await channel.declareQueue("durable", durable: true)
            try await channel.enableConfirms()
            for queue in ["both", "durable"] {
                let message = AMQPMessage("m", properties: BasicProperties(deliveryMode: 2))
                try await channel.publishAndConfirm(message, to: .queue(queue))
            }
            // RabbitMQ's database of queues writes its log some seconds late: what was declared just now would not be there.
            _ = try await Self.broker(directory, "ctl eval 'mnesia:sync_log().'")
            _ = try await Self.broker(directory, "kill")
            await #expect(throws: AMQPError.self) { try await channel.inspectQueue("both") }
            _ = try await Self.broker(directory, "restart")
            try await AMQPConnection.withConnection(uri) { again in
                let durable = try await again.inspectQueue("durable")
                #expect(durable?.messageCount == 1)
                let isThere = try await again.queueExists("both")
                #expect(!isThere)
            }
        } catch {
            _ = try? await Self.broker(directory, "stop")
            throw error
        }
        _ = try await Self.broker(directory, "stop")
    }
}
