// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Synchronization

// ConfirmTimes: when each unconfirmed publish of one channel was due, by delivery tag, so that the confirm of every message
// is timed: a stall of the broker is in all the messages it kept waiting, not in a few samples. The producer writes, a task
// of the channel's own reads whenever the first unconfirmed publish has ended, and records all that have ended by then.
// What is never confirmed is recorded with its age when the channel ended, and counted as censored.

/// The times of one channel's publishes.
final class ConfirmTimes: Sendable {
    private struct State {
        /// Publishes whose end was recorded.
        var read: UInt64 = 0
        var censored: UInt64 = 0
        var isEnded = false
    }

    private let mask: UInt64
    /// A slot is written before `written` counts it, and used again only when `read` has passed it.
    private nonisolated(unsafe) let slots: UnsafeMutablePointer<UInt64>
    private let written = Atomic<UInt64>(0)
    /// What the producer knows of `read`.
    private let freed = Atomic<UInt64>(0)
    private let state = Mutex(State())
    private let meter: LatencyMeter

    /// One for a channel that has so many publishes unconfirmed at most.
    init(window: Int, meter: LatencyMeter) {
        var capacity = 64
        while capacity < window + 2 { capacity *= 2 }
        // Twice as many, so that the reader may be late.
        capacity *= 2
        self.mask = UInt64(capacity - 1)
        self.slots = .allocate(capacity: capacity)
        self.slots.initialize(repeating: 0, count: capacity)
        self.meter = meter
    }

    deinit { self.slots.deallocate() }

    /// Publishes that were noted.
    var published: UInt64 { self.written.load(ordering: .acquiring) }

    /// Publishes that had not ended when the channel did.
    var censored: UInt64 { self.state.withLock { $0.censored } }

    /// Notes the next publish of the channel, before it is called.
    ///
    /// By the producer only.
    ///
    /// - Parameters:
    ///   - due: When it was due.
    ///   - settled: Publishes of the channel that have ended; asked for when the reader is far behind.
    @inline(__always)
    func note(_ due: UInt64, settled: () -> UInt64) {
        let number = self.written.load(ordering: .relaxed)
        if number - self.freed.load(ordering: .acquiring) > self.mask { self.sweep(settled(), now: MonotonicClock.now) }
        self.slots[Int(truncatingIfNeeded: number & self.mask)] = due
        self.written.store(number + 1, ordering: .releasing)
    }

    /// Takes back the last note: nothing was published.
    ///
    /// By the producer only.
    func takeBack() { self.written.store(self.written.load(ordering: .relaxed) - 1, ordering: .releasing) }

    /// Records the publishes that have ended since the last call.
    ///
    /// - Parameters:
    ///   - settled: How many have ended, from the first; confirms that overtake others change places with them.
    ///   - now: The time.
    func sweep(_ settled: UInt64, now: UInt64) {
        self.state.withLock { state in
            guard !state.isEnded else { return }
            self.record(upTo: min(settled, self.published), now: now, &state)
        }
    }

    /// Records what has ended, and the age of what has not; there will be no more.
    func end(_ settled: UInt64, now: UInt64) {
        self.state.withLock { state in
            guard !state.isEnded else { return }
            let published = self.published
            self.record(upTo: min(settled, published), now: now, &state)
            state.censored += published - state.read
            self.record(upTo: published, now: now, &state)
            state.isEnded = true
        }
    }

    private func record(upTo end: UInt64, now: UInt64, _ state: inout State) {
        guard end > state.read else { return }
        self.meter.record { recorded in
            var next = state.read
            while next < end {
                let due = self.slots[Int(truncatingIfNeeded: next & self.mask)]
                var count = 1
                while next + UInt64(count) < end,
                    self.slots[Int(truncatingIfNeeded: (next + UInt64(count)) & self.mask)] == due
                {
                    count += 1
                }
                recorded.record(now - min(now, due), due: due, count: count)
                next += UInt64(count)
            }
        }
        state.read = end
        self.freed.store(end, ordering: .releasing)
    }

    /// Records confirms as they come, until the channel or the task ends.
    func follow(_ channel: AMQPChannel) async {
        // Longer than any run: the wait ends with the task.
        let patience = Duration.seconds(86_400)
        while !Task.isCancelled {
            do throws(AMQPError) {
                try await channel.waitForConfirms(through: self.state.withLock { $0.read } + 1, timeout: patience)
            } catch {
                return
            }
            self.sweep(channel.confirmCounts.ended, now: MonotonicClock.now)
        }
    }
}

extension AMQPConfirmCounts {
    /// Publishes on which the broker's word has come.
    var ended: UInt64 { self.confirmed + self.nacked + self.returned }
}
