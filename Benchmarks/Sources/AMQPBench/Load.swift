// SPDX-License-Identifier: Apache-2.0
import AMQP091

// Load: the connections, channels, producers and consumers of one run, connected and ready, and what they count.
// It says nothing of time: the pacer sets `stop`, and LoadRun waits for the ends.

/// Everything that makes and takes messages in one run.
struct Load: Sendable {
    var connections: [AMQPConnection] = []
    var producers: [Producer] = []
    var consumers: [(consumer: Consumer, deliveries: AMQPDeliveries)] = []
    var meters = RunMeters()
    let ledger: Ledger
    /// Ends the producers.
    let stop = StopFlag()
    private let options: RunOptions

    /// An empty load whose messages carry a mark.
    init(options: RunOptions, mark: UInt32) {
        self.options = options
        self.ledger = Ledger(run: mark, streams: max(1, options.publishers * Producer.streams))
    }

    /// Connects consumers, which are subscribed when this returns, and then producers.
    ///
    /// - Parameters:
    ///   - queues: The queues, over which both are spread in turn.
    ///   - connect: Makes a connection of a name.
    /// - Throws: `AMQPError` or ``BenchFailure``; what was connected before stays in `connections`.
    mutating func prepare(queues: [String], connect: (String) async throws -> AMQPConnection) async throws {
        if let count = self.options.connections {
            for number in 0..<count { self.connections.append(try await connect("connection \(number)")) }
        }
        let taken = Budget(self.options.producers == 0 ? self.options.count : nil)
        for number in 0..<self.options.consumers {
            let connection = try await self.connection(for: number, "consumer \(number)", connect)
            for channel in 0..<self.options.channels {
                let queue = queues[(number * self.options.channels + channel) % queues.count]
                try await self.addConsumer(queue: queue, budget: taken, on: connection)
            }
        }
        let given = Budget(self.options.count)
        for number in 0..<self.options.producers {
            let place = self.options.consumers + number
            let connection = try await self.connection(for: place, "producer \(number)", connect)
            for channel in 0..<self.options.channels {
                let publisher = number * self.options.channels + channel
                let queue = queues[publisher % queues.count]
                try await self.addProducer(publisher, queue: queue, budget: given, on: connection)
            }
        }
    }

    /// A new connection, or one of those that all share.
    private mutating func connection(
        for number: Int,
        _ name: String,
        _ connect: (String) async throws -> AMQPConnection
    ) async throws -> AMQPConnection {
        if let count = self.options.connections { return self.connections[number % count] }
        let connection = try await connect(name)
        self.connections.append(connection)
        return connection
    }

    private mutating func addConsumer(queue: String, budget: Budget, on connection: AMQPConnection) async throws {
        let channel = try await connection.openChannel()
        if let prefetch = self.options.prefetch, !self.options.autoAck {
            try await channel.setPrefetch(count: UInt16(prefetch))
        }
        let deliveries = try await channel.deliveries(
            from: queue,
            acknowledgement: self.options.autoAck ? .automatic : .manual
        )
        let consumer = Consumer(
            channel: channel,
            options: self.options,
            ledger: self.ledger,
            budget: budget,
            consumed: Counter(),
            redelivered: Counter(),
            foreign: Counter(),
            latency: Self.share(of: &self.meters.endToEndLatency, number: self.consumers.count),
            sentLatency: Self.share(of: &self.meters.sentLatency, number: self.consumers.count)
        )
        self.meters.consumed.append(consumer.consumed)
        self.meters.redelivered.append(consumer.redelivered)
        self.meters.foreign.append(consumer.foreign)
        self.consumers.append((consumer, deliveries))
    }

    private mutating func addProducer(
        _ number: Int,
        queue: String,
        budget: Budget,
        on connection: AMQPConnection
    ) async throws {
        let channel = try await connection.openChannel()
        if let window = self.options.confirms { try await channel.enableConfirms(window: window) }
        let producer = Producer(
            channel: channel,
            destination: .queue(queue),
            options: self.options,
            run: self.ledger.run,
            number: number,
            budget: budget,
            stop: self.stop,
            published: (0..<Producer.streams).map { _ in Counter() },
            latency: self.meters.confirmLatency,
            lag: Self.share(of: &self.meters.lag, number: number)
        )
        self.meters.published += producer.published
        self.producers.append(producer)
    }

    /// One of a few meters: a histogram is too large for each of a thousand tasks to have its own.
    private static func share(of meters: inout [LatencyMeter], number: Int) -> LatencyMeter {
        let index = number % 4
        while meters.count <= index { meters.append(LatencyMeter()) }
        return meters[index]
    }

    /// Asks the broker to send no more; the consumers end behind what it has sent.
    func cancelConsumers() {
        for (consumer, deliveries) in self.consumers {
            // A failure shows in the consumer itself.
            Task { try? await consumer.channel.cancel(deliveries) }
        }
    }

    /// All counters as they are now.
    func snapshot(broker: SessionUsage?) -> Snapshot {
        Snapshot(meters: self.meters, publishing: self.producers.map(\.channel), broker: broker)
    }

    /// True while the broker blocks publishers.
    var isBlocked: Bool { self.connections.contains { $0.blockedReason != nil } }

    /// Closes all connections in order, at the latest after a time.
    func close(timeout: Duration) async {
        await withTaskGroup { group in
            for connection in self.connections { group.addTask { try? await connection.close(timeout: timeout) } }
        }
    }

    /// Closes all sockets at once.
    func abort() {
        for connection in self.connections { connection.abort() }
    }
}
