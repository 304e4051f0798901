// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking

// AddressMemory: the addresses of this process, or of a simulation, that could not be connected to lately, so that the next connection tries
// them last. Bounded, and forgets. A client has a memory of its own besides (RecoveryStateMachine), which counts.

final class AddressMemory: Sendable {
    /// That of the process, or of the simulation the caller runs in.
    static var shared: AddressMemory { SimulationContext.current?.value { AddressMemory() } ?? Self.ofProcess }

    private static let ofProcess = AddressMemory()

    /// Addresses remembered.
    private static let limit = 256
    /// Time a failure counts.
    private static let time = Duration.seconds(60)

    private let state = Locked<[AMQPServerAddress: MonotonicTime]>([:])

    func failed(_ address: AMQPServerAddress) {
        let now = MonotonicTime.now
        self.state.withLock { state in
            if state.count >= Self.limit, state[address] == nil {
                state = state.filter { $0.value > now }
                if state.count >= Self.limit { return }
            }
            state[address] = now.advanced(by: Self.time)
        }
    }

    func succeeded(_ address: AMQPServerAddress) { self.state.withLock { $0[address] = nil } }

    /// The indices of addresses, those that failed lately last.
    func order(_ addresses: [AMQPServerAddress]) -> [Int] {
        guard addresses.count > 1 else { return Array(addresses.indices) }
        let now = MonotonicTime.now
        let failing = self.state.withLock { state in addresses.map { (state[$0] ?? now) > now } }
        return addresses.indices.filter { !failing[$0] } + addresses.indices.filter { failing[$0] }
    }
}
