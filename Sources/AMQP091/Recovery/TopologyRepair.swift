// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking

// TopologyRepair: the topology of a client declared again while its connection is up, because something of it was found
// to be missing. All of it: a queue that is made again needs its bindings, these their exchanges, and an exchange that
// is made again has lost the bindings of every other queue. Whoever finds something missing at the same time shares one
// declaration, which has to begin after the finding.

final class TopologyRepair: Sendable {
    private struct State {
        var isRunning = false
        /// Declarations begun, and the last of them that came to its end.
        var begun = 0
        var done = 0
        var report = AMQPTopologyReport()
        /// Queues that were found to be missing, and the declaration that makes them again.
        var incarnations: [String: Int] = [:]
    }

    private enum Turn { case done(AMQPTopologyReport), declare(Int) }

    private let state = ObservedValue(State())

    /// Which declaration has made this queue again, since it was found to be missing; 0 for none.
    func incarnation(of queue: String) -> Int { self.state.withLock { $0.incarnations[queue] ?? 0 } }

    /// The queue of the topology is missing, as was found after `begun` was read.
    func foundMissing(_ queue: String, since begun: Int) {
        self.state.withLock { $0.incarnations[queue] = max($0.incarnations[queue] ?? 0, begun + 1) }
    }

    /// How many declarations have begun.
    var begun: Int { self.state.withLock { $0.begun } }

    /// Declares, or waits for a declaration that begins from now on.
    ///
    /// - Parameters:
    ///   - deadline: The moment to give up.
    ///   - declare: Declares the topology.
    /// - Returns: What came of it.
    /// - Throws: What `declare` throws, `.timedOut` or `.cancelled`.
    func run(
        until deadline: MonotonicTime,
        _ declare: () async throws(AMQPError) -> AMQPTopologyReport
    ) async throws(AMQPError) -> AMQPTopologyReport {
        let wanted = self.state.withLock { $0.begun } + 1
        let turn = try await self.state.wait(until: deadline) { state -> Turn? in
            if state.done >= wanted { return .done(state.report) }
            guard !state.isRunning else { return nil }
            state.isRunning = true
            state.begun += 1
            return .declare(state.begun)
        }
        switch turn {
        case .done(let report): return report
        case .declare(let number):
            do throws(AMQPError) {
                let report = try await declare()
                self.state.change { state in
                    state.isRunning = false
                    state.done = number
                    state.report = report
                }
                return report
            } catch {
                // The next of those who wait tries for itself.
                self.state.change { $0.isRunning = false }
                throw error
            }
        }
    }
}
