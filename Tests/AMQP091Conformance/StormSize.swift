// SPDX-License-Identifier: Apache-2.0
import Glibc

// StormSize: how long the storms run: seconds unless the environment says otherwise.

/// The sizes of the storms, from the environment.
package enum StormSize {
    /// Storms of calls: `AMQP091_STORMS`.
    package static let storms = number("AMQP091_STORMS") ?? 100
    /// Deliveries to settle: `AMQP091_SETTLEMENTS`.
    package static let settlements = number("AMQP091_SETTLEMENTS") ?? 4000
    /// Mandatory publishes: `AMQP091_RETURNS`.
    package static let returns = number("AMQP091_RETURNS") ?? 4000
    /// The first seed, to run a failure again: `AMQP091_STORM_SEED`; by default one of this run.
    package static let seed = number("AMQP091_STORM_SEED").map { UInt64($0) } ?? UInt64.random(in: 0..<1 << 32)

    private static func number(_ name: String) -> Int? { getenv(name).flatMap { Int(String(cString: $0)) } }

    /// Runs storms with one seed after the other, a few at a time.
    ///
    /// - Parameters:
    ///   - count: Storms.
    ///   - body: One storm.
    /// - Returns: The failures, with their seeds; no more are started after the first.
    package static func run(_ count: Int, _ body: @escaping @Sendable (_ seed: UInt64) async throws -> Void) async
        -> [String]
    {
        await withTaskGroup(of: String?.self) { group in
            var failures: [String] = []
            var next = 0
            while next < min(4, count) {
                let seed = Self.seed + UInt64(next)
                group.addTask { await Self.failure(seed, body) }
                next += 1
            }
            for await failure in group {
                if let failure { failures.append(failure) }
                guard failures.isEmpty, next < count else { continue }
                let seed = Self.seed + UInt64(next)
                group.addTask { await Self.failure(seed, body) }
                next += 1
            }
            return failures
        }
    }

    /// One storm of two minutes at most: a broken one fails, it does not hang.
    private static func failure(
        _ seed: UInt64,
        _ body: @escaping @Sendable (UInt64) async throws -> Void
    ) async -> String? {
        await withTaskGroup(of: String?.self) { group in
            group.addTask {
                do {
                    try await body(seed)
                    return nil
                } catch { return "seed \(seed): \(error)" }
            }
            group.addTask {
                try? await Task.sleep(for: .seconds(120))
                return "seed \(seed): not over after two minutes"
            }
            defer { group.cancelAll() }
            return await group.next() ?? nil
        }
    }
}
