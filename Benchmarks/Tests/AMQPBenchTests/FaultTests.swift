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
        try await Fault(pause: 0.01, start: 0).inject(after: 0, until: StopFlag()) { told.add($0) }
        #expect(told.commands == ["freeze", "thaw"])
    }

    @Test("A run that ends before the fault leaves the broker alone; one that ends in it thaws it")
    func ends() async throws {
        let (told, stop) = (Told(), StopFlag())
        try await Fault(pause: 3600, start: 0).inject(after: 0, until: stop) {
            told.add($0)
            stop.set()
        }
        #expect(told.commands == ["freeze", "thaw"])
        try await Fault(pause: 3600, start: 3600).inject(after: 0, until: stop) { told.add($0) }
        #expect(told.commands == ["freeze", "thaw"])
    }

    /// What a broker was told.
    private final class Told: Sendable {
        private let list = Mutex<[String]>([])
        var commands: [String] { self.list.withLock { $0 } }
        func add(_ command: String) { self.list.withLock { $0.append(command) } }
    }
}
