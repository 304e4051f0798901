// SPDX-License-Identifier: Apache-2.0
import AMQP091
import EpollNetworking

// Load: the connections, channels, producers and consumers of one run, connected and ready, and what they count.
// It says nothing of time: the pacer sets `stop`, and LoadRun waits for the ends.

/// Everything that makes and takes messages in one run.
struct Load: Sendable {
    var links: [Link] = []
    var producers: [Producer] = []
    var consumers: [Consumer] = []
    var meters = RunMeters()
    let ledger: Ledger
    let bodies: BodyPlan
    private(set) var backlog: Backlog?
    /// Ends the producers.
    let stop = StopFlag()
    /// Makes the consumers leave what they were sent and have not taken: nobody waits for it.
    let hurry = StopFlag()
    /// Set when some did.
    let hasLeft = StopFlag()
    private let options: RunOptions
    /// Which instance of the tool this is.
    private let instance: Int
    private let nodes: ConnectedNodes?

    /// An empty load whose messages carry a mark.
    init(options: RunOptions, mark: UInt32, instance: Int = 0, nodes: ConnectedNodes? = nil) {
        self.options = options
        self.nodes = nodes
        self.instance = instance
        self.bodies = BodyPlan(options, seed: mark)
        let streams = options.publishers * (options.instances ?? 1)
        self.ledger = Ledger(run: mark, streams: max(1, streams))
    }

    /// Connects consumers, which are subscribed when this returns, and then producers.
    ///
    /// - Parameters:
    ///   - queues: The queues, over which both are spread in turn.
    ///   - shared: The connection that all consumers use; nil for their own.
    ///   - connect: Makes a connection of a name.
    /// - Throws: `AMQPError` or ``BenchFailure``; what was connected before stays in `links`.
    mutating func prepare(
        queues: [String],
        shared: Link? = nil,
        connect: @escaping @Sendable (String) async throws -> AMQPConnection
    ) async throws {
        if let count = self.options.connections {
            for number in 0..<count { try await self.addLink("connection \(number)", connect) }
        }
        let taken = Budget(self.options.producers == 0 ? self.options.count : nil)
        for number in 0..<self.options.consumers {
            let link: Link =
                if let shared { shared } else { try await self.link(for: number, "consumer \(number)", connect) }
            let delay = self.options.startDelay(ofConsumer: number)
            for channel in 0..<self.options.channelsOfConsumer {
                let queue = queues[(number * self.options.channelsOfConsumer + channel) % queues.count]
                try await self.addConsumer(queue: queue, delay: delay, budget: taken, on: link)
            }
        }
        self.meters.published = (0..<self.options.publishers).map { _ in Counter() }
        if let limit = self.options.backlog, self.options.rate == nil {
            self.backlog = Backlog(limit: limit, meters: self.meters)
        }
        let given = Budget(self.options.count)
        for number in 0..<self.options.producers {
            let link = try await self.link(for: self.options.consumers + number, "producer \(number)", connect)
            for channel in 0..<self.options.channelsOfProducer {
                let publisher = number * self.options.channelsOfProducer + channel
                let queue = queues.isEmpty ? "" : queues[publisher % queues.count]
                try await self.addProducer(publisher, queue: queue, budget: given, on: link)
            }
        }
    }

    @discardableResult
    private mutating func addLink(
        _ name: String,
        _ connect: @escaping @Sendable (String) async throws -> AMQPConnection
    ) async throws -> Link {
        let link = Link(try await connect(name), name: name, nodes: self.nodes) { try await connect(name) }
        self.links.append(link)
        return link
    }

    /// A new connection, or one of those that all share.
    private mutating func link(
        for number: Int,
        _ name: String,
        _ connect: @escaping @Sendable (String) async throws -> AMQPConnection
    ) async throws -> Link {
        if let count = self.options.connections { return self.links[number % count] }
        return try await self.addLink(name, connect)
    }

    private mutating func addConsumer(queue: String, delay: Double?, budget: Budget, on link: Link) async throws {
        let own = self.options.publishers
        let consumer = Consumer(
            subscription: try await Subscription(queue: queue, options: self.options, isLate: delay != nil, on: link),
            startDelay: delay,
            options: self.options,
            ledger: self.ledger,
            ownStreams: UInt32(self.instance * own)..<UInt32((self.instance + 1) * own),
            budget: budget,
            consumed: Counter(),
            redelivered: Counter(),
            foreign: Counter(),
            recovered: StopFlag(),
            hurry: self.hurry,
            hasLeft: self.hasLeft,
            latency: self.share(of: \.endToEndLatency, number: self.consumers.count),
            sentLatency: self.share(of: \.sentLatency, number: self.consumers.count)
        )
        self.meters.consumed.append(consumer.consumed)
        self.meters.redelivered.append(consumer.redelivered)
        self.meters.foreign.append(consumer.foreign)
        self.consumers.append(consumer)
    }

    private mutating func addProducer(_ number: Int, queue: String, budget: Budget, on link: Link) async throws {
        let exchange = self.options.exchange ?? ""
        let destinations = Destinations(
            exchange: exchange,
            keys: self.options.routingKeys ?? [self.options.routingKey ?? queue],
            distribution: self.options.keyDistribution ?? .turns,
            seed: UInt64(self.ledger.run) << 32 | UInt64(self.instance) << 20 | UInt64(number)
        )
        let producer = Producer(
            lane: try await Lane(on: link, window: self.options.confirms, meter: self.meters.confirmLatency) {
                [options = self.options] connection in
                try await QueueUnderTest.restore(queue, options, on: connection)
            },
            destinations: destinations,
            options: self.options,
            properties: self.options.properties,
            bodies: self.bodies,
            run: self.ledger.run,
            number: self.instance * self.options.publishers + number,
            of: self.options.publishers * (self.options.instances ?? 1),
            ledger: self.ledger,
            budget: budget,
            stop: self.stop,
            clock: EventLoopGroup.shared.next(),
            published: self.meters.published[number],
            backlog: self.backlog,
            lag: self.share(of: \.lag, number: number),
            meters: self.meters
        )
        self.producers.append(producer)
    }

    /// What publishes until its end, from when a schedule begins: each producer or, of many on a schedule, those of one
    /// loop together.
    var publishing: [@Sendable (UInt64) async throws -> Void] {
        let isGrouped =
            self.options.rate != nil && self.options.transactionSize == nil
            && self.producers.count >= ProducerGroup.smallest
        guard isGrouped else { return self.producers.map { producer in { try await producer.publish(from: $0) } } }
        let groups = Dictionary(grouping: self.producers) { ObjectIdentifier($0.clock) }.values
        return groups.map { producers in { try await ProducerGroup(producers: producers).publish(from: $0) } }
    }

    /// One of a few meters: a histogram is too large for each of a thousand tasks to have its own.
    private mutating func share(of meters: WritableKeyPath<RunMeters, [LatencyMeter]>, number: Int) -> LatencyMeter {
        let index = number % 4
        while self.meters[keyPath: meters].count <= index {
            self.meters[keyPath: meters].append(LatencyMeter(self.meters.time))
        }
        return self.meters[keyPath: meters][index]
    }

    /// Ends the producers before their time: a run that failed.
    func end() {
        self.meters.time.close(at: MonotonicClock.now)
        self.stop.set()
    }

    /// Publishes whose confirm never came.
    var censored: UInt64 { self.producers.reduce(0) { $0 + $1.lane.censored } }

    /// Asks the broker to send no more; the consumers end behind what it has sent.
    func cancelConsumers() {
        for consumer in self.consumers { Task { await consumer.subscription.cancel() } }
    }

    /// Closes the channels of the consumers, so that what they left is in the queues again.
    func closeConsumers(timeout: Duration) async {
        await withTaskGroup { group in
            for consumer in self.consumers {
                group.addTask { try? await consumer.subscription.channel.close(timeout: timeout) }
            }
        }
    }

    /// All counters as they are now.
    func snapshot(broker: BrokerUsage?) -> Snapshot {
        Snapshot(meters: self.meters, publishing: self.producers.map(\.lane), broker: broker)
    }

    /// True while the broker blocks publishers.
    var isBlocked: Bool { self.links.contains { $0.connection.blockedReason != nil } }

    /// Closes all connections in order, at the latest after a time.
    func close(timeout: Duration) async {
        await withTaskGroup { group in
            for link in self.links { group.addTask { await link.close(timeout: timeout) } }
        }
    }

    /// Closes all sockets at once.
    func abort() {
        for link in self.links { link.abort() }
    }
}
