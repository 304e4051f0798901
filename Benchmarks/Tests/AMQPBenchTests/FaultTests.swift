// SPDX-License-Identifier: Apache-2.0
import Synchronization
import Testing

@testable import AMQPBench

@Suite("Fault", .timeLimit(.minutes(1)))
struct FaultTests {
    @Test("A pause has a length and a time", arguments: [("pause:2s@5s", 2.0, 5.0), ("pause:500ms@0", 0.5, 0)])
    func reads(_ text: String, _ pause: Double, _ start: Double) {
        #expect(Fault(argument: text) == Fault(pause: pause, start: start))
    }

    @Test(
        "Anything else is refused",
        arguments: ["", "pause", "pause:2s", "pause:@5s", "pause:0@5s", "stop:2s@5s", "pause:2s@5s@6s"]
    )
    func refuses(_ text: String) {
        #expect(Fault(argument: text) == nil)
    }

    @Test("The broker is frozen and thawed, in this order")
    func order() async throws {
        let told = Told()
        let recovery = try await Fault(pause: 0.01, start: 0)
            .inject(after: 0, until: StopFlag(), watch: RecoveryWatch()) { told.add($0) }
        #expect(recovery?.brokerBack != nil)
        #expect(told.commands == ["freeze", "thaw"])
    }

    @Test("A run that ends before the fault leaves the broker alone; one that ends in it thaws it")
    func ends() async throws {
        let (told, stop) = (Told(), StopFlag())
        _ = try await Fault(pause: 3600, start: 0).inject(after: 0, until: stop, watch: RecoveryWatch()) {
            told.add($0)
            stop.set()
        }
        #expect(told.commands == ["freeze", "thaw"])
        let none = try await Fault(pause: 3600, start: 3600)
            .inject(after: 0, until: stop, watch: RecoveryWatch()) { told.add($0) }
        #expect(none == nil)
        #expect(told.commands == ["freeze", "thaw"])
    }

    @Test("A kill has a time only, and the broker is killed and started again")
    func kill() async throws {
        #expect(Fault(argument: "kill@5s") == Fault(killAt: 5))
        #expect(Fault(argument: "kill:2s@5s") == nil)
        let told = Told()
        _ = try await Fault(killAt: 0).inject(after: 0, until: StopFlag(), watch: RecoveryWatch()) { told.add($0) }
        #expect(told.commands == ["kill", "restart"])
    }

    @Test("Recovery is the first confirm and the first delivery after the fault")
    func recovery() async throws {
        let polls = Told()
        var watch = RecoveryWatch(hasConfirms: true, hasConsumers: true)
        watch.hasResumed = {
            polls.add("")
            return (confirmed: polls.commands.count > 1, consumed: polls.commands.count > 3)
        }
        let found = try await Fault(killAt: 0).inject(after: 0, until: StopFlag(), watch: watch) { _ in }
        let recovery = try #require(found)
        let (confirmed, consumed) = (try #require(recovery.confirmed), try #require(recovery.consumed))
        #expect(confirmed <= consumed)
        #expect(polls.commands.count >= 4)
    }

    /// What a broker was told.
    private final class Told: Sendable {
        private let list = Mutex<[String]>([])
        var commands: [String] { self.list.withLock { $0 } }
        func add(_ command: String) { self.list.withLock { $0.append(command) } }
    }
}
