// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

@Suite("Transactions and recover", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct TransactionTests {
    struct Refused: Error {}

    @Test("What a transaction publishes and acknowledges takes effect when it returns")
    func commits() async throws {
        try await TestBroker.withChannel { channel in
            let queue = try await channel.declareQueue(exclusive: true)
            try await channel.publish("in", to: .queue(queue.name))
            let answer = try await channel.withTransaction { channel in
                let delivery = try #require(try await channel.get(queue.name))
                for number in 0..<100 { try await channel.publish("\(number)", to: .queue(queue.name)) }
                try delivery.ack()
                #expect(try await channel.get(queue.name) == nil)
                return 42
            }
            #expect(answer == 42)
            #expect(try await channel.inspectQueue(queue.name).messageCount == 100)
        }
    }

    @Test("A transaction that throws leaves nothing behind, and its deliveries come again")
    func rollsBack() async throws {
        try await TestBroker.withChannel { channel in
            let queue = try await channel.declareQueue(exclusive: true)
            try await channel.publish("in", to: .queue(queue.name))
            await #expect(throws: Refused.self) {
                try await channel.withTransaction { channel in
                    let delivery = try #require(try await channel.get(queue.name))
                    try await channel.publish("out", to: .queue(queue.name))
                    try delivery.ack()
                    // The acknowledgement is on its way before the rollback.
                    _ = try await channel.inspectQueue(queue.name)
                    throw Refused()
                }
            }
            let again = try #require(try await channel.get(queue.name))
            #expect(again.body.string == "in")
            #expect(again.redelivered)
            #expect(try await channel.get(queue.name) == nil)
            try await channel.withTransaction { _ in try again.ack() }
            #expect(try await channel.inspectQueue(queue.name).messageCount == 0)
        }
    }

    @Test("Transactions run one after the other on a channel, a hundred of them, with publishers that do not wait")
    func many() async throws {
        try await TestBroker.withChannel { channel in
            let queue = try await channel.declareQueue(exclusive: true)
            for number in 0..<5 { try await channel.publish("seed \(number)", to: .queue(queue.name)) }
            for number in 0..<100 {
                try await channel.withTransaction { channel in
                    if number.isMultiple(of: 20) {
                        let delivery = try #require(try await channel.get(queue.name))
                        #expect(delivery.body.string == "seed \(number / 20)")
                        try delivery.nack(requeue: false)
                    }
                    try await channel.publish("\(number)", to: .queue(queue.name))
                }
                // Published outside: it belongs to the next transaction, and must not reach a channel that commits.
                try await channel.publish("after \(number)", to: .queue(queue.name))
            }
            try await channel.withTransaction { _ in }
            // A count may run ahead of what was published; a get does not.
            var left: [String] = []
            while let delivery = try await channel.get(queue.name, acknowledgement: .automatic) {
                left.append(delivery.body.string)
            }
            #expect(left == (0..<100).flatMap { ["\($0)", "after \($0)"] })
            #expect(channel.isOpen)
        }
    }

    @Test("Publishes and settlements of other tasks wait while a channel commits, and are not lost")
    func concurrent() async throws {
        try await TestBroker.withChannel { channel in
            let queue = try await channel.declareQueue(exclusive: true)
            for number in 0..<200 { try await channel.publish("\(number)", to: .queue(queue.name)) }
            try await channel.setPrefetch(count: 0)
            try await channel.consume(queue.name) { deliveries in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        for number in 0..<200 {
                            try await channel.publish("more \(number)", to: .queue("nowhere"))
                            if number.isMultiple(of: 7) { await Task.yield() }
                        }
                    }
                    group.addTask {
                        var seen = 0
                        for try await delivery in deliveries {
                            if seen.isMultiple(of: 3) { try delivery.nack(requeue: false) } else { try delivery.ack() }
                            seen += 1
                            if seen == 200 { break }
                        }
                    }
                    for _ in 0..<50 { try await channel.withTransaction { _ in } }
                    try await group.waitForAll()
                }
            }
            try await channel.withTransaction { _ in }
            #expect(channel.isOpen)
            #expect(try await channel.inspectQueue(queue.name).messageCount == 0)
        }
    }

    @Test("Confirms and transactions are refused on one channel before anything is sent")
    func either() async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                try await channel.enableConfirms()
                let error = await #expect(throws: AMQPError.self) { try await channel.withTransaction { _ in } }
                #expect(error?.code == .invalidArgument)
                _ = try await channel.declareQueue(exclusive: true)
            }
            try await connection.withChannel { channel in
                try await channel.withTransaction { channel in
                    let nested = await #expect(throws: AMQPError.self) { try await channel.withTransaction { _ in } }
                    #expect(nested?.code == .invalidArgument)
                }
                let error = await #expect(throws: AMQPError.self) { try await channel.enableConfirms() }
                #expect(error?.code == .invalidArgument)
                _ = try await channel.declareQueue(exclusive: true)
            }
        }
    }

    @Test("Recover requeues unsettled deliveries only")
    func recovers() async throws {
        try await TestBroker.withChannel { channel in
            let queue = try await channel.declareQueue(exclusive: true)
            for number in 0..<3 { try await channel.publish("\(number)", to: .queue(queue.name)) }
            let first = try #require(try await channel.get(queue.name))
            let second = try #require(try await channel.get(queue.name))
            let third = try #require(try await channel.get(queue.name))
            try second.ack()
            try await channel.recover()
            for stale in [first, third] {
                let error = #expect(throws: AMQPError.self) { try stale.ack() }
                #expect(error?.code == .alreadySettled)
            }
            var again: Set<String> = []
            for _ in 0..<2 {
                let delivery = try #require(try await channel.get(queue.name))
                #expect(delivery.redelivered)
                again.insert(delivery.body.string)
                try delivery.ack()
            }
            #expect(again == ["0", "2"])
            #expect(try await channel.get(queue.name) == nil)
        }
    }

    @Test("Settling while a recover is under way closes nothing")
    func settlesDuringRecover() async throws {
        try await TestBroker.withChannel { channel in
            let queue = try await channel.declareQueue(exclusive: true)
            for number in 0..<50 { try await channel.publish("\(number)", to: .queue(queue.name)) }
            try await channel.consume(queue.name) { deliveries in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { for _ in 0..<20 { try await channel.recover() } }
                    var done: Set<String> = []
                    for try await delivery in deliveries {
                        do {
                            try delivery.ack()
                        } catch let error as AMQPError {
                            guard error.code == .alreadySettled else { throw error }
                            continue
                        }
                        done.insert(delivery.body.string)
                        if done.count == 50 { break }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(channel.isOpen)
        }
    }
}
