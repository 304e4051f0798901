// SPDX-License-Identifier: Apache-2.0
import Glibc
import Histogram
import Synchronization

// Meters: what the running tasks count and the ticker reads. A counter has one writer, so that a message costs a plain
// store. A latency belongs to the time at which its message was due: those of the warm-up are kept apart, and those of
// messages that arrive after the end are not.

/// A count with one writer and any number of readers.
final class Counter: Sendable {
    private let value = Atomic<UInt64>(0)

    var current: UInt64 { self.value.load(ordering: .relaxed) }

    /// By its one writer only.
    func add(_ amount: UInt64 = 1) {
        self.value.store(self.value.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }
}

extension [Counter] {
    var sum: UInt64 { self.reduce(0) { $0 + $1.current } }
}

/// A number of messages that several tasks take from.
final class Budget: Sendable {
    private let left: Atomic<Int>

    /// So many, or without end.
    init(_ count: Int?) { self.left = Atomic(count ?? .max / 2) }

    /// Takes up to so many messages; 0 when none is left.
    func take(upTo count: Int) -> Int {
        let left = self.left.subtract(count, ordering: .relaxed).oldValue
        return max(0, min(count, left))
    }
}

/// Tells the tasks of a run to end.
final class StopFlag: Sendable {
    private let flag = Atomic<Bool>(false)
    var isSet: Bool { self.flag.load(ordering: .relaxed) }
    func set() { self.flag.store(true, ordering: .relaxed) }
}

/// The monotonic clock as nanoseconds, the same for every process of a machine.
enum MonotonicClock {
    static var now: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

/// The times of one kind of operation, in nanoseconds.
final class LatencyMeter: Sendable {
    /// The longest time that is told apart: 60 s.
    static let highest: UInt64 = 60_000_000_000

    /// What was recorded since the last tick.
    struct Recorded: Sendable {
        fileprivate(set) var measured = LatencyMeter.emptyHistogram
        fileprivate(set) var other = LatencyMeter.emptyHistogram
        fileprivate let time: MeasuredTime

        /// Records a time of so many messages that were due at the same moment.
        mutating func record(_ nanoseconds: UInt64, due: UInt64, count: Int = 1) {
            let value = min(nanoseconds, LatencyMeter.highest)
            if self.time.contains(due) {
                _ = self.measured.record(value, count: UInt64(count))
            } else {
                _ = self.other.record(value, count: UInt64(count))
            }
        }
    }

    private let recorded: Mutex<Recorded>

    /// One whose messages count when they were due in the measured time.
    init(_ time: MeasuredTime = MeasuredTime()) { self.recorded = Mutex(Recorded(time: time)) }

    static var emptyHistogram: Histogram<UInt64> { Histogram(highestTrackableValue: Self.highest) }

    /// Records the time of a message that was due at a moment.
    func record(_ nanoseconds: UInt64, due: UInt64) {
        self.recorded.withLock { $0.record(nanoseconds, due: due) }
    }

    /// Records many times in one step.
    func record(_ body: (inout Recorded) -> Void) { self.recorded.withLock { body(&$0) } }

    /// Adds what was recorded since the last call to histograms, and forgets it.
    ///
    /// - Parameters:
    ///   - total: Gets what was due in the measured time.
    ///   - tick: Gets all of it.
    func drain(into total: inout Histogram<UInt64>, tick: inout Histogram<UInt64>) {
        self.recorded.withLock {
            if $0.measured.totalCount > 0 {
                total.add($0.measured)
                tick.add($0.measured)
                $0.measured.reset()
            }
            if $0.other.totalCount > 0 {
                tick.add($0.other)
                $0.other.reset()
            }
        }
    }
}

/// All that the producers and consumers of one run count.
struct RunMeters: Sendable {
    /// Which messages count.
    let time: MeasuredTime
    /// By producer.
    var published: [Counter] = []
    /// By consumer.
    var consumed: [Counter] = []
    var redelivered: [Counter] = []
    var foreign: [Counter] = []
    /// From when a message was due, or from the call of its publish without a schedule, to the broker's confirm.
    let confirmLatency: LatencyMeter
    /// How long messages that were never published had been due; they belong to both kinds of latency.
    let unsent: LatencyMeter
    /// From when a message was due to its arrival at a consumer; shared by consumers.
    var endToEndLatency: [LatencyMeter] = []
    /// From the call of a publish to the arrival at a consumer, where a schedule makes that another time; shared likewise.
    var sentLatency: [LatencyMeter] = []
    /// How late publishes of a schedule were called; shared by publishers.
    var lag: [LatencyMeter] = []

    init() {
        self.time = MeasuredTime()
        self.confirmLatency = LatencyMeter(self.time)
        self.unsent = LatencyMeter(self.time)
    }
}
