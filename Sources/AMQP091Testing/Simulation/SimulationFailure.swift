// SPDX-License-Identifier: Apache-2.0

/// The failure of a run of a ``SimulatedWorld``: its seed repeats it.
public struct SimulationFailure: Error, CustomStringConvertible, Sendable {
    /// The seed of the run.
    public let seed: UInt64
    /// The failure in a sentence.
    public let reason: String
    /// The error that the body threw; nil for a failure of the run itself.
    public let underlying: (any Error)?
    /// The simulated time of the failure.
    public let elapsed: Duration
    /// The disturbances of the run.
    public let disturbances: [TimedDisturbance]
    /// The last events of the run, the oldest first.
    public let trace: [String]

    init(
        seed: UInt64,
        reason: String,
        underlying: (any Error)? = nil,
        elapsed: Duration = .zero,
        disturbances: [TimedDisturbance] = [],
        trace: [String] = []
    ) {
        self.seed = seed
        self.reason = reason
        self.underlying = underlying
        self.elapsed = elapsed
        self.disturbances = disturbances
        self.trace = trace
    }

    /// The seed, the reason, the disturbances and the last lines of the trace.
    public var description: String {
        var lines = ["seed \(self.seed), after \(self.elapsed): \(self.reason)"]
        if !self.disturbances.isEmpty { lines.append("disturbances:") }
        lines += self.disturbances.map { "  \($0)" }
        if !self.trace.isEmpty { lines.append("the last events:") }
        lines += self.trace.suffix(60).map { "  \($0)" }
        return lines.joined(separator: "\n")
    }
}
