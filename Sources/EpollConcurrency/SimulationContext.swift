// SPDX-License-Identifier: Apache-2.0
import CEpoll

// SimulationContext: what replaces the clock, the random numbers and the global pool on the one thread that runs a
// simulation. Everywhere else there is none, and nothing is replaced. The simulation itself: EpollNetworking/Simulation.
// Unsafe: the thread-local reference is set and cleared by `run`, which keeps the context in between; the address of the
// clock is valid as long as the context.

/// The services of a simulation for the code that runs in it.
package protocol SimulationServices: AnyObject, Sendable {
    /// A random number that follows from the seed.
    func random() -> UInt64

    /// Takes a job that was meant for the global pool.
    func enqueueGlobal(_ job: UnownedJob)

    /// The executor of the simulation's own pool.
    var executor: any TaskExecutor { get }
}

package final class SimulationContext: @unchecked Sendable {
    /// The simulation, which keeps this context.
    package weak var services: (any SimulationServices)?
    private let time: UnsafeMutablePointer<UInt64>
    private var values: [ObjectIdentifier: any Sendable] = [:]

    package init(startingAt now: MonotonicTime) {
        self.time = .allocate(capacity: 1)
        self.time.initialize(to: now.nanoseconds)
    }

    deinit { self.time.deallocate() }

    /// The context of the simulation that the calling thread runs; nil on every other thread.
    package static var current: SimulationContext? {
        cepoll_simulation().map { Unmanaged<SimulationContext>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Whether the calling thread runs this simulation.
    package var isCurrent: Bool { cepoll_simulation() == UnsafeRawPointer(Unmanaged.passUnretained(self).toOpaque()) }

    /// Runs `body` with this context as that of the calling thread.
    package func run<Result>(_ body: () -> Result) -> Result {
        cepoll_set_simulation(Unmanaged.passUnretained(self).toOpaque(), self.time)
        defer { cepoll_set_simulation(nil, nil) }
        return body()
    }

    /// The clock; only the simulation sets it.
    package var now: MonotonicTime {
        get { MonotonicTime(nanoseconds: self.time.pointee) }
        set { self.time.pointee = newValue.nanoseconds }
    }

    /// A value that exists once for each process outside of a simulation, and once for each simulation inside.
    package func value<Value: Sendable>(_ make: () -> Value) -> Value {
        let key = ObjectIdentifier(Value.self)
        if let value = self.values[key] as? Value { return value }
        let value = make()
        self.values[key] = value
        return value
    }
}

/// Random numbers of the system; on a thread that runs a simulation, of its seed.
package struct RandomNumbers: RandomNumberGenerator {
    package init() {}

    package mutating func next() -> UInt64 {
        if let services = SimulationContext.current?.services { return services.random() }
        var system = SystemRandomNumberGenerator()
        return system.next()
    }
}
