// SPDX-License-Identifier: Apache-2.0
import DequeModule
import EpollConcurrency
import EpollNetworking

// SerialLane: a task executor that runs one job at a time, on a thread of the global pool while there are jobs. Tasks that
// prefer it alternate at their suspension points and share state that is not Sendable. It blocks no thread while idle.

final class SerialLane: TaskExecutor {
    private struct State {
        var jobs = Deque<UnownedJob>()
        var isRunning = false
    }

    private let state = Locked(State())

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let starts = self.state.withLock { state in
            state.jobs.append(job)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if starts {
            let pool = SimulationContext.current?.services?.executor ?? globalConcurrentExecutor
            Task.detached(executorPreference: pool) { self.run() }
        }
    }

    private func run() {
        while let job = self.next() { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }

    private func next() -> UnownedJob? {
        self.state.withLock { state in
            let job = state.jobs.popFirst()
            state.isRunning = job != nil
            return job
        }
    }
}
