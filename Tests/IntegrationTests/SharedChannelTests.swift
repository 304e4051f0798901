// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

// SharedChannelTests: requests of several tasks on one channel, against a real RabbitMQ. It answers consume and cancel
// from the queue's process, after requests that were sent later, and nothing while it commits.

@Suite("Channel shared by tasks", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(5)))
struct SharedChannelTests {
    /// A request beside which another one is made.
    enum Call: String, CaseIterable, Sendable {
        case declare, inspect, bind, prefetch, confirms, get, recover, consume, cancel, transaction

        func run(on channel: AMQPChannel, queue: String, exchange: String) async throws {
            switch self {
            case .declare: try await channel.declareQueue("", exclusive: true, autoDelete: true)
            case .inspect: _ = try await channel.inspectQueue(queue)
            case .bind: try await channel.bindQueue(queue, to: exchange, routingKey: "k")
            case .prefetch: try await channel.setPrefetch(count: 10)
            case .confirms: try await channel.enableConfirms()
            case .get: _ = try await channel.get(queue, acknowledgement: .automatic)
            case .recover: try await channel.recover()
            case .consume: _ = try await channel.deliveries(from: queue)
            case .cancel: try await channel.cancel(try await channel.deliveries(from: queue))
            case .transaction: try await channel.withTransaction { try await $0.publish("x", to: .queue(queue)) }
            }
        }
    }

    private static func withQueue(
        _ body: (AMQPConnection, _ queue: String, _ exchange: String) async throws -> Void
    ) async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue("", exclusive: true).name
                try await body(connection, queue, "amq.direct")
            }
            #expect(connection.isOpen)
        }
    }

    @Test("Two requests at once, in both orders, harm neither each other nor the connection", arguments: Call.allCases)
    func pairs(call: Call) async throws {
        try await Self.withQueue { connection, queue, exchange in
            for beside in Call.allCases where !(call.isExclusive(with: beside)) {
                for round in 0..<12 {
                    let channel = try await connection.openChannel()
                    let (first, second) = round.isMultiple(of: 2) ? (call, beside) : (beside, call)
                    async let one: Void = first.run(on: channel, queue: queue, exchange: exchange)
                    async let other: Void = second.run(on: channel, queue: queue, exchange: exchange)
                    _ = try await (one, other)
                    #expect(channel.isOpen)
                    try await channel.close()
                }
            }
        }
    }

    @Test("Transactions beside requests of other tasks commit, and nothing ends")
    func transactions() async throws {
        try await Self.withQueue { connection, queue, exchange in
            let channel = try await connection.openChannel()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for number in 0..<150 {
                        try await channel.withTransaction { try await $0.publish("\(number)", to: .queue(queue)) }
                    }
                }
                for call in [Call.declare, .inspect, .bind, .prefetch, .cancel, .get] {
                    group.addTask {
                        for _ in 0..<50 { try await call.run(on: channel, queue: queue, exchange: exchange) }
                    }
                }
                try await group.waitForAll()
            }
            try await channel.close()
        }
    }

    @Test("Several tasks consume and cancel on one channel, with messages in the queues, and none is lost")
    func consumers() async throws {
        try await Self.withQueue { connection, _, _ in
            let channel = try await connection.openChannel()
            try await channel.setPrefetch(count: 5)
            let queues = try await Self.filled(4, with: 20, on: channel)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for queue in queues {
                    group.addTask {
                        for _ in 0..<40 {
                            let deliveries = try await channel.deliveries(from: queue)
                            for try await delivery in deliveries {
                                try delivery.nack()
                                break
                            }
                            try await Self.end(deliveries, on: channel)
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(channel.isOpen)
            try await channel.close()
            try await Self.areReady(queues, count: 20, on: connection)
        }
    }

    @Test("Consumes that are cancelled or time out leave every message ready and no consumer behind")
    func givenUp() async throws {
        try await Self.withQueue { connection, _, _ in
            let channel = try await connection.openChannel()
            let queues = try await Self.filled(2, with: 50, on: channel)
            for round in 0..<150 {
                let queue = queues[round % 2]
                if round.isMultiple(of: 3) {
                    let deliveries = try? await channel.deliveries(from: queue, timeout: .microseconds(round))
                    if let deliveries { try await Self.end(deliveries, on: channel) }
                } else {
                    let consuming = Task {
                        // It settles what it has read, which the end of the scope does not return.
                        try await channel.consume(queue) { for try await delivery in $0 { try delivery.nack() } }
                    }
                    for _ in 0..<(round % 7) { await Task.yield() }
                    consuming.cancel()
                    _ = await consuming.result
                }
                #expect(channel.isOpen)
            }
            // Unread deliveries are requeued although the channel stays open.
            try await Self.areReady(queues, count: 50, on: connection)
            try await channel.close()
        }
    }

    @Test("A consume given up with 40 MiB in the queue does not stop the connection from reading")
    func givenUpWithMuch() async throws {
        try await Self.withQueue { connection, _, _ in
            let channel = try await connection.openChannel()
            let queues = try await Self.filled(1, with: 640, size: 64 << 10, on: channel)
            for round in 0..<10 {
                let consuming = Task { try await channel.deliveries(from: queues[0]) }
                for _ in 0..<round { await Task.yield() }
                consuming.cancel()
                // A consumer that won the race is cancelled as usual.
                if let deliveries = try? await consuming.value { try await Self.end(deliveries, on: channel) }
                #expect(try await channel.inspectQueue(queues[0]).name == queues[0])
            }
            try await Self.areReady(queues, count: 640, on: connection)
            try await channel.close()
        }
    }

    /// Cancels a consumer and returns what it got, which is read meanwhile: it may be more than its buffer takes.
    private static func end(_ deliveries: AMQPDeliveries, on channel: AMQPChannel) async throws {
        async let cancelled: Void = channel.cancel(deliveries)
        for try await delivery in deliveries { try delivery.nack() }
        try await cancelled
    }

    private static func filled(
        _ count: Int,
        with messages: Int,
        size: Int = 1,
        on channel: AMQPChannel
    ) async throws -> [String] {
        let body = AMQPMessage(String(repeating: "x", count: size))
        var queues: [String] = []
        for _ in 0..<count { queues.append(try await channel.declareQueue("", exclusive: true).name) }
        try await channel.enableConfirms()
        for queue in queues {
            for _ in 0..<messages { try await channel.publish(body, to: .queue(queue)) }
        }
        try await channel.waitForConfirms()
        return queues
    }

    private static func areReady(_ queues: [String], count: Int, on connection: AMQPConnection) async throws {
        try await connection.withChannel { channel in
            for queue in queues {
                var seen = try await channel.inspectQueue(queue)
                for _ in 0..<400 where seen.messageCount != count || seen.consumerCount != 0 {
                    try await Task.sleep(for: .milliseconds(25))
                    seen = try await channel.inspectQueue(queue)
                }
                #expect(seen.messageCount == count)
                #expect(seen.consumerCount == 0)
            }
        }
    }
}

extension SharedChannelTests.Call {
    /// A channel has confirms or transactions, and one transaction at a time.
    fileprivate func isExclusive(with other: Self) -> Bool {
        let both: Set<Self> = [self, other]
        return both == [.confirms, .transaction] || both == [.transaction]
    }
}
