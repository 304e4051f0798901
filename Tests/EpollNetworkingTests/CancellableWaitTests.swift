// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking
import Testing

// CancellableWaitTests: a wait is told of the cancellation of its task, once, and of nothing else.

extension NetworkTests {
    @Suite("Cancellable wait", .timeLimit(.minutes(1)))
    struct CancellableWaitTests {
        /// A wait that is over with a value, or with nil when its task is cancelled.
        private final class Wait: CancellableWait {
            private struct State {
                var waiter: Suspension<Int?>?
                var cancellations = 0
                var isWaiting = false
            }

            private let state = Locked(State())

            var cancellations: Int { self.state.withLock { $0.cancellations } }
            var isWaiting: Bool { self.state.withLock { $0.isWaiting } }
            var isParked: Bool { self.state.withLock { $0.waiter != nil } }

            func taskCancelled() {
                let waiter = self.state.withLock { state in
                    state.cancellations += 1
                    return state.waiter.take()
                }
                waiter?.resume(returning: nil)
            }

            func end(_ value: Int) { self.state.withLock { $0.waiter.take() }?.resume(returning: value) }

            func value() async -> Int? {
                await withCancellableSuspension(self) { waiter in
                    let isOver = self.state.withLock { state in
                        state.isWaiting = true
                        if state.cancellations == 0 { state.waiter = waiter }
                        return state.cancellations > 0
                    }
                    if isOver { waiter.resume(returning: nil) }
                }
            }
        }

        @Test("It ends with what the continuation was resumed with, and its task's later end tells it nothing")
        func ends() async {
            let wait = Wait()
            let task = Task { () -> Int? in
                let value = await wait.value()
                withUnsafeCurrentTask { $0?.cancel() }
                return value
            }
            await eventually { wait.isWaiting }
            wait.end(7)
            #expect(await task.value == 7)
            #expect(wait.cancellations == 0)
        }

        @Test("A cancellation while it lasts ends it")
        func cancelled() async {
            let wait = Wait()
            let task = Task { await wait.value() }
            await eventually { wait.isWaiting }
            task.cancel()
            #expect(await task.value == nil)
            #expect(wait.cancellations == 1)
        }

        @Test("A task that is cancelled already tells it before it begins")
        func cancelledBefore() async {
            let wait = Wait()
            let task = Task { () -> Int? in
                withUnsafeCurrentTask { $0?.cancel() }
                return await wait.value()
            }
            #expect(await task.value == nil)
            #expect(wait.cancellations == 1)
        }

        @Test("Many tasks wait many times, and their waits end in any order")
        func manyTimes() async {
            let waits = (0..<100).map { _ in Wait() }
            let sum = await withTaskGroup(of: Int.self) { group in
                for wait in waits {
                    group.addTask {
                        var sum = 0
                        // The memory of the task's stack is released each time, or this would not end well.
                        for _ in 0..<100 { sum += await wait.value() ?? 0 }
                        return sum
                    }
                }
                group.addTask {
                    for round in 0..<100 {
                        for wait in waits.shuffled() {
                            await eventually { wait.isParked }
                            wait.end(round)
                        }
                    }
                    return 0
                }
                return await group.reduce(0, +)
            }
            #expect(sum == 100 * (0..<100).reduce(0, +))
        }
    }
}
