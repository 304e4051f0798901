// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import Glibc

// GlobalPool: has jobs that code inside of a simulation gives to Swift's global pool run in the simulation. A task that is
// started by `Task { }` has no executor preference, so that it would leave the simulation otherwise.
// Unsafe: the hook is a variable of the Swift runtime that is not public. It is looked up by name, once, and set before the
// first simulation. On threads that run no simulation it does what the runtime would have done. Tried with Swift 6.3.

enum GlobalPool {
    private typealias Original = @convention(thin) (UnownedJob) -> Void
    private typealias Hook = @convention(thin) (UnownedJob, Original) -> Void

    /// Whether jobs of simulations stay there; false where the runtime has no such hook.
    static let isRedirected: Bool = {
        guard let symbol = dlsym(dlopen(nil, 0), "swift_task_enqueueGlobal_hook") else { return false }
        symbol.assumingMemoryBound(to: Hook?.self).pointee = { job, original in
            if let simulation = SimulationContext.current?.services {
                simulation.enqueueGlobal(job)
            } else {
                original(job)
            }
        }
        return true
    }()
}
