// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import AMQP091Workloads
import EpollConcurrency
import Testing

/// The client in some hundred worlds of each workload; scripts/simulate runs as many as there is time for.
@Suite("Workloads in simulated worlds", .timeLimit(.minutes(10)), .serialized)
struct WorkloadTests {
    /// Worlds of each workload; few under the thread sanitizer, which has nothing to find on one thread.
    static let worlds: UInt64 = ThreadSanitizer.isOn ? 5 : 200

    @Test("What an application is told is true, and nothing is lost", arguments: Workload.all.map(\.name))
    func worlds(name: String) async throws {
        let workload = try #require(Workload.all.first { $0.name == name })
        try await SimulatedWorld.explore(seeds: 1...Self.worlds, workload.options, workload.run)
    }
}
