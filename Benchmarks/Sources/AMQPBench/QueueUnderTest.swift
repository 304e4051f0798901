// SPDX-License-Identifier: Apache-2.0
import AMQP091

// QueueUnderTest: the queues and the exchange of a run: those that were named stay, those that are made here are deleted
// at the end.

/// The queue or queues of a run.
struct QueueUnderTest: Sendable {
    var names: [String]
    /// True when the tool made them for this run and deletes them.
    var isGenerated: Bool
    /// The exchange, when it was made for this run.
    var exchange: String?

    /// Makes the queue, or finds the one that was named.
    ///
    /// - Throws: ``BenchFailure`` or ``AMQPError``.
    static func prepare(_ options: RunOptions, id: String, on connection: AMQPConnection) async throws -> QueueUnderTest
    {
        if options.predeclared == true {
            try await Self.requireAll(options, on: connection)
            return QueueUnderTest(names: options.namesOfQueues, isGenerated: false)
        }
        var queues: QueueUnderTest
        if options.isQueueNamed {
            let names = options.namesOfQueues
            for name in names { try await Self.find(name, options, on: connection) }
            queues = QueueUnderTest(names: names, isGenerated: false)
        } else {
            let names = (0..<options.queues).map { "amqp-bench-\(id)" + (options.queues == 1 ? "" : "-\($0)") }
            try await connection.withChannel { channel in
                for name in names { try await Self.declare(name, options, on: channel) }
            }
            queues = QueueUnderTest(names: names, isGenerated: true)
        }
        if try await Self.bind(queues.names[0], options, on: connection) { queues.exchange = options.exchange }
        return queues
    }

    /// Binds a queue to the exchange of the run, if it has one; true when the exchange was made for that.
    private static func bind(_ queue: String, _ options: RunOptions, on connection: AMQPConnection) async throws -> Bool
    {
        guard let exchange = options.exchange, !exchange.isEmpty else { return false }
        let isThere = try await connection.exchangeExists(exchange)
        try await connection.withChannel { channel in
            if !isThere {
                let type = AMQPExchangeType(stringLiteral: options.exchangeType ?? "direct")
                try await channel.declareExchange(exchange, type: type, durable: true)
            }
            for key in options.routingKeys ?? [options.routingKey ?? queue] {
                try await channel.bindQueue(queue, to: exchange, routingKey: key)
            }
        }
        return !isThere
    }

    /// Makes a queue of the run once more if it went with its broker.
    ///
    /// - Throws: `AMQPError`.
    static func restore(_ queue: String, _ options: RunOptions, on connection: AMQPConnection) async throws {
        guard options.predeclared != true else { return }
        if try await !connection.queueExists(queue) {
            try await connection.withChannel { channel in try await Self.declare(queue, options, on: channel) }
        }
        _ = try await Self.bind(queue, options, on: connection)
    }

    /// Makes sure that what nobody declares is there: the broker confirms messages that no queue takes.
    private static func requireAll(_ options: RunOptions, on connection: AMQPConnection) async throws {
        for queue in options.namesOfQueues where try await !connection.queueExists(queue) {
            throw BenchFailure(
                description: "there is no queue \(queue), and --predeclared makes none",
                status: ExitStatus.failed
            )
        }
        if let exchange = options.exchange, !exchange.isEmpty, try await !connection.exchangeExists(exchange) {
            throw BenchFailure(
                description: "there is no exchange \(exchange), and --predeclared makes none",
                status: ExitStatus.failed
            )
        }
    }

    private static func find(_ name: String, _ options: RunOptions, on connection: AMQPConnection) async throws {
        if try await connection.queueExists(name) { return }
        guard options.producers > 0 else {
            throw BenchFailure(
                description: "there is no queue \(name) to consume. "
                    + "Fill one with: amqp-bench publish --uri … --queue \(name)",
                status: ExitStatus.failed
            )
        }
        try await connection.withChannel { channel in try await Self.declare(name, options, on: channel) }
    }

    private static func declare(_ name: String, _ options: RunOptions, on channel: AMQPChannel) async throws {
        let isClassic = options.queueType == .classic
        var arguments = FieldTable(typing: options.queueArguments ?? [:])
        if let sink = options.sink { arguments.append(.int32(Int32(sink)), named: "x-max-length") }
        if !isClassic { arguments.append(.string(options.queueType.rawValue), named: "x-queue-type") }
        // Durable, whatever the messages are: RabbitMQ 4.3 refuses a transient queue that several connections use.
        let isExclusive = options.isExclusive == true
        try await channel.declareQueue(
            name,
            durable: !isExclusive,
            exclusive: isExclusive,
            autoDelete: options.isAutoDelete == true,
            arguments: arguments
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

    /// Messages that nobody holds, and the consumers that are still there: those of others, once the run's own are gone.
    func state(on connection: AMQPConnection) async throws -> (messages: UInt64, consumers: Int) {
        try await connection.withChannel { channel in
            var state: (messages: UInt64, consumers: Int) = (0, 0)
            for name in self.names {
                let queue = try await channel.inspectQueue(name)
                state.messages += UInt64(queue.messageCount)
                state.consumers += queue.consumerCount
            }
            return state
        }
    }

    /// Deletes what was made for the run; false when that failed.
    func delete(on connection: AMQPConnection, timeout: Duration) async -> Bool {
        guard self.isGenerated || self.exchange != nil else { return true }
        do {
            let channel = try await connection.openChannel(timeout: timeout)
            if let exchange { try await channel.deleteExchange(exchange, timeout: timeout) }
            guard self.isGenerated else { return true }
            for name in self.names { try await channel.deleteQueue(name, timeout: timeout) }
            return true
        } catch {
            return false
        }
    }
}
