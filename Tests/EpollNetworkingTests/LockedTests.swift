// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking
import Testing

// LockedTests: one thread at a time is inside, and whoever waits gets there, also after a sleep.

extension NetworkTests {
    @Suite("Lock", .timeLimit(.minutes(1)))
    struct LockedTests {
        private final class Counter: Sendable {
            let count = Locked(0)
        }

        private static func work(for duration: Duration) {
            let end = MonotonicTime.now + duration
            while MonotonicTime.now < end {}
        }

        @Test("Four threads take turns, also where one holds the lock longer than the others look at it")
        func turns() async throws {
            let counter = Counter()
            let loops = try (0..<4).map { try EventLoop(name: "lock-\($0)") }
            await withTaskGroup(of: Void.self) { group in
                for loop in loops {
                    group.addTask(executorPreference: loop) {
                        for round in 0..<4_000 {
                            counter.count.withLock { count in
                                let before = count
                                if round % 400 == 0 { Self.work(for: .milliseconds(1)) }
                                count = before + 1
                            }
                        }
                    }
                }
            }
            #expect(counter.count.withLock { $0 } == 16_000)
            for loop in loops { loop.shutdown() }
        }
    }
}
