// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

// The four programs of Snippets/, run as a reader of the work-queue tutorial would run them, against a real RabbitMQ.

@Suite(
    "Work-queue programs",
    .enabled(if: TestBroker.uri != nil, TestBroker.isMissing),
    .serialized,
    .timeLimit(.minutes(2))
)
struct WorkQueueTests {
    @Test("What send puts into the queue, receive prints")
    func sendAndReceive() async throws {
        try await TestBroker.withChannel { channel in
            try await channel.deleteQueue("hello")
            let send = try Program("send")
            #expect(try await send.exitStatus() == 0)
            #expect(send.lines == [" [x] Sent 'Hello World!'"])
            #expect(try await channel.inspectQueue("hello").messageCount == 1)

            let receive = try Program("receive")
            defer { receive.kill() }
            try await receive.waits(for: " [x] Received 'Hello World!'")
            #expect(receive.lines.first == " [*] Waiting for messages. To exit press CTRL+C")
            #expect(try await channel.inspectQueue("hello").messageCount == 0)
            receive.kill()
            try await channel.deleteQueue("hello")
        }
    }

    @Test("Two workers share tasks of one to five dots as 1-3-5 and 2-4")
    func fairShares() async throws {
        try await TestBroker.withChannel { channel in
            try await channel.deleteQueue("task_queue")
            let workers = [try Program("worker"), try Program("worker")]
            defer { for worker in workers { worker.kill() } }
            try await Self.waitForConsumers(2, on: channel)
            for dots in 1...5 {
                let task = try Program("new-task", "Task", String(repeating: ".", count: dots))
                #expect(try await task.exitStatus() == 0)
            }
            try await Program.wait { workers.map(\.done).reduce(0, +) == 5 }
            let shares = workers.map { worker in worker.received.map { $0.count { $0 == "." } } }
            #expect(shares.contains([1, 3, 5]))
            #expect(shares.contains([2, 4]))
            #expect(!workers.contains { $0.lines.contains { $0.hasSuffix("(redelivered)") } })
            for worker in workers { worker.kill() }
            try await channel.deleteQueue("task_queue")
        }
    }

    @Test("A task whose worker is killed in its middle goes to another worker, marked redelivered")
    func killedWorker() async throws {
        try await TestBroker.withChannel { channel in
            try await channel.deleteQueue("task_queue")
            let busy = try Program("worker")
            defer { busy.kill() }
            try await Self.waitForConsumers(1, on: channel)
            // Long enough to be killed in: nobody waits for its end.
            let task = try Program("new-task", "Long", String(repeating: ".", count: 600))
            #expect(try await task.exitStatus() == 0)
            try await Program.wait { busy.received.count == 1 }
            let other = try Program("worker")
            defer { other.kill() }
            try await Self.waitForConsumers(2, on: channel)
            #expect(other.received.isEmpty)
            busy.kill()
            try await Program.wait { other.received.count == 1 }
            #expect(other.received == busy.received.map { $0 + " (redelivered)" })
            #expect(busy.done == 0)
            other.kill()
            try await channel.deleteQueue("task_queue")
        }
    }

    private static func waitForConsumers(_ count: Int, on channel: AMQPChannel) async throws {
        try await channel.declareQueue("task_queue", durable: true)
        try await Program.wait { try await channel.inspectQueue("task_queue").consumerCount == count }
    }
}
