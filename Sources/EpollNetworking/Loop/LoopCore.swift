// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import CEpoll
import DequeModule
import Glibc
import Synchronization

// LoopCore: the turn of an EventLoop and its state. It does not keep the EventLoop alive, so that dropping the last
// owner ends the thread. Everything but `remote` and `executor` belongs to the loop thread.
//
//   drain remote -> up to 256 jobs -> timers -> end of tick -> release the deregistered -> epoll_wait -> events
//
// Wake-ups: `sleeping` is set under the lock of the remote queue just before a wait that may block, and taken by the
// first producer, who alone pays for the eventfd; the eventfd is edge-triggered and never read.
//
// Timers: a timeout of epoll_wait is set and cancelled by the kernel with every sleep, a microsecond each time. One that
// is far off waits in a timerfd instead, for which nothing is done until it fires or an earlier one comes.

final class LoopCore: @unchecked Sendable {
    enum Entry {
        case job(UnownedJob)
        case work(any LoopWork)
        case body(@Sendable () -> Void)
    }

    struct Remote {
        var entries: [Entry] = []
        var isSleeping = false
        var isStopRequested = false
        var hasStopped = false
        var wakeUps = 0
        var stopWaiters: [NetworkOutcome<Void>] = []
    }

    /// Set once after the thread has started, before anyone can hand it a job.
    struct ExecutorReference: ~Copyable {
        private let box = Locked<UnownedTaskExecutor?>(nil)
        func initialize(_ value: UnownedTaskExecutor) { self.box.withLock { $0 = value } }
        var value: UnownedTaskExecutor? { self.box.withLock { $0 } }
    }

    private static let jobsPerTurn = 256
    private static let eventsPerWait = 256
    private static let wakeToken = UInt64.max
    private static let timerToken = UInt64.max - 1
    /// A sleep shorter than this, in nanoseconds, is a timeout of its wait.
    private static let shortSleep: UInt64 = 10_000_000

    let executor = ExecutorReference()
    let counters = LoopCounters()
    private let name: String
    /// Why there is no thread and no descriptor: the loop has ended before it began.
    let startFailure: SystemError?
    private let epoll: CInt
    private let wake: CInt
    private let timer: CInt
    private let remote: Locked<Remote>

    // Loop thread only. Unsafe: unchecked where every job, timer or event is a call into a collection, whose check the optimiser
    // cannot remove; no access lasts while other code runs. The others are loads and stores.
    @exclusivity(unchecked) var local: Deque<Entry> = []
    var endOfTick: [any LoopWork] = []
    @exclusivity(unchecked) var timers = TimerQueue<any LoopWork>()
    /// When the last wait ended: near enough for timers and heartbeats, and read once a turn.
    private(set) var turnTime = MonotonicTime.now
    @exclusivity(unchecked) private var registrations = RegistrationTable()
    private var deregistered: [any SocketHandler] = []
    private var spare: [Entry] = []
    private var spareEndOfTick: [any LoopWork] = []
    private var ownExecutor: UnownedTaskExecutor?
    /// Tasks that let the sockets have a turn: they continue after the next wait.
    var deferred: [Suspension<Void>] = []
    private(set) var hasStopped = false
    /// What the timer descriptor is set to, until it has fired.
    private var timerDeadline: MonotonicTime?
    /// Until the kernel says it does not know the call, or a sandbox forbids it.
    private var hasNanosecondWait = true

    /// Whether a simulation runs the turns: no thread, no descriptor.
    let isSimulated: Bool
    /// The simulation; nil for other loops.
    private(set) weak var simulation: Simulation?
    /// The streams of a simulation that report to this loop.
    var simulatedHandlers: [ObjectIdentifier: SimulatedStream] = [:]

    init(name: String) throws(SystemError) {
        self.name = name
        self.startFailure = nil
        self.isSimulated = false
        self.remote = Locked(Remote())
        let epoll = try SystemCall.checking("epoll_create1") { cepoll_create() }
        var wake: CInt = -1
        var timer: CInt = -1
        do {
            wake = try SystemCall.checking("eventfd") { cepoll_eventfd() }
            timer = try SystemCall.checking("timerfd_create") { cepoll_timer() }
            try SystemCall.checking("epoll_ctl") { cepoll_add(epoll, wake, Self.wakeToken) }
            try SystemCall.checking("epoll_ctl") { cepoll_add(epoll, timer, Self.timerToken) }
        } catch {
            if timer >= 0 { _ = cepoll_close(timer) }
            if wake >= 0 { _ = cepoll_close(wake) }
            _ = cepoll_close(epoll)
            throw error
        }
        self.epoll = epoll
        self.wake = wake
        self.timer = timer
    }

    /// A loop without a thread: one that has ended because it could not start, or one that a simulation runs.
    private init(name: String, failure: SystemError?, simulation: Simulation?) {
        self.name = name
        self.startFailure = failure
        self.isSimulated = simulation != nil
        self.epoll = -1
        self.wake = -1
        self.timer = -1
        self.remote = Locked(Remote(hasStopped: failure != nil))
        self.hasStopped = failure != nil
        self.simulation = simulation
    }

    convenience init(name: String, failed error: SystemError) {
        self.init(name: name, failure: error, simulation: nil)
    }

    convenience init(name: String, simulation: Simulation) {
        self.init(name: name, failure: nil, simulation: simulation)
    }

    deinit {
        for descriptor in [self.timer, self.wake, self.epoll] where descriptor >= 0 { _ = cepoll_close(descriptor) }
    }
}

// MARK: - From any thread

extension LoopCore {
    /// False when the loop has ended; the entry is then dropped.
    func enqueueRemote(_ entry: Entry) -> Bool {
        enum Outcome { case queued, queuedAsleep, refused }
        if self.isSimulated, let simulation = self.simulation, !simulation.isCurrent {
            simulation.escaped("loop \(self.name) was called")
        }
        let outcome = self.remote.withLock { remote -> Outcome in
            if remote.hasStopped { return .refused }
            if remote.isStopRequested, case .job = entry { return .refused }
            remote.entries.append(entry)
            return remote.takeSleeping() ? .queuedAsleep : .queued
        }
        if outcome == .queuedAsleep { _ = cepoll_eventfd_signal(self.wake) }
        return outcome != .refused
    }

    func requestStop() {
        let isAsleep = self.remote.withLock { remote -> Bool in
            remote.isStopRequested = true
            return remote.takeSleeping()
        }
        if isAsleep { _ = cepoll_eventfd_signal(self.wake) }
    }

    /// Waits until the thread has left its last turn; false when the task was cancelled first.
    func stopped() async -> Bool {
        let outcome = NetworkOutcome<Void>()
        let hasStopped = self.remote.withLock { remote -> Bool in
            if !remote.hasStopped { remote.stopWaiters.append(outcome) }
            return remote.hasStopped
        }
        if hasStopped { return true }
        do throws(NetworkError) {
            try await outcome.value(cancelled: .taskCancelled("Waiting for the end of a loop"))
            return true
        } catch {
            self.remote.withLock { remote in remote.stopWaiters.removeAll { $0 === outcome } }
            return false
        }
    }

    var wakeUps: Int { self.remote.withLock { $0.wakeUps } }

    /// Runs a job of an ended loop in the global pool: late, but not never.
    static func forward(_ job: UnownedJob) {
        if let simulation = SimulationContext.current?.services {
            simulation.enqueueGlobal(job)
        } else {
            globalConcurrentExecutor.enqueue(job)
        }
    }
}

extension LoopCore.Remote {
    fileprivate mutating func takeSleeping() -> Bool {
        guard self.isSleeping else { return false }
        self.isSleeping = false
        self.wakeUps += 1
        return true
    }
}

// MARK: - The loop thread

extension LoopCore {
    func run() {
        _ = String(self.name.prefix(15)).withCString { cepoll_name_thread($0) }
        // The kernel rounds the timeouts of ordinary threads up by 50 microseconds.
        _ = cepoll_set_timer_slack(1000)
        cepoll_set_current_loop(Unmanaged.passUnretained(self).toOpaque())
        defer { cepoll_set_current_loop(nil) }
        withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: Self.eventsPerWait) { events in
            guard let base = events.baseAddress else { return }
            while true {
                if self.drainRemote() { break }
                self.runJobs()
                self.runTimers()
                self.runEndOfTick()
                self.releaseDeregistered()
                let count = SystemCall.retrying { self.wait(base) }
                // A wait can only fail by our own mistake (EBADF, EFAULT): stop rather than spin.
                if count < 0 { break }
                self.dispatch(base, Int(count))
                self.resumeDeferred()
            }
        }
        self.stop()
    }

    /// Moves what others queued to the local queue; true when the loop is to end.
    private func drainRemote() -> Bool {
        let stop = self.remote.withLock { remote -> Bool in
            remote.isSleeping = false
            if !remote.entries.isEmpty { swap(&remote.entries, &self.spare) }
            return remote.isStopRequested
        }
        if self.spare.isEmpty { return stop }
        for entry in self.spare { self.local.append(entry) }
        self.spare.removeAll(keepingCapacity: self.spare.count <= 4096)
        return stop
    }

    private func runJobs() {
        var budget = Self.jobsPerTurn
        if self.local.isEmpty { return }
        if self.ownExecutor == nil { self.ownExecutor = self.executor.value }
        guard let executor = self.ownExecutor else { return }
        defer { self.counters.jobs.add(UInt64(Self.jobsPerTurn - budget)) }
        while budget > 0, let entry = self.local.popFirst() {
            budget -= 1
            switch entry {
            case .job(let job): job.runSynchronously(on: executor)
            case .work(let work): work.runOnLoop()
            case .body(let body): body()
            }
        }
    }

    private func runTimers() {
        if self.timers.isEmpty { return }
        let now = self.turnTime
        // As many as there are: a timer that schedules itself anew in the past waits for the next turn.
        var budget = self.timers.count
        while budget > 0, let work = self.timers.popDue(at: now) {
            budget -= 1
            self.counters.timers.add()
            #if DELIBERATE_FAULTS
                if DeliberateFault.happens(.timerLost) { continue }
            #endif
            work.runOnLoop()
        }
    }

    func runEndOfTick() {
        // Work may ask for more work at the end of the tick; a few rounds, then sockets get their turn.
        var rounds = 4
        while rounds > 0, !self.endOfTick.isEmpty {
            rounds -= 1
            // Two arrays take turns, so that a tick allocates nothing.
            var works = self.spareEndOfTick
            self.spareEndOfTick = []
            swap(&works, &self.endOfTick)
            works.drain { $0.runOnLoop() }
            self.spareEndOfTick = works
        }
    }

    /// How long the loop may sleep for events.
    private enum Sleep { case none, until(MonotonicTime), untilWoken }

    /// Announces that the loop sleeps, unless there is something to do.
    private func mayHaveToSleep(at now: MonotonicTime) -> Sleep {
        if !self.local.isEmpty || !self.endOfTick.isEmpty || !self.deferred.isEmpty { return .none }
        let deadline = self.timers.nextDeadline
        if let deadline, deadline <= now { return .none }
        let maySleep = self.remote.withLock { remote -> Bool in
            remote.isSleeping = remote.entries.isEmpty && !remote.isStopRequested
            return remote.isSleeping
        }
        guard maySleep else { return .none }
        return deadline.map { .until($0) } ?? .untilWoken
    }

    /// Asks the kernel for events, and sleeps until there are some, as long as there is nothing else to do.
    private func wait(_ events: UnsafeMutablePointer<epoll_event>) -> CInt {
        self.counters.waits.add()
        let start = MonotonicTime.now
        let sleep = self.mayHaveToSleep(at: start)
        if case .none = sleep {
            self.turnTime = start
            return cepoll_wait(self.epoll, events, CInt(Self.eventsPerWait), 0)
        }
        self.counters.sleeps.add()
        self.counters.sleepStart.store(start.nanoseconds, ordering: .relaxed)
        defer {
            self.counters.sleepStart.store(0, ordering: .relaxed)
            self.turnTime = MonotonicTime.now
            self.counters.idleNanoseconds.add(self.turnTime.nanoseconds &- start.nanoseconds)
        }
        if case .until(let deadline) = sleep, !self.isTimerSet(for: deadline, at: start) {
            return self.wait(events, nanoseconds: deadline.nanoseconds - start.nanoseconds)
        }
        return cepoll_wait(self.epoll, events, CInt(Self.eventsPerWait), -1)
    }

    /// Whether the timer descriptor ends a sleep at `deadline` or earlier; sets it where that is far off.
    private func isTimerSet(for deadline: MonotonicTime, at now: MonotonicTime) -> Bool {
        if let timerDeadline = self.timerDeadline, timerDeadline <= deadline, timerDeadline > now { return true }
        let remaining = deadline.nanoseconds - now.nanoseconds
        guard remaining >= Self.shortSleep else { return false }
        // An hour at most: the loop looks again, and no kernel has to add up to the end of time.
        let time = now.nanoseconds + min(remaining, 3600 * 1_000_000_000)
        guard cepoll_timer_set(self.timer, time) == 0 else { return false }
        self.timerDeadline = MonotonicTime(nanoseconds: time)
        return true
    }

    /// Waits for events, so many nanoseconds at most.
    private func wait(_ events: UnsafeMutablePointer<epoll_event>, nanoseconds: UInt64) -> CInt {
        let nanoseconds = min(nanoseconds, 3600 * 1_000_000_000)
        if self.hasNanosecondWait {
            let count = cepoll_wait_nanoseconds(self.epoll, events, CInt(Self.eventsPerWait), nanoseconds)
            // Sandboxes that do not know the call forbid it.
            if count != -ENOSYS, count != -EPERM { return count }
            self.hasNanosecondWait = false
        }
        // Rounded up: a timer is never early.
        let milliseconds = CInt(clamping: nanoseconds / 1_000_000 + (nanoseconds % 1_000_000 == 0 ? 0 : 1))
        return cepoll_wait(self.epoll, events, CInt(Self.eventsPerWait), milliseconds)
    }

    private func dispatch(_ events: UnsafeMutablePointer<epoll_event>, _ count: Int) {
        self.counters.events.add(UInt64(count))
        for index in 0..<count {
            let token = cepoll_event_token(events + index)
            if token == Self.wakeToken { continue }
            if token == Self.timerToken {
                self.timerDeadline = nil
                continue
            }
            // Looked up one by one: an earlier handler of this batch may have removed a later one.
            let handler = self.registrations.handler(of: RegistrationID(token: token))
            handler?.socketReady(ReadyEvents(rawValue: cepoll_event_bits(events + index)))
        }
    }

    private func resumeDeferred() {
        while let continuation = self.deferred.popLast() { continuation.resume() }
    }

    /// The loop of the calling thread.
    static var current: LoopCore? {
        // Unsafe: set and taken back by the thread that runs the loop, which keeps it meanwhile.
        cepoll_current_loop().map { Unmanaged<LoopCore>.fromOpaque($0).takeUnretainedValue() }
    }

    func register(_ descriptor: CInt, _ handler: any SocketHandler) throws(SystemError) -> RegistrationID {
        if descriptor < 0 { throw SystemError(code: -EBADF, call: "epoll_ctl") }
        let id = self.registrations.insert(handler, for: descriptor)
        let code = cepoll_add(self.epoll, descriptor, id.token)
        if code < 0 {
            if let handler = self.registrations.remove(id) { self.deregistered.append(handler) }
            throw SystemError(code: code, call: "epoll_ctl")
        }
        return id
    }

    func setReportsReadable(_ reports: Bool, of id: RegistrationID) {
        guard self.registrations.handler(of: id) != nil else { return }
        // It can only fail for a descriptor that is not registered.
        _ = cepoll_modify(self.epoll, id.descriptor, id.token, reports ? 1 : 0)
    }

    var registrationCount: Int { self.registrations.count }

    func deregister(_ id: RegistrationID) {
        guard let handler = self.registrations.remove(id) else { return }
        _ = cepoll_delete(self.epoll, id.descriptor)
        self.deregistered.append(handler)
    }

    /// Not while events are dispatched: the swap is for a handler whose last act is to deregister another.
    private func releaseDeregistered() {
        while !self.deregistered.isEmpty {
            var released: [any SocketHandler] = []
            swap(&released, &self.deregistered)
        }
    }

    private func stop() {
        while true {
            for handler in self.registrations.removeAll() {
                handler.socketReady(.loopStopped)
                self.deregistered.append(handler)
            }
            self.stopSimulatedStreams()
            _ = self.drainRemote()
            self.resumeDeferred()
            while let entry = self.local.popFirst() {
                switch entry {
                case .job(let job): Self.forward(job)
                case .work(let work): work.runOnLoop()
                case .body(let body): body()
                }
            }
            self.runEndOfTick()
            self.releaseDeregistered()
            if !self.local.isEmpty || !self.endOfTick.isEmpty || !self.deferred.isEmpty || self.registrations.count > 0
            {
                continue
            }
            self.hasStopped = true
            let waiters = self.remote.withLock { remote -> [NetworkOutcome<Void>]? in
                guard remote.entries.isEmpty else { return nil }
                remote.hasStopped = true
                defer { remote.stopWaiters = [] }
                return remote.stopWaiters
            }
            guard let waiters else {
                self.hasStopped = false
                continue
            }
            self.releaseDeregistered()
            // Taken out first: what is told, or released with a timer, may want to cancel it.
            var dropped = TimerQueue<any LoopWork>()
            swap(&dropped, &self.timers)
            while let work = dropped.popDue(at: .distantFuture) { work.loopStopped() }
            for waiter in waiters { waiter.decide(.success(())) }
            return
        }
    }
}

// MARK: - Turns of a simulation

extension LoopCore {
    /// Whether a turn would do something.
    func canRun(at now: MonotonicTime) -> Bool {
        if !self.local.isEmpty || !self.endOfTick.isEmpty || !self.deferred.isEmpty { return true }
        if let deadline = self.timers.nextDeadline, deadline <= now { return true }
        return self.remote.withLock { !$0.entries.isEmpty || $0.isStopRequested }
    }

    /// A turn without a wait.
    ///
    /// - Returns: Whether the loop has ended.
    func turn(at now: MonotonicTime) -> Bool {
        cepoll_set_current_loop(Unmanaged.passUnretained(self).toOpaque())
        defer { cepoll_set_current_loop(nil) }
        self.turnTime = now
        if self.drainRemote() {
            self.stop()
            return true
        }
        self.runJobs()
        self.runTimers()
        self.runEndOfTick()
        self.releaseDeregistered()
        self.resumeDeferred()
        return false
    }

    private func stopSimulatedStreams() {
        let streams = self.simulatedHandlers.values.sorted { $0.order < $1.order }
        self.simulatedHandlers = [:]
        for stream in streams { stream.loopStopped() }
    }
}
