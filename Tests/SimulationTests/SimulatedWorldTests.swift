// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Synchronization
import Testing

/// The world itself: time, equal runs, what it finds and what it refuses.
@Suite("Simulated worlds", .timeLimit(.minutes(5)))
struct SimulatedWorldTests {
    static let topology = AMQPTopology { $0.queue("q") }

    /// Publishes and consumes `count` messages.
    @Sendable static func roundTrip(_ world: SimulatedWorld, count: Int = 20) async throws -> [String] {
        try await AMQPClient.withClient(world.configuration, topology: Self.topology) { client in
            async let received = Self.receive(count, client)
            try await client.withPublisher { publisher in
                for number in 0..<count { try await publisher.publish("\(number)", to: .queue("q")) }
            }
            return try await received
        }
    }

    static func receive(_ count: Int, _ client: AMQPClient) async throws -> [String] {
        try await client.consume("q") { deliveries in
            var texts: [String] = []
            for try await delivery in deliveries {
                texts.append(delivery.body.string)
                try delivery.ack()
                if texts.count == count { break }
            }
            return texts
        }
    }

    /// The failure of a run that must fail.
    static func failure<Result: Sendable>(
        _ options: SimulatedWorld.Options = .init(),
        _ body: @escaping @Sendable (SimulatedWorld) async throws -> Result
    ) async throws -> SimulationFailure {
        do throws(SimulationFailure) {
            try await SimulatedWorld.run(seed: 1, options, body)
        } catch {
            return error
        }
        throw Missing()
    }

    struct Missing: Error {}

    @Test("A client publishes and consumes in a world")
    func roundTrip() async throws {
        let (texts, report) = try await SimulatedWorld.run(seed: 1) { world in
            try await Self.roundTrip(world)
        }
        #expect(texts == (0..<20).map { "\($0)" })
        #expect(report.elapsed < .seconds(60))
    }

    @Test("Equal seeds make equal runs, octet by octet", arguments: 1...10)
    func equalRuns(seed: UInt64) async throws {
        var options = SimulatedWorld.Options(nodes: 3, disturbances: 6)
        options.disturbedTime = .seconds(2)
        let first = try await SimulatedWorld.run(seed: seed, options) { try await Self.roundTrip($0) }
        let second = try await SimulatedWorld.run(seed: seed, options) { try await Self.roundTrip($0) }
        #expect(first.report == second.report)
    }

    @Test("Different seeds make different runs")
    func differentRuns() async throws {
        var digests: Set<UInt64> = []
        for seed: UInt64 in 1...10 {
            digests.insert(try await SimulatedWorld.run(seed: seed) { try await Self.roundTrip($0) }.report.digest)
        }
        #expect(digests.count == 10)
    }

    @Test("A year of waiting takes no time, and the clock tells it")
    func clock() async throws {
        let (elapsed, report) = try await SimulatedWorld.run(seed: 1, Self.long) { world in
            let start = world.clock.now
            try await world.sleep(for: .seconds(365 * 24 * 3600))
            return start.duration(to: world.clock.now)
        }
        #expect(elapsed >= .seconds(365 * 24 * 3600) && elapsed < .seconds(365 * 24 * 3600 + 1))
        #expect(report.steps < 1000)
    }

    static var long: SimulatedWorld.Options {
        var options = SimulatedWorld.Options()
        options.timeLimit = .seconds(400 * 24 * 3600)
        return options
    }

    @Test("Tasks without a preference, groups, actors and streams stay in the world")
    func concurrency() async throws {
        actor Sum {
            var value = 0
            func add(_ number: Int) { self.value += number }
        }
        let (value, _) = try await SimulatedWorld.run(seed: 3) { world in
            let sum = Sum()
            let numbers = AsyncStream<Int> { continuation in
                Task {
                    for number in 1...10 {
                        continuation.yield(number)
                        await Task.yield()
                    }
                    continuation.finish()
                }
            }
            await withTaskGroup(of: Void.self) { group in
                for await number in numbers { group.addTask { await sum.add(number) } }
            }
            await Task.detached { await sum.add(100) }.value
            return await sum.value
        }
        #expect(value == 155)
    }

    @Test("The order of tasks depends on the seed")
    func order() async throws {
        var orders: Set<[Int]> = []
        for seed: UInt64 in 1...20 {
            let (order, _) = try await SimulatedWorld.run(seed: seed) { _ in
                await withTaskGroup(of: Int.self) { group in
                    for number in 0..<4 { group.addTask { number } }
                    return await group.reduce(into: []) { $0.append($1) }
                }
            }
            orders.insert(order)
        }
        #expect(orders.count > 5)
    }

    // MARK: what it finds

    @Test("An error of the body is the failure, with seed, time and trace")
    func bodyThrows() async throws {
        let failure = try await Self.failure { world in
            world.note("about to fail")
            try await world.sleep(for: .seconds(3))
            throw Missing()
        }
        #expect(failure.underlying is Missing && failure.seed == 1)
        #expect(failure.elapsed >= .seconds(3))
        #expect("\(failure)".contains("about to fail"))
    }

    @Test("Tasks that wait for each other are found at once", .timeLimit(.minutes(1)))
    func stuck() async throws {
        let failure = try await Self.failure { _ in
            let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
            for await _ in stream {}
            withExtendedLifetime(continuation) {}
        }
        #expect(failure.reason.contains("nothing can run any more"))
    }

    @Test("A loop that waits for ever ends at the limit of time, one that spins at the limit of steps")
    func limits() async throws {
        var options = SimulatedWorld.Options()
        options.timeLimit = .seconds(10)
        let late = try await Self.failure(options) { world in
            while true { try await world.sleep(for: .seconds(1)) }
        }
        #expect(late.reason.contains("of simulated time"))
        options.timeLimit = .seconds(1000)
        options.stepLimit = 5000
        let spinning = try await Self.failure(options) { _ in
            while !Task.isCancelled { await Task.yield() }
        }
        #expect(spinning.reason.contains("steps"))
    }

    @Test("A wait for real time leaves the world, and is an error")
    func escape() async throws {
        let failure = try await Self.failure { world in
            let isOver = Mutex(false)
            async let real: Void = {
                try await Task.sleep(for: .milliseconds(100))
                isOver.withLock { $0 = true }
            }()
            while !isOver.withLock({ $0 }) { try await world.sleep(for: .milliseconds(1)) }
            try await real
        }
        let reasons = ["world was left", "nothing can run"]
        #expect(reasons.contains { failure.reason.contains($0) }, "\(failure.reason)")
    }

    @Test("A connection that is not closed is an error")
    func leftBehind() async throws {
        let kept = Mutex<AMQPConnection?>(nil)
        let failure = try await Self.failure { world in
            let connection = try await AMQPConnection.connect(world.configuration)
            kept.withLock { $0 = connection }
        }
        #expect(failure.reason.contains("left behind"))
    }

    @Test("A failure is reduced to the disturbances it needs")
    func fewestDisturbances() async throws {
        let options = SimulatedWorld.Options(nodes: 3, disturbances: 20)
        do {
            try await SimulatedWorld.explore(seeds: 1...50, options) { world in
                try await world.sleep(for: .seconds(70))
                if world.disturbances.contains(where: { $0.disturbance == .restart }) { throw Missing() }
            }
            Issue.record("no world with a restart")
        } catch let failure as SimulationFailure {
            #expect(failure.disturbances.map(\.disturbance) == [.restart])
        }
    }

    // MARK: disturbances

    @Test("A node that refuses, is silent or has no name: the connection goes to another, or fails with the reason")
    func unreachableNodes() async throws {
        let cases: [(Disturbance, String)] = [
            (.refuse(node: 0, .seconds(100)), "refused"), (.silence(node: 0, .seconds(100)), "did not answer in time"),
            (.forgetName(node: 0, .seconds(100)), "is not known"),
        ]
        for (disturbance, text) in cases {
            let (error, _) = try await SimulatedWorld.run(seed: 1) { world in
                await world.apply(disturbance)
                do {
                    try await AMQPConnection.connect(world.configuration).close()
                    return ""
                } catch {
                    return "\(error)"
                }
            }
            #expect(error.contains(text), "\(error)")
            _ = try await SimulatedWorld.run(seed: 1, .init(nodes: 2)) { world in
                await world.apply(disturbance)
                try await AMQPConnection.connect(world.configuration).close()
            }
        }
    }

    @Test("A restart keeps persistent messages of durable queues, and nothing else")
    func restart() async throws {
        let (depths, _) = try await SimulatedWorld.run(seed: 1) { world in
            try await AMQPConnection.withConnection(world.configuration) { connection in
                try await connection.withChannel { channel in
                    try await channel.enableConfirms()
                    try await channel.declareQueue("durable", durable: true)
                    for mode: BasicProperties in [.init(), .init(deliveryMode: 2)] {
                        try await channel.publishAndConfirm(AMQPMessage("x", properties: mode), to: .queue("durable"))
                    }
                    try await channel.declareQueue("exclusive", exclusive: true)
                }
                await world.apply(.restart)
                return [await world.broker.depth(of: "durable"), await world.broker.depth(of: "exclusive")]
            }
        }
        #expect(depths == [1, nil])
    }

    @Test("A publisher is closed without an error over a link that has gone silent, when everything was confirmed")
    func closeOverSilentLink() async throws {
        _ = try await SimulatedWorld.run(seed: 1) { world in
            try await AMQPClient.withClient(world.configuration, topology: Self.topology) { client in
                try await client.withPublisher { publisher in
                    try await publisher.publish("x", to: .queue("q"))
                    await world.apply(.halfOpen(node: 0, toClient: true, toBroker: true))
                }
            }
        }
    }
}
