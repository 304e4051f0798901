// SPDX-License-Identifier: Apache-2.0
import AMQP091

// QueueUnderTest: the queue of a run: one that was named and stays, or one that is made and deleted at the end.

/// The queue of a run.
struct QueueUnderTest: Sendable {
    var name: String
    /// True when the tool made it for this run and deletes it.
    var isGenerated: Bool

    /// Makes the queue, or finds the one that was named.
    ///
    /// - Throws: ``BenchFailure`` or ``AMQPError``.
    static func prepare(_ options: RunOptions, id: String, on connection: AMQPConnection) async throws -> QueueUnderTest
    {
        guard let name = options.queue else {
            let name = "amqp-bench-\(id)"
            try await connection.withChannel { channel in
                try await channel.declareQueue(name, durable: options.persistent)
            }
            return QueueUnderTest(name: name, isGenerated: true)
        }
        // The channel of a question that is answered with 404 is closed.
        if let channel = try? await connection.openChannel() {
            let found = try? await channel.inspectQueue(name)
            try? await channel.close()
            if found != nil { return QueueUnderTest(name: name, isGenerated: false) }
        }
        guard options.producers > 0 else {
            throw BenchFailure(
                description: "there is no queue \(name) to consume. "
                    + "Fill one with: amqp-bench publish --uri … --queue \(name)",
                status: ExitStatus.failed
            )
        }
        try await connection.withChannel { channel in try await channel.declareQueue(name, durable: true) }
        return QueueUnderTest(name: name, isGenerated: false)
    }

    /// Messages that nobody holds.
    func messageCount(on connection: AMQPConnection) async throws -> Int {
        try await connection.withChannel { try await $0.inspectQueue(self.name).messageCount }
    }

    /// Deletes the queue if it was made for the run; false when that failed.
    func delete(on connection: AMQPConnection, timeout: Duration) async -> Bool {
        guard self.isGenerated else { return true }
        do {
            let channel = try await connection.openChannel(timeout: timeout)
            try await channel.deleteQueue(self.name, timeout: timeout)
            return true
        } catch {
            return false
        }
    }
}
