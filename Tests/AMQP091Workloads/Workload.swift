// SPDX-License-Identifier: Apache-2.0
public import AMQP091Testing

/// Workload: what an application does in a simulated world, with its options and its checks.
///
/// SimulationTests runs a thousand worlds, scripts/simulate as many as there is time for.
public struct Workload: Sendable {
    /// A name for the command line.
    public let name: String
    /// The options of its worlds.
    public let options: SimulatedWorld.Options
    /// The application, and the checks at the end.
    public let run: @Sendable (SimulatedWorld) async throws -> Void

    /// All workloads.
    public static let all = [
        Workload(name: "service", options: Self.disturbed(), run: ServiceWorkload.run),
        Workload(name: "restarts", options: Self.disturbed(), run: RestartWorkload.run),
        Workload(name: "rpc", options: Self.disturbed(), run: RPCWorkload.run),
        Workload(name: "transactions", options: Self.disturbed(), run: TransactionWorkload.run),
        Workload(name: "settlements", options: Self.disturbed(0), run: SettlementWorkload.run),
    ]

    static func disturbed(_ count: Int = 12) -> SimulatedWorld.Options {
        var options = SimulatedWorld.Options(nodes: 3, disturbances: count)
        options.disturbedTime = .seconds(40)
        // Small, so that streams are full now and then.
        options.capacity = 1 << 10
        return options
    }
}

/// A property that does not hold.
struct Broken: Error, CustomStringConvertible {
    let description: String
}
