// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Synchronization

/// ServiceWorkload: a service that publishes in every way and consumes, in a world with disturbances; then the account.
struct ServiceWorkload: Sendable {
    let world: SimulatedWorld
    let account = Account()

    static let topology = AMQPTopology {
        $0.queue("orders", as: .quorum(), boundTo: "events", routingKey: "#")
        $0.exchange("events", type: .topic)
    }

    /// The longest time a call may take: its deadline, and what its end takes.
    static let longest = Duration.seconds(31)

    @Sendable static func run(_ world: SimulatedWorld) async throws {
        let workload = ServiceWorkload(world: world)
        try await AMQPClient.withClient(world.configuration, topology: Self.topology) { client in
            let consumer = Task { try await workload.consumeUntilCancelled(client) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await workload.ending("single") { try await workload.publishOneByOne(client) } }
                group.addTask { try await workload.ending("batch") { try await workload.publishBatches(client) } }
                group.addTask { try await workload.ending("stream") { try await workload.publishStream(client) } }
                group.addTask { try await workload.ending("receipt") { try await workload.enqueue(client) } }
                group.addTask { try await workload.send(client) }
                try await group.waitForAll()
            }
            await world.calm()
            let end = world.clock.now.advanced(by: .seconds(300))
            while workload.account.isMissing, world.clock.now < end { try await world.sleep(for: .milliseconds(100)) }
            consumer.cancel()
            if case .failure(let error) = await consumer.result, !(error is CancellationError),
                (error as? AMQPError)?.code != .cancelled
            {
                workload.account.breach("the consumer ended: \(error)")
            }
        }
        try workload.account.check()
    }

    // MARK: publishing

    /// The end of a scope fails only for a message whose sender was not told that it is confirmed.
    private func ending(_ publisher: String, _ body: () async throws -> Void) async throws {
        do {
            try await body()
        } catch let error as AMQPError {
            let isTold = self.account.state.withLock { state in
                state.told.contains { $0.key.hasPrefix(publisher + "-") && $0.value != .confirmed }
            }
            if !isTold { self.account.breach("the scope of \(publisher) ended with \(error)") }
        }
    }

    private func pause() async throws {
        try await self.world.sleep(for: .milliseconds(self.world.random(in: 0..<4000)))
    }

    private var destination: AMQPDestination {
        self.world.random(in: 0..<2) == 0 ? .queue("orders") : .exchange("events", routingKey: "a.b")
    }

    /// Calls `body`, which must not outlive its deadline.
    private func timed<Result>(_ name: String, _ body: () async throws -> Result) async rethrows -> Result {
        let start = self.world.clock.now
        defer {
            let time = start.duration(to: self.world.clock.now)
            if time > Self.longest { self.account.breach("\(name) took \(time)") }
        }
        return try await body()
    }

    private func publishOneByOne(_ client: AMQPClient) async throws {
        try await client.withPublisher { publisher in
            for number in 0..<15 {
                let name = "single-\(number)"
                do {
                    try await self.timed(name) {
                        try await publisher.publish(AMQPMessage(AMQPBody(name)), to: self.destination)
                    }
                    self.account.tell(name, .confirmed)
                } catch let error as AMQPError {
                    self.account.tell(name, Self.outcome(error))
                }
                try await self.pause()
            }
        }
    }

    private func publishBatches(_ client: AMQPClient) async throws {
        try await client.withPublisher { publisher in
            for batch in 0..<8 {
                let names = (0..<5).map { "batch-\(batch * 5 + $0)" }
                let outcomes = await self.timed(names[0]) {
                    await publisher.publish(contentsOf: names.map { AMQPMessage(AMQPBody($0)) }, to: self.destination)
                }
                for (name, outcome) in zip(names, outcomes) { self.account.tell(name, outcome) }
                try await self.pause()
            }
        }
    }

    private func publishStream(_ client: AMQPClient) async throws {
        let world = self.world
        let names = (0..<20).map { "stream-\($0)" }
        let messages = AsyncStream<AMQPMessage> { continuation in
            let task = Task {
                for name in names {
                    continuation.yield(AMQPMessage(AMQPBody(name)))
                    try await world.sleep(for: .milliseconds(world.random(in: 0..<2000)))
                }
                continuation.finish()
            }
            continuation.onTermination = { _ in task.cancel() }
        }
        let next = Counter()
        try await client.withPublisher { publisher in
            _ = try await publisher.publish(stream: messages, to: .queue("orders")) { outcome in
                self.account.tell(names[next.take()], outcome)
            }
        }
    }

    private func enqueue(_ client: AMQPClient) async throws {
        try await client.withPublisher(maxInFlight: 4) { publisher in
            var receipts: [(String, AMQPPublishReceipt)] = []
            for number in 0..<20 {
                let name = "receipt-\(number)"
                do {
                    let receipt = try await self.timed(name) {
                        try await publisher.enqueue(AMQPMessage(AMQPBody(name)), to: self.destination)
                    }
                    receipts.append((name, receipt))
                } catch let error as AMQPError {
                    self.account.tell(name, Self.outcome(error))
                }
                if self.world.random(in: 0..<3) == 0 { try await self.pause() }
            }
            for (name, receipt) in receipts {
                self.account.tell(name, await self.timed("the outcome of \(name)") { await receipt.outcome() })
            }
        }
    }

    private func send(_ client: AMQPClient) async throws {
        do {
            try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                for number in 0..<20 {
                    let name = "outbox-\(number)"
                    do {
                        try await self.timed(name) {
                            try await publisher.send(AMQPMessage(AMQPBody(name)), to: self.destination)
                        }
                        self.account.state.withLock { _ = $0.sent.insert(name) }
                    } catch let error as AMQPError where error.code != .refused && error.code != .nacked {
                        self.account.tell(name, Self.outcome(error))
                    }
                    if self.world.random(in: 0..<3) == 0 { try await self.pause() }
                }
            }
        } catch let error as AMQPError {
            self.account.state.withLock { state in
                state.reported += Self.count(error)
                state.report = "\(error)"
            }
        }
    }

    static func outcome(_ error: AMQPError) -> AMQPPublishOutcome {
        switch error.code {
        case .refused: .refused(error)
        case .returned: .returned(error.replyCode ?? .noRoute, error.replyText)
        case .nacked: .nacked
        default: error.isSafeToRetry ? .notSent(error) : .unknown(error)
        }
    }

    /// How many messages an error of an outbox stands for.
    static func count(_ error: AMQPError) -> Int {
        error.replyText.split(separator: "; failed: ", omittingEmptySubsequences: false).reduce(0) { sum, part in
            let number = part.split(separator: "(the first of ").dropFirst().first ?? part
            return sum + (Int(number.prefix { $0.isNumber }) ?? 1)
        }
    }

    // MARK: consuming

    private func consumeUntilCancelled(_ client: AMQPClient) async throws {
        var hasStarted = false
        while true {
            do {
                try await self.consume(client) { hasStarted = true }
                return
            } catch let error as AMQPError where error.code == .timedOut && !hasStarted {
                // The start has a deadline; later the consumer waits for as long as it takes.
            }
        }
    }

    private func consume(_ client: AMQPClient, started: () -> Void) async throws {
        // Handlers beside each other have no order.
        let isOrdered = self.world.random(in: 0..<2) == 0
        try await client.consume("orders", prefetch: 10) { deliveries in
            started()
            if isOrdered {
                for try await delivery in deliveries {
                    self.account.arrive(delivery.body.string, isRedelivered: delivery.redelivered)
                    try await self.world.sleep(for: .milliseconds(self.world.random(in: 0..<50)))
                    _ = try? delivery.ack()
                }
                return
            }
            try await deliveries.process(maxConcurrency: 4) { delivery in
                self.account.arrive(delivery.body.string, isRedelivered: true)
                try await self.world.sleep(for: .milliseconds(self.world.random(in: 0..<200)))
            }
        }
    }
}

/// Numbers from 0.
final class Counter: Sendable {
    private let next = Account()
    func take() -> Int {
        self.next.state.withLock { state in
            state.reported += 1
            return state.reported - 1
        }
    }
}
