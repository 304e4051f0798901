// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import Synchronization

// LoopStatistics: what a loop has done since it started, counted by its own thread and read by any.

/// Counts of one event loop since its start.
///
/// The difference of two values tells about the time between them.
public struct LoopStatistics: Hashable, Sendable {
    /// How often the loop asked the kernel for events.
    public var waits: UInt64 = 0
    /// How often it slept for them.
    public var sleeps: UInt64 = 0
    /// Events the kernel reported.
    public var events: UInt64 = 0
    /// Jobs of tasks, and work of the library, that ran on the loop's thread.
    public var jobs: UInt64 = 0
    /// Timers that fired.
    public var timers: UInt64 = 0
    /// How often another thread had to wake the loop with a system call.
    public var wakeUps: UInt64 = 0
    /// Time spent asleep.
    public var idleTime: Duration = .zero
    /// Time since the start.
    public var totalTime: Duration = .zero

    /// No loop, no time.
    public init() {}

    /// Events per wait that was answered by some, or 0.
    public var eventsPerWait: Double { self.waits == 0 ? 0 : Double(self.events) / Double(self.waits) }

    /// The share of the time the loop was not asleep, 0 to 1.
    public var busyShare: Double {
        self.totalTime <= .zero ? 0 : min(1, max(0, 1 - self.idleTime / self.totalTime))
    }

    /// What happened since `earlier`.
    public func since(_ earlier: LoopStatistics) -> LoopStatistics {
        var difference = self
        difference.waits &-= earlier.waits
        difference.sleeps &-= earlier.sleeps
        difference.events &-= earlier.events
        difference.jobs &-= earlier.jobs
        difference.timers &-= earlier.timers
        difference.wakeUps &-= earlier.wakeUps
        difference.idleTime -= earlier.idleTime
        difference.totalTime -= earlier.totalTime
        return difference
    }
}

/// A count that one thread adds to and any may read: no locked instruction.
struct LoopCounter: ~Copyable {
    private let value = Atomic<UInt64>(0)

    /// The loop's thread only.
    func add(_ amount: UInt64 = 1) {
        self.value.store(self.value.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }

    var count: UInt64 { self.value.load(ordering: .relaxed) }
}

/// The counters of a loop.
struct LoopCounters: ~Copyable {
    let start = MonotonicTime.now
    let waits = LoopCounter()
    let sleeps = LoopCounter()
    let events = LoopCounter()
    let jobs = LoopCounter()
    let timers = LoopCounter()
    let idleNanoseconds = LoopCounter()
    /// When the sleep that goes on began; 0 while awake.
    let sleepStart = Atomic<UInt64>(0)

    func snapshot(wakeUps: Int) -> LoopStatistics {
        var statistics = LoopStatistics()
        statistics.waits = self.waits.count
        statistics.sleeps = self.sleeps.count
        statistics.events = self.events.count
        statistics.jobs = self.jobs.count
        statistics.timers = self.timers.count
        statistics.wakeUps = UInt64(wakeUps)
        let now = MonotonicTime.now
        var idle = self.idleNanoseconds.count
        let since = self.sleepStart.load(ordering: .relaxed)
        if since != 0, now.nanoseconds > since { idle &+= now.nanoseconds - since }
        statistics.idleTime = .nanoseconds(Int64(clamping: idle))
        statistics.totalTime = now - self.start
        return statistics
    }
}
