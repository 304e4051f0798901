// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking

// SimulatedClock: the time of a simulated world, for code that takes a clock.

/// The clock of a ``SimulatedWorld``: it moves only when nothing else can happen.
///
/// Pass it to code that takes `any Clock<Duration>`. `Task.sleep` without a clock waits for real time, which ends the
/// world's run with an error.
public struct SimulatedClock: Clock {
    /// A moment of a simulated world, as the time since its start.
    public struct Instant: InstantProtocol {
        /// The time since the start of the world.
        public let elapsed: Duration

        /// The moment so much later.
        public func advanced(by duration: Duration) -> Instant { Instant(elapsed: self.elapsed + duration) }

        /// The time from this moment to another.
        public func duration(to other: Instant) -> Duration { other.elapsed - self.elapsed }

        /// Whether a moment is earlier than another.
        public static func < (left: Instant, right: Instant) -> Bool { left.elapsed < right.elapsed }
    }

    let simulation: Simulation

    /// The moment now.
    public var now: Instant { Instant(elapsed: self.simulation.elapsed) }

    /// The smallest difference of two moments: a nanosecond.
    public var minimumResolution: Duration { .nanoseconds(1) }

    /// Waits until a moment; throws `CancellationError` when the task is cancelled first.
    public func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        let delay = deadline.elapsed - self.simulation.elapsed
        guard delay > .zero else { return try Task.checkCancellation() }
        do throws(NetworkError) {
            try await EventLoopGroup.shared.next().sleep(for: delay)
        } catch {
            throw CancellationError()
        }
    }
}
