// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

// ConcurrencyTests: many tasks on one channel, against a real RabbitMQ.

@Suite("Concurrency", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct ConcurrencyTests {
    @Test("Eight tasks publish on one channel, and each finds its messages in its own order")
    func order() async throws {
        let (tasks, each) = (8, 2000)
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue("", exclusive: true)
                try await channel.enableConfirms(window: 100)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for task in 0..<tasks {
                        group.addTask {
                            for number in 0..<each {
                                try await channel.publish(AMQPMessage("\(task) \(number)"), to: .queue(queue.name))
                            }
                        }
                    }
                    try await group.waitForAll()
                }
                try await channel.waitForConfirms()
                var next = [Int](repeating: 0, count: tasks)
                var left = tasks * each
                try await channel.consume(queue.name, acknowledgement: .automatic) { deliveries in
                    for try await delivery in deliveries {
                        let parts = delivery.body.string.split(separator: " ").compactMap { Int($0) }
                        try #require(parts.count == 2)
                        #expect(parts[1] == next[parts[0]])
                        next[parts[0]] = parts[1] + 1
                        left -= 1
                        if left == 0 { break }
                    }
                }
                #expect(next == [Int](repeating: each, count: tasks))
            }
        }
    }
}
