// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking

// LoopBenchmarks: what the loop costs those who ask something of it: wake-ups, hops of tasks, timers.

enum LoopBenchmarks {
    static func run(_ wanted: String) async throws {
        let loop = try EventLoop(name: "benchmark")
        if Self.wakeUp.contains(wanted) {
            try await Self.measure(Self.wakeUp, steps: 2000) {
                for _ in 0..<2000 {
                    await withUnsafeContinuation { (waiter: UnsafeContinuation<Void, Never>) in
                        loop.execute { waiter.resume() }
                    }
                }
            }
        }
        if Self.hop.contains(wanted) {
            try await Self.measure(Self.hop, steps: 2000) {
                for _ in 0..<2000 { await withTaskExecutorPreference(loop) { await Task.yield() } }
            }
        }
        if Self.stay.contains(wanted) {
            try await withTaskExecutorPreference(loop) {
                try await Self.measure(Self.stay, steps: 2000) {
                    for _ in 0..<2000 { await Task.yield() }
                }
            }
        }
        if Self.schedule.contains(wanted) {
            try await Self.measure(Self.schedule, steps: 2000) {
                await withUnsafeContinuation { (waiter: UnsafeContinuation<Void, Never>) in
                    loop.execute {
                        let later = MonotonicTime.now + .seconds(60)
                        for _ in 0..<2000 { loop.cancel(loop.schedule(Nothing(), at: later)) }
                        waiter.resume()
                    }
                }
            }
        }
        if Self.timer.contains(wanted) {
            try await withTaskExecutorPreference(loop) {
                try await Self.measure(Self.timer, steps: 200) {
                    for _ in 0..<200 { try await loop.sleep(for: .microseconds(1)) }
                }
            }
        }
        loop.shutdown()
        await loop.stopped()
    }

    private static let wakeUp = "loop wake-up, from the pool and back"
    private static let hop = "hop of a task onto the loop and back"
    private static let stay = "yield of a task that prefers the loop"
    private static let schedule = "timer, scheduled and cancelled on the loop"
    private static let timer = "timer of a microsecond, for a task on the loop"

    private final class Nothing: LoopWork {
        func runOnLoop() {}
    }

    private static func measure(_ name: String, steps: Int, _ work: () async throws -> Void) async throws {
        try await work()
        var results: [Double] = []
        for _ in 0..<Benchmark.runs {
            let start = MonotonicTime.now.nanoseconds
            try await work()
            results.append(Double(MonotonicTime.now.nanoseconds - start) / Double(steps))
        }
        Benchmark.show(name, results)
    }
}
