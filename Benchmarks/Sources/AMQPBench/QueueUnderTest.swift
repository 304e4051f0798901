// SPDX-License-Identifier: Apache-2.0
import AMQP091

// QueueUnderTest: the queues of a run: one that was named and stays, or some that are made and deleted at the end.

/// The queue or queues of a run.
struct QueueUnderTest: Sendable {
    var names: [String]
    /// True when the tool made them for this run and deletes them.
    var isGenerated: Bool

    /// Makes the queue, or finds the one that was named.
    ///
    /// - Throws: ``BenchFailure`` or ``AMQPError``.
    static func prepare(_ options: RunOptions, id: String, on connection: AMQPConnection) async throws -> QueueUnderTest
    {
        guard let name = options.queue else {
            let names = (0..<options.queues).map { "amqp-bench-\(id)" + (options.queues == 1 ? "" : "-\($0)") }
            try await connection.withChannel { channel in
                for name in names { try await Self.declare(name, options, on: channel) }
            }
            return QueueUnderTest(names: names, isGenerated: true)
        }
        // The channel of a question that is answered with 404 is closed.
        if let channel = try? await connection.openChannel() {
            let found = try? await channel.inspectQueue(name)
            try? await channel.close()
            if found != nil { return QueueUnderTest(names: [name], isGenerated: false) }
        }
        guard options.producers > 0 else {
            throw BenchFailure(
                description: "there is no queue \(name) to consume. "
                    + "Fill one with: amqp-bench publish --uri … --queue \(name)",
                status: ExitStatus.failed
            )
        }
        try await connection.withChannel { channel in try await channel.declareQueue(name, durable: true) }
        return QueueUnderTest(names: [name], isGenerated: false)
    }

    private static func declare(_ name: String, _ options: RunOptions, on channel: AMQPChannel) async throws {
        let isClassic = options.queueType == .classic
        try await channel.declareQueue(
            name,
            durable: options.persistent || !isClassic,
            arguments: isClassic ? [:] : ["x-queue-type": .string(options.queueType.rawValue)]
        )
    }

    /// Messages that nobody holds.
    func messageCount(on connection: AMQPConnection) async throws -> Int {
        try await connection.withChannel { channel in
            var count = 0
            for name in self.names { count += try await channel.inspectQueue(name).messageCount }
            return count
        }
    }

    /// Deletes the queue if it was made for the run; false when that failed.
    func delete(on connection: AMQPConnection, timeout: Duration) async -> Bool {
        guard self.isGenerated else { return true }
        do {
            let channel = try await connection.openChannel(timeout: timeout)
            for name in self.names { try await channel.deleteQueue(name, timeout: timeout) }
            return true
        } catch {
            return false
        }
    }
}
