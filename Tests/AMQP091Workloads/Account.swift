// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Synchronization

/// Account: what the application was told about each message, and what has arrived; the properties are read from it.
final class Account: Sendable {
    struct State {
        var told: [String: AMQPPublishOutcome] = [:]
        var order: [String: [Int]] = [:]
        var arrived: [String: Int] = [:]
        var broken: [String] = []
        /// Sends of an outbox that were accepted, and those that it reported as not confirmed.
        var sent: Set<String> = []
        var reported = 0
        /// How the scope of the outbox ended.
        var report = ""
    }

    let state = Mutex(State())

    func tell(_ name: String, _ outcome: AMQPPublishOutcome) {
        self.state.withLock { state in
            if state.told.updateValue(outcome, forKey: name) != nil { state.broken.append("\(name) was told twice") }
        }
    }

    func breach(_ text: String) { self.state.withLock { $0.broken.append(text) } }

    func arrive(_ name: String, isRedelivered: Bool) {
        self.state.withLock { state in
            let count = state.arrived[name, default: 0]
            state.arrived[name] = count + 1
            let parts = name.split(separator: "-")
            if count == 0, !isRedelivered, parts.count == 2, let number = Int(parts[1]) {
                state.order[String(parts[0]), default: []].append(number)
            }
        }
    }

    /// Whether something that was confirmed, or sent through an outbox without a report, has not arrived.
    var isMissing: Bool {
        self.state.withLock { state in
            state.told.contains { $0.value == .confirmed && state.arrived[$0.key] == nil }
                || state.sent.count { state.arrived[$0] == nil } > state.reported
        }
    }

    /// - Throws: `Broken` with the first property that does not hold.
    func check() throws {
        let state = self.state.withLock { $0 }
        var broken = state.broken
        for (name, outcome) in state.told.sorted(by: { $0.key < $1.key }) {
            switch outcome {
            case .confirmed:
                if state.arrived[name] == nil { broken.append("\(name) was confirmed and is lost") }
            case .unknown:
                break
            case .refused, .nacked, .notSent, .returned:
                if state.arrived[name] != nil { broken.append("\(name) has arrived, but was told as \(outcome)") }
            }
        }
        let missing = state.sent.count { state.arrived[$0] == nil }
        if missing > state.reported {
            let reported = "\(state.reported) were reported: \(state.report)"
            broken.append("\(missing) messages of the outbox are lost, and \(reported)")
        }
        for name in state.arrived.keys.sorted() where state.told[name] == nil && !state.sent.contains(name) {
            broken.append("\(name) has arrived, and nobody was told how its publish ended")
        }
        for publisher in state.order.keys.sorted() {
            let numbers = (state.order[publisher] ?? []).filter { state.told["\(publisher)-\($0)"] == .confirmed }
            if numbers != numbers.sorted() { broken.append("\(publisher) is out of order: \(numbers)") }
        }
        if !broken.isEmpty { throw Broken(description: broken.prefix(8).joined(separator: "; ")) }
    }
}
