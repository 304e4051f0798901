// SPDX-License-Identifier: Apache-2.0
package import EpollConcurrency
public import Glibc

// EventLoop: one thread, one epoll instance, and what others may ask of it. The turn itself is LoopCore.
// It is a TaskExecutor and deliberately not a SerialExecutor: a class that is both pays several enqueues for every
// suspension. No actor is pinned to it; its state is confined to its thread by plain synchronous code.
//
// Life: the loop keeps registered handlers, handlers keep the loop; the thread ends when the last owner is gone and
// nothing is registered, or at shutdown().

/// Is run once on the loop's thread: work without a closure.
package protocol LoopWork: AnyObject, Sendable {
    func runOnLoop()
    /// The loop ends, and this timer with it: it will not run.
    func loopStopped()
}

extension LoopWork {
    package func loopStopped() {}
}

/// A thread that waits for sockets and timers, and runs tasks that prefer it as their executor.
///
/// Code that runs on the loop must not block: it holds up every socket of the loop. Keep a reference to the loop for
/// as long as a task prefers it.
public final class EventLoop: TaskExecutor, Sendable {
    let core: LoopCore
    @usableFromInline let thread: pthread_t
    let chunks = ChunkPool()

    /// The name of the loop's thread, as tools such as `top -H` show it, cut to 15 octets.
    public let name: String

    /// Starts a loop on its own thread.
    ///
    /// - Parameter name: The name of the thread; cut to 15 octets.
    /// - Throws: ``SystemError`` when descriptors or threads run out.
    public init(name: String = "epoll") throws(SystemError) {
        let core = try LoopCore(name: name)
        self.name = name
        self.core = core
        self.thread = try LoopThread.start { core.run() }
        core.executor.initialize(UnownedTaskExecutor(ordinary: self))
    }

    /// A loop that could not start: everything that is asked of it fails with the reason.
    init(name: String, failed error: SystemError) {
        self.name = name
        self.core = LoopCore(name: name, failed: error)
        self.thread = pthread_t()
        self.core.executor.initialize(UnownedTaskExecutor(ordinary: self))
    }

    /// A loop whose turns a simulation takes.
    init(name: String, simulation: Simulation) {
        self.name = name
        self.core = LoopCore(name: name, simulation: simulation)
        self.thread = pthread_t()
        self.core.executor.initialize(UnownedTaskExecutor(ordinary: self))
    }

    deinit { self.core.requestStop() }

    /// Why calls on connections of this loop fail after its end.
    var endedError: NetworkError {
        guard let failure = self.core.startFailure else { return .loopEnded }
        return NetworkError(kind: .other, underlying: failure, text: Self.startFailureText)
    }

    func endedError(connecting target: String) -> NetworkError {
        guard let failure = self.core.startFailure else { return .loopStopped(target) }
        return NetworkError(kind: .other, underlying: failure, text: "\(target): \(Self.startFailureText)")
    }

    private static let startFailureText = "the event loop could not be started; the next call tries it again."

    /// Ends the loop's thread soon; ``stopped()`` waits until it has.
    ///
    /// Connections and listeners of the loop are closed, those who wait for them or for its timers are told, and tasks
    /// that prefer it go on in the global pool.
    public func shutdown() { self.core.requestStop() }

    /// Whether the caller is on the loop's thread, or in a turn of it that a simulation takes.
    @inlinable package var isInLoop: Bool {
        pthread_equal(pthread_self(), self.thread) != 0 || self.thread == pthread_t() && self.isTakingTurn
    }

    @usableFromInline var isTakingTurn: Bool { LoopCore.current === self.core }

    /// The simulation that takes the turns of this loop; nil for a loop with a thread.
    package var simulation: Simulation? { self.core.isSimulated ? self.core.simulation : nil }

    /// What the loop has done since it started.
    public var statistics: LoopStatistics { self.core.counters.snapshot(wakeUps: self.core.wakeUps) }

    /// A loop of the shared group, always the same: for tasks that want to run on one.
    public static var shared: EventLoop { EventLoopGroup.shared.first }

    /// Waits until the loop's thread has left its last turn: no handler, timer or descriptor of it is left.
    ///
    /// - Returns: False when the task was cancelled first.
    @discardableResult
    public func stopped() async -> Bool { await self.core.stopped() }

    /// Runs a job of a task that prefers this loop.
    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if self.isInLoop, !self.core.hasStopped {
            self.core.local.append(.job(job))
        } else if !self.core.enqueueRemote(.job(job)) {
            LoopCore.forward(job)
        }
    }

    /// Has `work` run in the next turn; from any thread.
    ///
    /// False when the loop has ended: it will not run.
    @discardableResult
    package func enqueue(_ work: any LoopWork) -> Bool {
        if self.isInLoop, !self.core.hasStopped {
            self.core.local.append(.work(work))
            return true
        }
        return self.core.enqueueRemote(.work(work))
    }

    /// Has `body` run in the next turn; from any thread.
    ///
    /// False when the loop has ended: it will not run.
    @discardableResult
    package func execute(_ body: @escaping @Sendable () -> Void) -> Bool {
        if self.isInLoop, !self.core.hasStopped {
            self.core.local.append(.body(body))
            return true
        }
        return self.core.enqueueRemote(.body(body))
    }

    /// When the loop last woke: a clock that is read once a turn.
    ///
    /// Loop thread only.
    package var turnTime: MonotonicTime {
        assert(self.isInLoop)
        return self.core.turnTime
    }

    /// Ends the tick at once when its caller is the last of this turn's jobs: what waits for the end need not wait for
    /// the caller's task to suspend, which it is about to do.
    package func endTickIfIdle() {
        if self.isInLoop, self.core.local.isEmpty { self.core.runEndOfTick() }
    }

    /// Has `work` run once, after the jobs of this turn and before the next wait.
    ///
    /// Loop thread only.
    package func atEndOfTick(_ work: any LoopWork) {
        assert(self.isInLoop)
        self.core.endOfTick.append(work)
    }

    /// Has `work` run at `deadline` or a little later, never earlier.
    ///
    /// Loop thread only.
    @discardableResult
    package func schedule(_ work: any LoopWork, at deadline: MonotonicTime) -> TimerID {
        assert(self.isInLoop)
        return self.core.timers.schedule(work, at: deadline)
    }

    /// Forgets a timer; does nothing when it has fired.
    ///
    /// Loop thread only.
    package func cancel(_ timer: TimerID) {
        assert(self.isInLoop)
        self.core.timers.cancel(timer)
    }

    /// Tells `handler` about a descriptor, edge-triggered, until deregistered.
    ///
    /// Loop thread only.
    ///
    /// Readiness that exists already is reported in the next turn. The handler is kept alive by the loop.
    package func register(
        _ descriptor: CInt,
        handler: any SocketHandler
    ) throws(SystemError) -> RegistrationID {
        assert(self.isInLoop)
        return try self.core.register(descriptor, handler)
    }

    /// Whether `readable` of a registration is reported; at first it is.
    ///
    /// Loop thread only.
    ///
    /// Ends and room to write always are. Octets that came meanwhile are reported in the next turn.
    package func setReportsReadable(_ reports: Bool, of registration: RegistrationID) {
        assert(self.isInLoop)
        self.core.setReportsReadable(reports, of: registration)
    }

    /// Ends a registration: no event of it is delivered any more.
    ///
    /// Before the descriptor is closed. Loop thread only.
    ///
    /// The handler is released after the events of this turn.
    package func deregister(_ registration: RegistrationID) {
        assert(self.isInLoop)
        self.core.deregister(registration)
    }

    /// How often another thread had to wake this loop with a system call.
    package var wakeUps: Int { self.core.wakeUps }
}
