// SPDX-License-Identifier: Apache-2.0
public import AMQP091
import EpollConcurrency
import EpollNetworking

// SimulatedWorld: a broker, a network and an application in one simulation: what a test of a service sees of it.
// Not here: the order of steps and the clock (Simulation), links and octets (SimulatedNetwork), the faults (Disturbance),
// many seeds and smaller failures (SimulatedWorld+Explore).

/// A broker, a network and the code under test, in simulated time, in an order that follows from a seed.
///
/// Everything runs on one thread. The clock jumps to the next timer when nothing can run, so an hour of reconnects takes
/// milliseconds. Which of the tasks that could run does, how octets are cut, how long they take and which faults happen
/// follows from the seed: the same seed gives the same run, octet by octet.
///
/// ```swift
/// try await SimulatedWorld.run(seed: 7, .init(disturbances: 10)) { world in
///     try await AMQPClient.withClient(world.configuration, topology: topology) { client in … }
/// }
/// ```
///
/// Inside, `AMQPClient`, `AMQPConnection` and `StreamConnection` connect to the world's nodes. Code must not leave the
/// world: `Task.sleep` without a clock, `DispatchQueue`, threads, real sockets and files wait for real time, and whatever
/// resumes a task of the world from outside ends the run with ``SimulationFailure``. Use ``clock`` and ``sleep(for:)``.
public final class SimulatedWorld: Sendable {
    /// Every option of a world.
    public struct Options: Sendable {
        /// The nodes, 1...9: names by which clients reach the one broker.
        public var nodes = 1
        /// The broker's options; its endpoints and certificates are not used.
        public var broker = InProcessBroker.Options()
        /// The time octets, connects and ends take in one direction.
        public var latency: ClosedRange<Duration> = .microseconds(50)...Duration.milliseconds(2)
        /// Octets on the way and unread in one direction of a link at most.
        public var capacity = 64 << 10
        /// How many disturbances happen; none by default.
        public var disturbances = 0
        /// The time in which they happen, from the start of the world.
        public var disturbedTime: Duration = .seconds(60)
        /// Queues that disturbances may delete; none by default.
        public var deletableQueues: [String] = []
        /// Which disturbances are kept; nil for any.
        public var keeps: (@Sendable (Disturbance) -> Bool)?
        /// The simulated time after which the run fails.
        public var timeLimit: Duration = .seconds(4 * 3600)
        /// The steps after which the run fails.
        public var stepLimit = 20_000_000
        /// The numbers of the disturbances that happen, for a smaller failure; nil for all.
        var kept: Set<Int>?

        /// A world of one node without disturbances.
        public init(nodes: Int = 1, disturbances: Int = 0) {
            self.nodes = nodes
            self.disturbances = disturbances
        }
    }

    /// The time and the steps of a run.
    public struct Report: Hashable, Sendable {
        /// The simulated time.
        public let elapsed: Duration
        /// The steps: jobs of tasks and turns of loops.
        public let steps: Int
        /// Equal for equal runs: of every decision, time and octet.
        public let digest: UInt64
        /// The last events.
        package let trace: [String]
    }

    /// The broker: its faults and its inspection.
    public let broker: InProcessBroker
    /// The time of the world.
    public let clock: SimulatedClock
    /// The seed.
    public let seed: UInt64
    /// The disturbances of this run, in the order of their times.
    public let disturbances: [TimedDisturbance]

    let simulation: Simulation
    private let isCalm = ObservedValue(false)
    private let nodes: [AMQPServerAddress]

    private init(_ simulation: Simulation, seed: UInt64, _ options: Options) {
        self.simulation = simulation
        self.seed = seed
        self.clock = SimulatedClock(simulation: simulation)
        let count = min(max(1, options.nodes), 9)
        self.nodes = (1...count).map { .host("node\($0)", port: 5672) }
        simulation.network.latency = options.latency
        simulation.network.capacity = options.capacity
        self.broker = InProcessBroker(options.broker, in: simulation, at: self.nodes)
        var random = SeededRandom(seed: seed ^ 0xD15_7BED)
        let times = (0..<max(0, options.disturbances)).map { _ in
            random.duration(in: .zero...max(.nanoseconds(1), options.disturbedTime))
        }.sorted()
        self.disturbances = times.enumerated().compactMap { number, time in
            let disturbance = Disturbance.random(nodes: count, queues: options.deletableQueues, using: &random)
            guard options.keeps?(disturbance) ?? true, options.kept?.contains(number) ?? true else { return nil }
            return TimedDisturbance(time: time, disturbance: disturbance)
        }
    }

    /// Runs `body` in a new world.
    ///
    /// - Parameters:
    ///   - seed: What everything follows from.
    ///   - options: All options.
    ///   - body: The code under test and its checks; its tasks stay in the world.
    /// - Returns: The result of `body`, and what the run has taken.
    /// - Throws: ``SimulationFailure``: `body` threw, nothing could run any more, a limit was reached, the world was left, or
    ///   streams or timers were left behind.
    @discardableResult
    public static func run<Result: Sendable>(
        seed: UInt64,
        _ options: Options = Options(),
        _ body: @escaping @Sendable (SimulatedWorld) async throws -> Result
    ) async throws(SimulationFailure) -> (result: Result, report: Report) {
        guard GlobalPool.isRedirected else {
            let reason = "this Swift runtime cannot be simulated: it was tried with Swift 6.3"
            throw SimulationFailure(seed: seed, reason: reason)
        }
        let simulation = Simulation(seed: seed, timeLimit: options.timeLimit, stepLimit: options.stepLimit)
        let outcome = Locked<Swift.Result<Result, any Error>?>(nil)
        let disturbances = Locked<[TimedDisturbance]>([])
        let connections = Locked(0)
        let ending: Simulation.Ending
        do throws(SystemError) {
            ending = try await simulation.run(loopCount: 2) {
                let world = SimulatedWorld(simulation, seed: seed, options)
                disturbances.withLock { $0 = world.disturbances }
                let storm = Task(executorPreference: simulation.executor) { await world.disturb() }
                do {
                    let result = try await body(world)
                    outcome.withLock { $0 = .success(result) }
                } catch {
                    simulation.note("the body threw \(error)")
                    outcome.withLock { $0 = .failure(error) }
                }
                storm.cancel()
                await storm.value
                let open = await world.openConnections()
                connections.withLock { $0 = open }
                await world.broker.shutdown()
            }
        } catch {
            throw SimulationFailure(seed: seed, reason: "the world could not be started: \(error)")
        }
        let report = Report(
            elapsed: simulation.elapsed,
            steps: simulation.steps,
            digest: simulation.trace.digest,
            trace: simulation.trace.text
        )
        func failure(_ reason: String, _ error: (any Error)? = nil) -> SimulationFailure {
            SimulationFailure(
                seed: seed,
                reason: reason,
                underlying: error,
                elapsed: report.elapsed,
                disturbances: disturbances.withLock { $0 },
                trace: simulation.trace.text
            )
        }
        if let escape = simulation.escapes.first { throw failure("the world was left: \(escape)") }
        switch (ending, outcome.withLock { $0 }) {
        case (.finished, .success(let result)?):
            let open = connections.withLock { $0 }
            if open > 0 { throw failure("\(open) open connections left behind") }
            if let left = simulation.leftovers.first { throw failure("\(left) left behind") }
            return (result, report)
        case (_, .failure(let error)?) where ending == .finished:
            throw failure("\(error)", error)
        case (.stuck, _):
            throw failure("nothing can run any more: tasks wait for each other, or for something outside of the world")
        case (.outOfTime, _):
            throw failure("not done after \(options.timeLimit) of simulated time")
        case (.outOfSteps, _), (.finished, _):
            throw failure("not done after \(options.stepLimit) steps")
        }
    }

    /// Connections that are not closed two minutes after the body has returned.
    private func openConnections() async -> Int {
        let end = self.clock.now.advanced(by: .seconds(120))
        while self.simulation.network.openClientStreams > 0, self.clock.now < end {
            guard (try? await self.sleep(for: .milliseconds(100))) != nil else { break }
        }
        return self.simulation.network.openClientStreams
    }

    // MARK: what the code under test uses

    /// Options of a client that connects to the nodes of this world.
    public var configuration: AMQPClientConfiguration {
        var configuration = self.broker.configuration
        configuration.connectTimeout = .seconds(10)
        configuration.operationTimeout = .seconds(30)
        return configuration
    }

    /// Waits for simulated time; throws `CancellationError` when the task is cancelled.
    public func sleep(for duration: Duration) async throws {
        try await self.clock.sleep(until: self.clock.now.advanced(by: duration), tolerance: nil)
    }

    /// A random number that follows from the seed.
    public func random(in range: Range<Int>) -> Int {
        var numbers = RandomNumbers()
        return Int.random(in: range, using: &numbers)
    }

    /// Adds a line to the trace, which is printed when the run fails.
    public func note(_ line: String) { self.simulation.note(line) }

    // MARK: disturbances

    private func disturb() async {
        for event in self.disturbances {
            let delay = event.time - self.simulation.elapsed
            if delay > .zero {
                do { try await self.sleep(for: delay) } catch { return await self.calm() }
            }
            if self.isCalm.withLock({ $0 }) { return }
            await self.apply(event.disturbance)
        }
    }

    /// Has a disturbance happen now.
    public func apply(_ disturbance: Disturbance) async {
        self.note("disturbance: \(disturbance)")
        switch disturbance {
        case .cut(let node): for link in self.links(node) { link.cut() }
        case .halfOpen(let node, let toClient, let toBroker):
            for link in self.links(node) { link.loseSilently(toClient: toClient, toServer: toBroker) }
        case .stall(let node, let time): for link in self.links(node) { link.stall(for: time) }
        case .refuse(let node, let time):
            for link in self.links(node) { link.cut() }
            self.set(.refused, of: node, for: time)
        case .silence(let node, let time): self.set(.silent, of: node, for: time)
        case .forgetName(let node, let time): self.set(.unknown, of: node, for: time)
        case .freeze(let time):
            await self.broker.pause()
            self.later(time) { await $0.resume() }
        case .restart: await self.broker.restart()
        case .closeConnections: await self.broker.closeConnections()
        case .closeChannels: await self.broker.closeChannels(.preconditionFailed, "disturbed")
        case .alarm(let time):
            await self.broker.setAlarm("low on memory")
            self.later(time) { await $0.setAlarm(nil) }
        case .nack(let count): await self.broker.confirm(.nackNext(count))
        case .delayConfirms(let time):
            await self.broker.confirm(.delay(.milliseconds(500)))
            self.later(time) { await $0.confirm(.release) }
        case .deleteQueue(let queue): await self.broker.deleteQueue(queue)
        }
    }

    private func links(_ node: Int) -> [SimulatedLink] {
        guard self.nodes.indices.contains(node) else { return [] }
        return self.simulation.network.links(to: self.nodes[node].description)
    }

    private func set(_ reachability: SimulatedNetwork.Reachability, of node: Int, for time: Duration) {
        guard self.nodes.indices.contains(node) else { return }
        let address = self.nodes[node].description
        self.simulation.network.set(reachability, of: address)
        self.simulation.schedule(after: time) { [network = self.simulation.network] in
            network.set(.up, of: address)
        }
    }

    private func later(_ time: Duration, _ body: @escaping @Sendable (InProcessBroker) async -> Void) {
        self.simulation.schedule(after: time) { [simulation = self.simulation, broker = self.broker] in
            Task(executorPreference: simulation.executor) { await body(broker) }
        }
    }

    /// Ends the disturbances: those that last, and those to come.
    ///
    /// Lost messages stay lost.
    public func calm() async {
        self.isCalm.withLock { $0 = true }
        for node in self.nodes { self.simulation.network.set(.up, of: node.description) }
        await self.broker.resume()
        await self.broker.setAlarm(nil)
        await self.broker.confirm(.release)
    }
}
