// SPDX-License-Identifier: Apache-2.0
import Synchronization

// Backlog: the bound on messages that were published and not consumed: without one a saturated run measures how a queue
// grows. Producers of a load without a schedule ask it every 64 messages.

/// The bound of a run.
final class Backlog: Sendable {
    /// Messages for each that a consumer's prefetch holds.
    static let prefetches = 10
    /// The longest wait at a time, nanoseconds: what was returned or went elsewhere is never consumed.
    private static let longestWait: UInt64 = 1_000_000_000

    let limit: UInt64
    private let meters: RunMeters
    private let waited = Atomic<UInt64>(0)

    init(limit: Int, meters: RunMeters) {
        self.limit = UInt64(limit)
        self.meters = meters
    }

    /// True when producers have to wait.
    var isFull: Bool {
        let (published, consumed) = (self.meters.published.sum, self.meters.consumed.sum)
        return published > consumed && published - consumed >= self.limit
    }

    /// Waits for the consumers.
    ///
    /// - Parameters:
    ///   - stop: Ends the wait.
    ///   - sleep: Sleeps for a short time.
    /// - Throws: What `sleep` throws.
    func wait(unless stop: StopFlag, _ sleep: () async throws -> Void) async throws {
        let start = MonotonicClock.now
        var now = start
        while !stop.isSet, self.isFull, now - start < Self.longestWait {
            try await sleep()
            now = MonotonicClock.now
        }
        self.waited.add(now - start, ordering: .relaxed)
    }

    /// Percent of the producers' time that was waited.
    func percent(of seconds: Double, producers: Int) -> Double {
        let all = seconds * Double(producers)
        return all > 0 ? min(100, Double(self.waited.load(ordering: .relaxed)) / 1e7 / all) : 0
    }
}
