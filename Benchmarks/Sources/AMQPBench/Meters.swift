// SPDX-License-Identifier: Apache-2.0
import Glibc
import Histogram
import Synchronization

// Meters: what the running tasks count and the ticker reads. A counter has one writer, so that a message costs a plain
// store; a latency is recorded for samples only.

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

    private let histogram = Mutex(LatencyMeter.emptyHistogram)

    static var emptyHistogram: Histogram<UInt64> { Histogram(highestTrackableValue: Self.highest) }

    func record(_ nanoseconds: UInt64) {
        self.histogram.withLock { _ = $0.record(min(nanoseconds, Self.highest)) }
    }

    /// Adds what was recorded since the last call to a histogram, and forgets it.
    func drain(into total: inout Histogram<UInt64>) {
        self.histogram.withLock {
            guard $0.totalCount > 0 else { return }
            total.add($0)
            $0.reset()
        }
    }
}

/// All that the producers and consumers of one run count.
struct RunMeters: Sendable {
    /// By producer, its probes included.
    var published: [Counter] = []
    /// By consumer.
    var consumed: [Counter] = []
    var redelivered: [Counter] = []
    var foreign: [Counter] = []
    /// From the call of a publish to the broker's confirm.
    let confirmLatency = LatencyMeter()
    /// From when a message was due to its arrival at a consumer; shared by consumers.
    var endToEndLatency: [LatencyMeter] = []
    /// From the call of a publish to the arrival at a consumer, where a schedule makes that another time; shared likewise.
    var sentLatency: [LatencyMeter] = []
    /// How late publishes of a schedule were called; shared by publishers.
    var lag: [LatencyMeter] = []
}
