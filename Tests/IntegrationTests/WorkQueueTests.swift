// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation
import Synchronization
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

/// A program of Snippets/ that runs.
private final class Program: Sendable {
    private static let patience = Duration.seconds(60)

    private let process: Process
    private let output = Mutex(Data())
    private let status: AsyncStream<Int32>

    /// Starts the program, which the build has put beside the tests.
    init(_ name: String, _ arguments: String...) throws {
        let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        let process = Process()
        process.executableURL = products.appendingPathComponent(name)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment
            .merging(["AMQP_URI": try #require(TestBroker.uri)]) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        let (status, ended) = AsyncStream.makeStream(of: Int32.self)
        self.status = status
        self.process = process
        process.terminationHandler = {
            ended.yield($0.terminationStatus)
            ended.finish()
        }
        pipe.fileHandleForReading.readabilityHandler = { [weak self] handle in
            let data = handle.availableData
            if data.isEmpty { handle.readabilityHandler = nil }
            self?.output.withLock { $0.append(data) }
        }
        try process.run()
    }

    /// What it has printed.
    var lines: [String] {
        let text = self.output.withLock { String(decoding: $0, as: UTF8.self) }
        return text.split(separator: "\n").map(String.init)
    }

    /// The tasks of a worker, as it printed them behind `Received`, quotation marks left out.
    var received: [String] {
        self.lines.filter { $0.hasPrefix(" [x] Received ") }
            .map { String($0.dropFirst(" [x] Received ".count)).replacing("'", with: "") }
    }

    /// The tasks a worker has finished.
    var done: Int { self.lines.count { $0 == " [x] Done" } }

    /// Waits for its end and for its whole output.
    func exitStatus() async throws -> Int32? {
        let status = await self.status.first { _ in true }
        try await Self.wait { self.lines.last?.hasPrefix(" [x]") == true }
        return status
    }

    /// Waits until it has printed a line.
    func waits(for line: String) async throws { try await Self.wait { self.lines.contains(line) } }

    /// Sends SIGKILL, as in a crash.
    func kill() { if self.process.isRunning { Foundation.kill(self.process.processIdentifier, SIGKILL) } }

    /// Waits until a condition holds.
    static func wait(until condition: () async throws -> Bool) async throws {
        let deadline = ContinuousClock.now + Self.patience
        while try await !condition() {
            try #require(ContinuousClock.now < deadline, "the condition did not come to hold in \(Self.patience)")
            try await Task.sleep(for: .milliseconds(20))
        }
    }
}
