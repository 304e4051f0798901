// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import Testing

// ReadGateTests: the table of when a connection reads.

@Suite("Read gate")
struct ReadGateTests {
    /// One event, what it answers, and the gate afterwards.
    struct Row: CustomTestStringConvertible {
        let gate: ReadGate
        let event: String
        let run: @Sendable (inout ReadGate) -> Answer
        let answer: Answer
        let after: ReadGate

        var testDescription: String { "\(self.gate): \(self.event)" }
    }

    enum Answer: Hashable {
        case nothing
        case reads(Bool)
        case step(ReadGate.Step)
    }

    static let gates: [ReadGate] = [.atEvents, .afterPause, .held(hidesEvents: false), .held(hidesEvents: true)]

    static func hold(_ gate: ReadGate, _ after: ReadGate) -> Row {
        Row(
            gate: gate,
            event: "a consumer is behind",
            run: {
                $0.hold()
                return .nothing
            },
            answer: .nothing,
            after: after
        )
    }

    static func look(
        _ gate: ReadGate,
        _ backlog: ReadGate.Backlog,
        isAwaited: Bool,
        _ reads: Bool,
        _ after: ReadGate
    ) -> Row {
        Row(
            gate: gate,
            event: "\(backlog), \(isAwaited ? "awaited" : "not awaited")",
            run: { .reads($0.mayRead(backlog, isAwaited: isAwaited)) },
            answer: .reads(reads),
            after: after
        )
    }

    static func rest(_ gate: ReadGate, isPausing: Bool, _ step: ReadGate.Step, _ after: ReadGate) -> Row {
        Row(
            gate: gate,
            event: "rested, \(isPausing ? "pausing" : "not pausing")",
            run: { .step($0.rested(isPausing: isPausing)) },
            answer: .step(step),
            after: after
        )
    }

    static let rows: [Row] = [
        Self.hold(.atEvents, .held(hidesEvents: false)),
        Self.hold(.afterPause, .held(hidesEvents: true)),
        Self.hold(.held(hidesEvents: false), .held(hidesEvents: false)),
        Self.hold(.held(hidesEvents: true), .held(hidesEvents: true)),
        Self.look(.atEvents, .excessive, isAwaited: false, true, .atEvents),
        Self.look(.afterPause, .full, isAwaited: false, true, .afterPause),
        Self.look(.held(hidesEvents: false), .none, isAwaited: false, true, .atEvents),
        Self.look(.held(hidesEvents: true), .none, isAwaited: true, true, .afterPause),
        Self.look(.held(hidesEvents: false), .full, isAwaited: false, false, .held(hidesEvents: false)),
        Self.look(.held(hidesEvents: true), .full, isAwaited: true, true, .held(hidesEvents: true)),
        Self.look(.held(hidesEvents: false), .excessive, isAwaited: true, false, .held(hidesEvents: false)),
        Self.look(.held(hidesEvents: true), .excessive, isAwaited: false, false, .held(hidesEvents: true)),
        Self.rest(.atEvents, isPausing: false, .none, .atEvents),
        Self.rest(.atEvents, isPausing: true, .hideEvents, .afterPause),
        Self.rest(.afterPause, isPausing: true, .pause, .afterPause),
        Self.rest(.afterPause, isPausing: false, .reportEvents, .atEvents),
        Self.rest(.held(hidesEvents: false), isPausing: false, .none, .held(hidesEvents: false)),
        Self.rest(.held(hidesEvents: false), isPausing: true, .hideEvents, .held(hidesEvents: true)),
        Self.rest(.held(hidesEvents: true), isPausing: false, .reportEvents, .held(hidesEvents: false)),
        Self.rest(.held(hidesEvents: true), isPausing: true, .pause, .held(hidesEvents: true)),
    ]

    @Test("Each event has one answer and one next state", arguments: rows)
    func row(_ row: Row) {
        var gate = row.gate
        #expect(row.run(&gate) == row.answer)
        #expect(gate == row.after)
    }

    @Test("A gate that is held reads for nobody but a caller that waits", arguments: gates)
    func held(_ gate: ReadGate) {
        var gate = gate
        gate.hold()
        #expect(gate.isHeld)
        let reads = gate.mayRead(.full, isAwaited: false)
        #expect(!reads)
        let readsForCaller = gate.mayRead(.full, isAwaited: true)
        #expect(readsForCaller)
        let readsAgain = gate.mayRead(.none, isAwaited: false)
        #expect(readsAgain && !gate.isHeld)
    }
}
