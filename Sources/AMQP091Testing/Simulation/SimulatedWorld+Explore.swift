// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import Glibc

// Many seeds, and the fewest disturbances with which a failure remains.

extension SimulatedWorld {
    /// The sum of many runs.
    public struct Exploration: Hashable, Sendable {
        /// The number of runs.
        public internal(set) var worlds = 0
        /// The simulated time of all runs.
        public internal(set) var elapsed = Duration.zero
        /// The steps of all runs.
        public internal(set) var steps = 0

        /// No run.
        public init() {}
    }

    private struct Progress: Sendable {
        var next: UInt64?
        var sum = Exploration()
        var failed: UInt64?
    }

    /// Runs `body` in a world of each seed, several at a time, until one fails.
    ///
    /// - Parameters:
    ///   - seeds: The seeds.
    ///   - options: All options.
    ///   - body: The code under test and its checks.
    /// - Returns: The number of runs with their time and steps.
    /// - Throws: ``SimulationFailure`` of the smallest seed that failed among those tried, with as few disturbances as it needs;
    ///   `CancellationError`.
    @discardableResult
    public static func explore(
        seeds: ClosedRange<UInt64>,
        _ options: Options = Options(),
        _ body: @escaping @Sendable (SimulatedWorld) async throws -> Void
    ) async throws -> Exploration {
        let state = ObservedValue(Progress(next: seeds.lowerBound))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) {
                group.addTask {
                    while !Task.isCancelled,
                        let seed = state.withLock({ state -> UInt64? in
                            guard state.failed == nil, let seed = state.next else { return nil }
                            state.next = seed == seeds.upperBound ? nil : seed + 1
                            return seed
                        })
                    {
                        do throws(SimulationFailure) {
                            let report = try await Self.run(seed: seed, options, body).report
                            state.withLock { state in
                                state.sum.worlds += 1
                                state.sum.elapsed += report.elapsed
                                state.sum.steps += report.steps
                            }
                        } catch {
                            state.withLock { $0.failed = min($0.failed ?? seed, seed) }
                        }
                    }
                }
            }
        }
        try Task.checkCancellation()
        if let seed = state.withLock({ $0.failed }) { throw await Self.smallestFailure(seed: seed, options, body) }
        return state.withLock { $0.sum }
    }

    /// The failure of a seed, with as few disturbances as it needs.
    private static func smallestFailure(
        seed: UInt64,
        _ options: Options,
        _ body: @escaping @Sendable (SimulatedWorld) async throws -> Void
    ) async -> SimulationFailure {
        func failure(_ kept: Set<Int>) async -> SimulationFailure? {
            var options = options
            options.kept = kept
            do throws(SimulationFailure) {
                try await Self.run(seed: seed, options, body)
                return nil
            } catch {
                return error
            }
        }
        var kept = options.kept ?? Set(0..<max(0, options.disturbances))
        guard var smallest = await failure(kept) else {
            let reason = "failed once and not again: the code under test left the world"
            return SimulationFailure(seed: seed, reason: reason)
        }
        // Halves first, then one by one.
        var size = (kept.count + 1) / 2
        while size > 0 {
            let numbers = kept.sorted()
            var hasShrunk = false
            for start in stride(from: 0, to: numbers.count, by: size) {
                let fewer = kept.subtracting(numbers[start..<min(start + size, numbers.count)])
                guard fewer.count < kept.count, let found = await failure(fewer) else { continue }
                (kept, smallest, hasShrunk) = (fewer, found, true)
            }
            if !hasShrunk || size > 1 { size /= 2 }
        }
        return smallest
    }
}

extension SimulatedWorld.Exploration {
    /// Adds another sum.
    public static func += (sum: inout SimulatedWorld.Exploration, other: SimulatedWorld.Exploration) {
        sum.worlds += other.worlds
        sum.elapsed += other.elapsed
        sum.steps += other.steps
    }
}
