// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import Testing

// RecoveryStateMachine as dialogues: the link drops before, during and after each step, and twice in a row. Chance is a
// seeded generator, time a number of seconds.

@Suite("Recovery state machine")
struct RecoveryStateMachineTests {
    /// Why there is no connection.
    enum Failure: Error { case lost, failed, refused }

    typealias Machine = RecoveryStateMachine<String, Failure>

    private static let second: UInt64 = 1_000_000_000
    private static let backoff = RecoveryBackoff(initial: 100, maximum: 1000)

    private var random = SeededGenerator(seed: 1)

    private func machine(_ endpoints: Int = 1, shuffles: Bool = false) -> Machine {
        Machine(endpoints: endpoints, shuffles: shuffles, backoff: Self.backoff)
    }

    /// The attempt of a wait; nil for any other action.
    private func attempt(_ action: Machine.Action) -> Int? {
        guard case .wait(let nanoseconds, let attempt, after: _) = action else { return nil }
        #expect(nanoseconds <= Self.backoff.bound(attempt: attempt))
        return attempt
    }

    @Test("The first connection is reported as connected, the next as recovered")
    mutating func goodDay() {
        var machine = self.machine()
        #expect(machine.start(using: &self.random) == .connect([0]))
        #expect(machine.connected("a", endpoint: 0) == .restore("a", isFirst: true))
        #expect(machine.restored(now: 0) == .announce("a", endpoint: 0, isRecovery: false))
        #expect(self.attempt(machine.lost(.lost, now: 60 * Self.second, using: &self.random)) == 1)
        #expect(machine.waited(using: &self.random) == .connect([0]))
        #expect(machine.connected("b", endpoint: 0) == .restore("b", isFirst: false))
        #expect(machine.restored(now: 61 * Self.second) == .announce("b", endpoint: 0, isRecovery: true))
    }

    @Test("A wait carries the failure it follows")
    mutating func payloads() {
        var machine = self.machine()
        _ = machine.start(using: &self.random)
        guard case .wait(_, 1, after: .failed) = machine.failed(.failed, using: &self.random) else {
            Issue.record("no wait after a failure")
            return
        }
        _ = machine.waited(using: &self.random)
        _ = machine.connected("a", endpoint: 0)
        guard case .wait(_, 2, after: .lost) = machine.lost(.lost, now: 0, using: &self.random) else {
            Issue.record("no wait after a loss")
            return
        }
    }

    @Test("A link that drops twice while the topology is declared reconnects")
    mutating func lostWhileRestoring() {
        var machine = self.machine()
        _ = machine.start(using: &self.random)
        for attempt in 1...2 {
            #expect(machine.connected("a", endpoint: 0) == .restore("a", isFirst: true))
            #expect(self.attempt(machine.lost(.lost, now: 0, using: &self.random)) == attempt)
            #expect(machine.waited(using: &self.random) == .connect([0]))
        }
        #expect(machine.connected("a", endpoint: 0) == .restore("a", isFirst: true))
        #expect(machine.restored(now: 0) == .announce("a", endpoint: 0, isRecovery: false))
    }

    @Test("Attempts are counted until a connection is stable")
    mutating func attempts() {
        var machine = self.machine()
        _ = machine.start(using: &self.random)
        for attempt in 1...3 {
            #expect(self.attempt(machine.failed(.failed, using: &self.random)) == attempt)
            _ = machine.waited(using: &self.random)
        }
        _ = machine.connected("a", endpoint: 0)
        _ = machine.restored(now: 0)
        // It came and went: no reason to hurry.
        #expect(self.attempt(machine.lost(.lost, now: Self.second, using: &self.random)) == 4)
        _ = machine.waited(using: &self.random)
        _ = machine.connected("a", endpoint: 0)
        _ = machine.restored(now: 2 * Self.second)
        #expect(self.attempt(machine.lost(.lost, now: 12 * Self.second, using: &self.random)) == 1)
    }

    @Test("F7: endpoints that failed are tried last, others in their order")
    mutating func memory() {
        var machine = self.machine(3)
        #expect(machine.start(using: &self.random) == .connect([0, 1, 2]))
        _ = machine.connected("a", endpoint: 0)
        _ = machine.restored(now: 0)
        _ = machine.lost(.lost, now: 0, using: &self.random)
        #expect(machine.waited(using: &self.random) == .connect([1, 2, 0]))
        _ = machine.connected("a", endpoint: 1)
        _ = machine.lost(.lost, now: 0, using: &self.random)
        #expect(machine.waited(using: &self.random) == .connect([2, 0, 1]))
        _ = machine.connected("a", endpoint: 0)
        _ = machine.restored(now: 0)
        _ = machine.lost(.lost, now: 0, using: &self.random)
        #expect(machine.waited(using: &self.random) == .connect([2, 0, 1]))
    }

    @Test("Shuffled endpoints occur in every order, all of them")
    mutating func shuffle() {
        var first: Set<Int> = []
        for _ in 0..<100 {
            var machine = self.machine(4, shuffles: true)
            guard case .connect(let order) = machine.start(using: &self.random) else {
                Issue.record("not connecting")
                return
            }
            #expect(order.sorted() == [0, 1, 2, 3])
            first.insert(order[0])
        }
        #expect(first == [0, 1, 2, 3])
    }

    /// Every state, by the events that lead there.
    enum Place: String, CaseIterable, Sendable {
        case idle, connecting, restoring, up, waiting, ended
    }

    private mutating func machine(in place: Place) -> Machine {
        var machine = self.machine()
        if place == .idle { return machine }
        _ = machine.start(using: &self.random)
        switch place {
        case .idle, .connecting: break
        case .restoring: _ = machine.connected("a", endpoint: 0)
        case .up:
            _ = machine.connected("a", endpoint: 0)
            _ = machine.restored(now: 0)
        case .waiting: _ = machine.failed(.failed, using: &self.random)
        case .ended: _ = machine.stop()
        }
        return machine
    }

    @Test("An illegal event changes nothing", arguments: Place.allCases)
    mutating func illegal(_ place: Place) {
        if place != .idle {
            var machine = self.machine(in: place)
            #expect(machine.start(using: &self.random) == .none)
        }
        if place != .connecting {
            var machine = self.machine(in: place)
            #expect(machine.connected("a", endpoint: 0) == .none)
            #expect(machine.failed(.failed, using: &self.random) == .none)
        }
        if place != .restoring {
            var machine = self.machine(in: place)
            #expect(machine.restored(now: 0) == .none)
        }
        if place != .restoring, place != .up {
            var machine = self.machine(in: place)
            #expect(machine.lost(.lost, now: 0, using: &self.random) == .none)
        }
        if place != .waiting {
            var machine = self.machine(in: place)
            #expect(machine.waited(using: &self.random) == .none)
        }
        var machine = self.machine(in: .connecting)
        #expect(machine.connected("a", endpoint: 1) == .none)
    }

    @Test("A refusal and a stop end it in every state", arguments: Place.allCases)
    mutating func ends(_ place: Place) {
        for isRefusal in [true, false] {
            var machine = self.machine(in: place)
            let action = isRefusal ? machine.refused(.refused) : machine.stop()
            #expect(action == .end(isRefusal ? .refused : nil))
            #expect(machine.start(using: &self.random) == .none)
            #expect(machine.waited(using: &self.random) == .none)
            #expect(machine.lost(.lost, now: 0, using: &self.random) == .none)
        }
    }

    @Test(
        "The longest delay doubles up to its limit",
        arguments: [(0, 100), (1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (64, 1000), (Int.max, 1000)]
            as [(Int, UInt64)]
    )
    func bounds(attempt: Int, bound: UInt64) {
        #expect(Self.backoff.bound(attempt: attempt) == bound)
    }

    @Test("A limit below the start is raised to it, and the largest numbers do not trap")
    mutating func extremes() {
        #expect(RecoveryBackoff(initial: 100, maximum: 10).bound(attempt: 9) == 100)
        let huge = RecoveryBackoff(initial: .max, maximum: .max)
        #expect(huge.bound(attempt: 9) == .max)
        _ = huge.delay(attempt: 9, using: &self.random)
    }

    @Test("F32: the delays spread over the whole time")
    mutating func jitter() {
        let delays = (0..<1000).map { _ in Self.backoff.delay(attempt: 5, using: &self.random) }
        #expect(delays.allSatisfy { $0 <= 1000 })
        for tenth in 0..<10 { #expect(delays.contains { $0 / 100 == UInt64(tenth) }) }
    }
}
