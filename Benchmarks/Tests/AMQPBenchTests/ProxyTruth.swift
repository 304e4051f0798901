// SPDX-License-Identifier: Apache-2.0
import Foundation
import Glibc
import Synchronization

@testable import AMQPBench

// ProxyTruth: the latencies of a run as the proxy saw them, and how they are held against a report. The proxy knows when a
// message came and when its confirm and its delivery went on; of a schedule it knows the arithmetic: message n is due at
// start + n / rate. Neither sees the thread of the other wake, so a difference of what a wake-up takes at that time is
// allowed besides 5 %: see Unrest.

/// Latencies as a proxy saw them, nanoseconds.
struct ProxyTruth: Sendable {
    /// At least, and at most: without a schedule the call of a publish lies before it came, and behind what made room for the
    /// one before: messages wait in the sockets on their way, too.
    typealias Bounds = (low: [UInt64], high: [UInt64])

    var confirm: Bounds = ([], [])
    var endToEnd: Bounds = ([], [])
    private let isSaturated: Bool
    /// Contradictions to the arithmetic of the schedule.
    var contradictions: [String] = []

    /// The latencies of a run.
    ///
    /// - Parameters:
    ///   - log: What came and went, and when.
    ///   - rate: Of the schedule; nil without one.
    ///   - seconds: How long messages were due.
    ///   - window: Publishes unconfirmed at which the producer waited.
    ///   - backlog: Messages not consumed at which it waited, asked for every 64 messages.
    init(_ log: ProxyLog, rate: Double?, seconds: Double, window: Int, backlog: Int?) {
        self.isSaturated = rate == nil
        let publishes = log.publishes
        guard let first = publishes.first else { return }
        if let rate {
            self.take(publishes, first.due, rate, count: Int((rate * seconds).rounded()))
        } else {
            var earliest = first.seen
            for (index, publish) in publishes.enumerated() {
                if index > window, let room = publishes[index - 1 - window].confirmed { earliest = max(earliest, room) }
                if let backlog, index >= backlog + 64, let room = publishes[index - backlog - 64].delivered {
                    earliest = max(earliest, room)
                }
                let called = min(earliest, publish.seen)
                if let confirmed = publish.confirmed {
                    self.confirm.low.append(confirmed - publish.seen)
                    self.confirm.high.append(confirmed - called)
                }
                // Each 16th message carries its times.
                if let delivered = publish.delivered, publish.due > 0 {
                    self.endToEnd.low.append(delivered - publish.seen)
                    self.endToEnd.high.append(delivered - called)
                }
            }
        }
        for path in [\ProxyTruth.confirm.low, \.confirm.high, \.endToEnd.low, \.endToEnd.high] {
            self[keyPath: path].sort()
        }
    }

    private mutating func take(_ publishes: [ProxyLog.Publish], _ start: UInt64, _ rate: Double, count: Int) {
        var slot = 0
        func due(_ slot: Int) -> UInt64 { start + UInt64((Double(slot) / rate * 1e9).rounded()) }
        func add(_ end: UInt64, atMost latest: UInt64? = nil, to bounds: WritableKeyPath<ProxyTruth, Bounds>) {
            self[keyPath: bounds].low.append(end - min(end, due(slot)))
            self[keyPath: bounds].high.append((latest ?? end) - min(latest ?? end, due(slot)))
        }
        var (last, before) = (start, start)
        for publish in publishes {
            // Slots that were left out were so between the publishes around them.
            while slot < count, due(slot) + 1 < publish.due {
                add(before, atMost: publish.seen, to: \.confirm)
                add(before, atMost: publish.seen, to: \.endToEnd)
                slot += 1
            }
            before = publish.seen
            // The tool stops a little after its time; what was due then does not count.
            guard slot < count else { break }
            let expected = due(slot)
            if publish.due > expected + 1 || publish.due + 1 < expected || publish.due > publish.seen {
                self.contradictions.append(
                    "message \(publish.sequence) is said to be due at \(publish.due), not \(expected)"
                )
            }
            if let confirmed = publish.confirmed { add(confirmed, to: \.confirm) }
            if let delivered = publish.delivered { add(delivered, to: \.endToEnd) }
            last = max(publish.confirmed ?? 0, publish.delivered ?? 0, publish.seen)
            slot += 1
        }
        // Left out at the end: at least as old as the last message was, or the run.
        while slot < count {
            let ages = (publishes.last?.seen ?? last, max(last, due(count)))
            add(min(ages.0, ages.1), atMost: ages.1, to: \.confirm)
            add(min(ages.0, ages.1), atMost: ages.1, to: \.endToEnd)
            slot += 1
        }
    }

    /// Microseconds by which wake-ups are late on a machine that is not fit to measure, in one of a hundred.
    private static let unfit = 10_000.0

    /// How a report's percentiles differ from the truth; empty when they are within 5 %, and the unrest of the time.
    func differences(_ name: String, _ bounds: Bounds, _ latency: LatencySummary?, _ unrest: Unrest) -> [String] {
        // A machine that wakes threads this late measures nothing.
        guard unrest.quantile(0.99) < Self.unfit else { return [] }
        guard !bounds.low.isEmpty else { return latency == nil ? [] : ["\(name) is there, and should not be"] }
        guard let latency else { return ["\(name) is missing"] }
        let figures = [
            (0.5, "p50", latency.p50), (0.9, "p90", latency.p90), (0.99, "p99", latency.p99),
            (0.999, "p99.9", latency.p999),
        ]
        return figures.compactMap { quantile, title, reported in
            let (low, high) = (Self.quantile(quantile, bounds.low), Self.quantile(quantile, bounds.high))
            // A late wake-up keeps all that comes meanwhile waiting.
            var slack = 2000 + 3 * unrest.quantile(max(quantile, 0.99))
            // At saturation a debug build is itself what messages wait for.
            if self.isSaturated, BuildFacts.isDebug { slack *= 3 }
            guard reported < low * 0.95 - slack || reported > high * 1.05 + slack else { return nil }
            return
                "\(name) \(title) is \(Int(reported)) µs, the truth \(Int(low)) to \(Int(high)) µs, slack \(Int(slack)) µs"
        }
    }

    /// Microseconds.
    static func quantile(_ quantile: Double, _ sorted: [UInt64]) -> Double {
        guard !sorted.isEmpty else { return 0 }
        let index = Int((quantile * Double(sorted.count)).rounded(.up)) - 1
        return Double(sorted[min(max(index, 0), sorted.count - 1)]) / 1000
    }
}

/// How late this machine wakes threads and tasks while something is measured.
final class Unrest: Sendable {
    private let state = Mutex((isEnded: false, thread: [UInt64](), task: [UInt64]()))

    init() {
        Thread.detachNewThread {
            while !self.state.withLock({ $0.isEnded }) {
                let start = MonotonicClock.now
                usleep(1000)
                let late = max(MonotonicClock.now - start, 1_000_000) - 1_000_000
                self.state.withLock { $0.thread.append(late) }
            }
        }
        Task {
            while !self.state.withLock({ $0.isEnded }) {
                let start = MonotonicClock.now
                try? await Task.sleep(for: .milliseconds(1), tolerance: .zero)
                let late = max(MonotonicClock.now - start, 1_000_000) - 1_000_000
                self.state.withLock { $0.task.append(late) }
            }
        }
    }

    func end() {
        self.state.withLock {
            $0.isEnded = true
            $0.thread.sort()
            $0.task.sort()
        }
    }

    /// Microseconds.
    func quantile(_ quantile: Double) -> Double {
        self.state.withLock { max(ProxyTruth.quantile(quantile, $0.thread), ProxyTruth.quantile(quantile, $0.task)) }
    }
}
