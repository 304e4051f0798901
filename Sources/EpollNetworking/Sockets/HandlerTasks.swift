// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// HandlerTasks: the tasks of a server, one per connection. Not a task group: when a child of a group ends, the group walks
// the list of those that were added before it, so that a short connection costs more the more idle ones there are. Here
// adding and removing cost the same for any number. The server keeps the promises of a group: it cancels all of them with
// its own task, and does not return while one runs.

final class HandlerTasks: Sendable {
    private struct State {
        var tasks: [UInt64: Task<Void, Never>] = [:]
        /// Tasks that ended before they were entered.
        var early: Set<UInt64> = []
        var nextID: UInt64 = 0
        var running = 0
        var isCancelled = false
        var waiter: Suspension<Void>?
    }

    private let state = Locked(State())

    /// Counts one more task that runs; `entered` and `ended` follow, in any order.
    func enter() -> UInt64 {
        self.state.withLock { state in
            state.nextID &+= 1
            state.running += 1
            return state.nextID
        }
    }

    /// Has the task cancelled with the others, until it has ended.
    func entered(_ id: UInt64, _ task: Task<Void, Never>) {
        let isCancelled = self.state.withLock { state in
            if state.early.remove(id) == nil { state.tasks[id] = task }
            return state.isCancelled
        }
        if isCancelled { task.cancel() }
    }

    /// The last call of a task.
    func ended(_ id: UInt64) {
        let waiter = self.state.withLock { state -> Suspension<Void>? in
            if state.tasks.removeValue(forKey: id) == nil { state.early.insert(id) }
            state.running -= 1
            return state.running == 0 ? state.waiter.take() : nil
        }
        waiter?.resume()
    }

    /// Cancels all tasks, those added later too.
    func cancelAll() {
        let tasks = self.state.withLock { state in
            state.isCancelled = true
            return state.tasks
        }
        for task in tasks.values { task.cancel() }
    }

    /// Waits until none runs, whether the caller is cancelled or not; one task at a time.
    func waitForAll() async {
        await withSuspension { continuation in
            let isDone = self.state.withLock { state in
                if state.running > 0 { state.waiter = continuation }
                return state.running == 0
            }
            if isDone { continuation.resume() }
        }
    }
}
