// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// ConnectionGate: how many connections of a listener are being served; the acceptors wait here for room, and a listener
// that shuts down for the last to leave.

final class ConnectionGate: Sendable {
    private struct State {
        var active = 0
        var isClosed = false
        /// When those who are still in have been waited for long enough.
        var graceEnd = MonotonicTime.distantFuture
        var waitingForRoom: [NetworkOutcome<Void>] = []
        var waitingForEnd: [NetworkOutcome<Void>] = []
    }

    private let limit: Int
    private let state = Locked(State())

    init(limit: Int) { self.limit = max(1, limit) }

    var active: Int { self.state.withLock { $0.active } }

    /// Whether a listener waits for the last to leave.
    var isEndAwaited: Bool { self.state.withLock { !$0.waitingForEnd.isEmpty } }

    /// Lets nobody in who waits, and waits for the last to leave until then at most; a later call can only shorten it.
    func close(until graceEnd: MonotonicTime = .distantFuture) {
        let waiting = self.state.withLock { state in
            state.isClosed = true
            defer { state.waitingForRoom = [] }
            guard graceEnd < state.graceEnd else { return state.waitingForRoom }
            state.graceEnd = graceEnd
            defer { state.waitingForEnd = [] }
            return state.waitingForRoom + state.waitingForEnd
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
    /// - Throws: `.timedOut` at the end of the grace period.
    func waitForEnd(on loop: EventLoop) async throws(NetworkError) {
        while true {
            let (outcome, deadline) = self.state.withLock { state -> (NetworkOutcome<Void>?, MonotonicTime) in
                guard state.active > 0 else { return (nil, state.graceEnd) }
                let outcome = NetworkOutcome<Void>()
                state.waitingForEnd.append(outcome)
                return (outcome, state.graceEnd)
            }
            guard let outcome else { return }
            let text = "Connections were still served at the end of the grace period."
            let late = NetworkError(kind: .timedOut, text: text)
            let timer = OutcomeDeadline(outcome, at: deadline, on: loop, result: .failure(late))
            if deadline != .distantFuture { timer.start() }
            defer {
                if deadline != .distantFuture { timer.stop() }
                self.state.withLock { state in state.waitingForEnd.removeAll { $0 === outcome } }
            }
            try await outcome.value(cancelled: .taskCancelled("Serving"))
        }
    }
}
