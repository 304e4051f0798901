// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import EpollConcurrency
import EpollNetworking

// BrokerBenchmarks: how long the in-process broker takes to start: thread, loop, state and a listening socket.

enum BrokerBenchmarks {
    private static let start = "in-process broker, start"
    private static let count = 200

    static func run(_ wanted: String) async throws {
        guard Self.start.contains(wanted) else { return }
        var results: [Double] = []
        for _ in 0..<Self.count {
            let start = MonotonicTime.now.nanoseconds
            let broker = try await InProcessBroker()
            results.append(Double(MonotonicTime.now.nanoseconds - start))
            await broker.shutdown()
        }
        Benchmark.show(Self.start, results)
        print("    the most of \(Self.count)".padded(to: 44) + (results.max() ?? 0).tenths.padded(to: 20, left: true))
    }
}
