// SPDX-License-Identifier: Apache-2.0
package import EpollConcurrency

// Simulation: one thread that runs tasks, event loops, timers and streams in an order and at times that follow from a seed.
// Nothing waits: when nothing can run, the clock jumps to the next timer. Loops are those of the library, without a thread
// and without epoll; streams are in memory (SimulatedStream), and names and connects are simulated (SimulatedNetwork).
// Confined to its thread, but for `executor`, `foreign` and `outcome`.
//
//   ready jobs of the pool + loops with something to do + events that are due  ->  one of them, chosen by the seed
//   none  ->  the clock jumps; no timer either  ->  stuck

package final class Simulation: SimulationServices, @unchecked Sendable {
    /// How a simulation ended.
    package enum Ending: Equatable, Sendable {
        /// The root task has returned.
        case finished
        /// Nothing can run and no timer is set, but the root task has not returned.
        case stuck
        /// The clock has passed the limit.
        case outOfTime
        /// So many steps were taken.
        case outOfSteps
    }

    private static let start = MonotonicTime(nanoseconds: 1_000_000_000_000)

    private let context = SimulationContext(startingAt: Simulation.start)
    package let network: SimulatedNetwork
    /// The loops of the client's connections: what `EventLoopGroup.shared` is inside.
    package private(set) var group: EventLoopGroup?
    package private(set) var trace = SimulationTrace()
    package private(set) var steps = 0
    /// Streams and timers that were left behind when the root task had ended.
    package private(set) var leftovers: [String] = []
    /// Jobs that another thread gave to this simulation: they are not in the order of the seed.
    package var escapes: [String] { self.foreign.withLock { $0.notes } }

    private var scheduling: SeededRandom
    private var numbers: SeededRandom
    private var ready: [UnownedJob] = []
    private var loops: [EventLoop] = []
    private var events = TimerQueue<() -> Void>()
    private let pool = PoolExecutor()
    private let foreign = Locked(Foreign())
    private var isFinished = false
    /// A limit was reached; what is left may end.
    private var isOver = false
    private let timeLimit: MonotonicTime
    private let stepLimit: Int

    private struct Foreign {
        var jobs: [UnownedJob] = []
        var notes: [String] = []
    }

    /// Runs what prefers the pool.
    private final class PoolExecutor: TaskExecutor, @unchecked Sendable {
        // Unsafe: set once, before any task knows the executor.
        weak var simulation: Simulation?

        func enqueue(_ job: consuming ExecutorJob) {
            let job = UnownedJob(job)
            guard let simulation else { return LoopCore.forward(job) }
            if simulation.context.isCurrent { return simulation.ready.append(job) }
            simulation.foreign.withLock { $0.jobs.append(job) }
            simulation.escaped("a task was resumed")
        }
    }

    /// - Parameters:
    ///   - seed: What everything follows from.
    ///   - timeLimit: Simulated time after which the run ends.
    ///   - stepLimit: Steps after which the run ends.
    package init(seed: UInt64, timeLimit: Duration = .seconds(24 * 3600), stepLimit: Int = 50_000_000) {
        var random = SeededRandom(seed: seed)
        self.scheduling = random.split()
        self.numbers = random.split()
        self.network = SimulatedNetwork(random: random.split())
        self.timeLimit = Self.start + timeLimit
        self.stepLimit = stepLimit
        self.context.services = self
        self.pool.simulation = self
        self.network.owner = self
    }

    /// The simulation that the calling thread runs.
    package static var running: Simulation? { SimulationContext.current?.services as? Simulation }

    /// Whether the calling thread runs this simulation.
    var isCurrent: Bool { self.context.isCurrent }

    /// The simulated time.
    package private(set) var now: MonotonicTime {
        get { self.context.now }
        set { self.context.now = newValue }
    }

    /// Simulated time since the start.
    package var elapsed: Duration { self.now - Self.start }

    package func random() -> UInt64 { self.numbers.next() }
    package func enqueueGlobal(_ job: UnownedJob) { self.ready.append(job) }
    package var executor: any TaskExecutor { self.pool }

    /// Makes a loop of this simulation.
    package func makeLoop(name: String) -> EventLoop {
        let loop = EventLoop(name: name, simulation: self)
        self.loops.append(loop)
        return loop
    }

    /// Adds a line to the trace.
    package func note(_ line: @autoclosure () -> String) { self.trace.note(line(), at: self.elapsed) }

    /// Adds octets that have arrived to the trace.
    func arrived(_ octets: ArraySlice<UInt8>) { self.trace.mix(octets) }

    /// Has `body` run at a time of the simulation.
    @discardableResult
    package func schedule(after delay: Duration, _ body: @escaping () -> Void) -> TimerID {
        self.events.schedule(body, at: self.now + delay)
    }

    /// Something from another thread reached this simulation.
    func escaped(_ what: String) {
        self.foreign.withLock { foreign in
            if foreign.notes.count < 16 { foreign.notes.append("\(what) by a thread outside of the simulation") }
        }
    }
}

// MARK: - Running

extension Simulation {
    /// Runs `body` and everything it starts, on a new thread, until it returns or nothing is left to do.
    ///
    /// - Parameters:
    ///   - loopCount: Loops of `EventLoopGroup.shared` inside.
    ///   - body: The root task.
    /// - Returns: How it ended.
    /// - Throws: The thread could not be started.
    package func run(loopCount: Int, _ body: @escaping @Sendable () async -> Void) async throws(SystemError) -> Ending {
        let result = await withSuspension { (waiter: Suspension<Result<Ending, SystemError>>) in
            do throws(SystemError) {
                try LoopThread.start {
                    let ending = self.context.run {
                        self.group = EventLoopGroup((0..<loopCount).map { self.makeLoop(name: "client-\($0)") })
                        let root = Task(executorPreference: self.executor) {
                            await body()
                            self.isFinished = true
                        }
                        return self.runSteps(root)
                    }
                    waiter.resume(returning: .success(ending))
                }
            } catch {
                waiter.resume(returning: .failure(error))
            }
        }
        return try result.get()
    }

    /// Runs until the root task has returned; a root task that cannot return is cancelled first, and then left.
    private func runSteps(_ root: Task<Void, Never>) -> Ending {
        var ending: Ending?
        var grace = 1_000_000
        while !self.isFinished {
            self.takeForeign()
            if ending != nil {
                grace -= 1
                if grace == 0 { break }
            }
            if self.step() { continue }
            if ending != nil { break }
            ending = self.now >= self.timeLimit ? .outOfTime : self.steps >= self.stepLimit ? .outOfSteps : .stuck
            self.note("the simulation ends: \(ending.map { "\($0)" } ?? "")")
            root.cancel()
        }
        // Lingering streams and timers of calls that are over end in their own time.
        let quiet = self.now + .seconds(120)
        while ending == nil, self.now < quiet, !self.findLeftovers().isEmpty, self.step() {}
        self.leftovers = self.findLeftovers()
        self.shutDownLoops()
        return ending ?? .finished
    }

    /// Takes one step; false when there is none.
    private func step() -> Bool {
        self.steps += 1
        var running: [Int] = []
        while true {
            if !self.isOver, self.steps >= self.stepLimit || self.now >= self.timeLimit {
                self.isOver = true
                return false
            }
            while let event = self.events.popDue(at: self.now) { event() }
            running.removeAll(keepingCapacity: true)
            for index in self.loops.indices where self.loops[index].core.canRun(at: self.now) { running.append(index) }
            let count = self.ready.count + running.count
            if count > 0 {
                self.run(self.scheduling.below(count), running)
                // Work takes time, so that a task that spins does not stop the clock.
                self.now = self.now + .nanoseconds(200 + self.scheduling.below(1800))
                return true
            }
            guard let next = self.nextTime else { return false }
            self.now = max(self.now, next)
            self.trace.mix(self.now.nanoseconds)
        }
    }

    private func run(_ choice: Int, _ running: [Int]) {
        self.trace.mix(UInt64(choice))
        if choice < self.ready.count {
            self.ready.swapAt(choice, self.ready.count - 1)
            // Also a job of a task without a preference: on the global pool its next yield would leave the simulation.
            self.ready.removeLast().runSynchronously(on: self.pool.asUnownedTaskExecutor())
        } else {
            let index = running[choice - self.ready.count]
            if self.loops[index].core.turn(at: self.now) { self.loops.remove(at: index) }
        }
    }

    /// When the next timer is due.
    private var nextTime: MonotonicTime? {
        var next = self.events.nextDeadline
        for loop in self.loops {
            guard let deadline = loop.core.timers.nextDeadline else { continue }
            next = next.map { min($0, deadline) } ?? deadline
        }
        return next
    }

    private func takeForeign() {
        let jobs = self.foreign.withLock { foreign -> [UnownedJob] in
            if foreign.jobs.isEmpty { return [] }
            defer { foreign.jobs = [] }
            return foreign.jobs
        }
        self.ready += jobs
    }

    private func shutDownLoops() {
        for loop in self.loops { loop.shutdown() }
        var budget = 100_000
        while budget > 0, !(self.loops.isEmpty && self.ready.isEmpty) {
            budget -= 1
            self.takeForeign()
            guard self.step() else { break }
        }
    }

    private func findLeftovers() -> [String] {
        var left: [String] = []
        for loop in self.loops where loop.core.timers.count > 0 {
            left.append("\(loop.core.timers.count) timers of loop \(loop.name)")
        }
        if self.network.openStreams > 0 { left.append("\(self.network.openStreams) open streams") }
        return left
    }
}
