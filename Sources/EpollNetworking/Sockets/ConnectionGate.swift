// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// ConnectionGate: how many connections of a listener are being served; the acceptors wait here for room, and a listener
// that shuts down for the last to leave.

final class ConnectionGate: Sendable {
    private struct State {
        var active = 0
        var isClosed = false
        var waitingForRoom: [NetworkOutcome<Void>] = []
        var waitingForEnd: [NetworkOutcome<Void>] = []
    }

    private let limit: Int
    private let state = Locked(State())

    init(limit: Int) { self.limit = max(1, limit) }

    var active: Int { self.state.withLock { $0.active } }

    /// Lets nobody in who waits.
    func close() {
        let waiting = self.state.withLock { state in
            state.isClosed = true
            defer { state.waitingForRoom = [] }
            return state.waitingForRoom
        }
        for outcome in waiting { outcome.decide(.success(())) }
    }

    /// Waits until there is room for one more, and takes it; false when the gate was closed instead.
    func enter() async throws(NetworkError) -> Bool {
        while true {
            let (isIn, outcome) = self.state.withLock { state -> (Bool, NetworkOutcome<Void>?) in
                if state.active < self.limit {
                    state.active += 1
                    return (true, nil)
                }
                if state.isClosed { return (false, nil) }
                let outcome = NetworkOutcome<Void>()
                state.waitingForRoom.append(outcome)
                return (false, outcome)
            }
            guard let outcome else { return isIn }
            do throws(NetworkError) {
                try await outcome.value(cancelled: .taskCancelled("Accepting"))
            } catch {
                self.state.withLock { state in state.waitingForRoom.removeAll { $0 === outcome } }
                throw error
            }
        }
    }

    func leave() {
        let (room, end) = self.state.withLock { state -> (NetworkOutcome<Void>?, [NetworkOutcome<Void>]) in
            state.active -= 1
            let room = state.waitingForRoom.isEmpty ? nil : state.waitingForRoom.removeFirst()
            guard state.active == 0 else { return (room, []) }
            defer { state.waitingForEnd = [] }
            return (room, state.waitingForEnd)
        }
        room?.decide(.success(()))
        for outcome in end { outcome.decide(.success(())) }
    }

    /// Waits until the last has left.
    ///
    /// - Throws: `.timedOut` when the deadline came first.
    func waitForEnd(until deadline: MonotonicTime, on loop: EventLoop) async throws(NetworkError) {
        let outcome = self.state.withLock { state -> NetworkOutcome<Void>? in
            if state.active == 0 { return nil }
            let outcome = NetworkOutcome<Void>()
            state.waitingForEnd.append(outcome)
            return outcome
        }
        guard let outcome else { return }
        let late = NetworkError(kind: .timedOut, text: "Connections were still served at the end of the grace period.")
        let timer = OutcomeDeadline(outcome, at: deadline, on: loop, result: .failure(late))
        if deadline != .distantFuture { timer.start() }
        defer {
            if deadline != .distantFuture { timer.stop() }
            self.state.withLock { state in state.waitingForEnd.removeAll { $0 === outcome } }
        }
        try await outcome.value(cancelled: .taskCancelled("Serving"))
    }
}
