// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Synchronization

// ConsumeWorkload: one consumer per connection; together they take the warm-up and the measured messages of one queue.

struct ConsumeWorkload: Sendable {
    let driver: AMQPDriver

    func run() async throws -> Measurement {
        var connections: [AMQPConnection] = []
        for _ in 0..<self.driver.connections { connections.append(try await self.driver.connect()) }
        let progress = Progress(warmup: self.driver.warmup, count: self.driver.count, readers: connections.count)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for connection in connections {
                group.addTask { try await self.consume(connection, progress) }
            }
            // The others wait for deliveries that no one will send.
            try await group.next()
            group.cancelAll()
            while let result = await group.nextResult() {
                if case .failure(let error) = result, (error as? AMQPError)?.code != .cancelled { throw error }
            }
        }
        for connection in connections { try await connection.close() }
        return progress.measurement
    }

    private func consume(_ connection: AMQPConnection, _ progress: Progress) async throws {
        try await self.driver.run(beside: connection) {
            let channel = try await connection.openChannel()
            if self.driver.prefetch > 0 { try await channel.setPrefetch(count: UInt16(self.driver.prefetch)) }
            if progress.total == 0 { return }
            let ackEvery = self.driver.ackEvery
            let acknowledgement: AMQPAcknowledgement = ackEvery == 0 ? .automatic : .manual
            try await channel.consume(self.driver.queue, acknowledgement: acknowledgement) { deliveries in
                if self.driver.warmup == 0 { progress.begin() }
                var unacked = 0
                var step = progress.firstStep
                for try await delivery in deliveries {
                    if ackEvery > 0 {
                        unacked += 1
                        if unacked == ackEvery {
                            unacked = 0
                            try delivery.ack(multiple: ackEvery > 1)
                        }
                    }
                    if step.isOver() {
                        guard let next = progress.next(after: step) else { break }
                        step = next
                    }
                }
            }
        }
    }
}

/// How far the readers have come, counted by each in steps so that they do not meet at every message.
final class Progress: Sendable {
    let warmup: Int
    let total: Int
    private let stepSize: Int
    private let taken = Atomic<Int>(0)
    private let start = Mutex<Reading?>(nil)
    private let end = Mutex<Reading?>(nil)

    /// A run of messages one reader counts by itself.
    struct Step {
        let size: Int
        var left: Int

        /// Counts one message; true at the last of the step.
        mutating func isOver() -> Bool {
            self.left -= 1
            return self.left == 0
        }
    }

    init(warmup: Int, count: Int, readers: Int) {
        self.warmup = warmup
        self.total = warmup + count
        self.stepSize = readers == 1 ? .max : 1
    }

    var measurement: Measurement {
        let now = Reading.now
        return Measurement(
            start: self.start.withLock { $0 } ?? now,
            end: self.end.withLock { $0 } ?? now
        )
    }

    func begin() { self.start.withLock { $0 = $0 ?? Reading.now } }

    /// The first step ends no later than the warm-up.
    var firstStep: Step {
        let size = min(self.stepSize, self.warmup > 0 ? self.warmup : self.total)
        return Step(size: size, left: size)
    }

    /// Takes note of a step that is over; nil when that was the last message of all.
    func next(after step: Step) -> Step? {
        let taken = self.taken.add(step.size, ordering: .relaxed).newValue
        if taken == self.warmup { self.begin() }
        if taken >= self.total {
            self.end.withLock { $0 = $0 ?? Reading.now }
            return nil
        }
        let size = min(self.stepSize, taken < self.warmup ? self.warmup - taken : self.total - taken)
        return Step(size: size, left: size)
    }
}
