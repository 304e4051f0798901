// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Synchronization

// Ledger: every message of one queue, from before it is published to its end and its delivery. What may not happen is
// written down at once, with the message it happened to; what must happen is asked for at the end of a round, when
// nothing is under way any more. A round is forgotten two rounds later, so that memory stays flat.

/// How a publish ended.
enum End: String, Sendable, CaseIterable {
    case confirmed, nacked, returned, refused, unknown, notSent

    init(_ error: AMQPError) {
        switch error.code {
        case .nacked: self = .nacked
        case .returned: self = .returned
        case .refused: self = .refused
        default: self = error.isSafeToRetry ? .notSent : .unknown
        }
    }

    init(_ outcome: AMQPPublishOutcome) {
        switch outcome {
        case .confirmed: self = .confirmed
        case .nacked: self = .nacked
        case .returned: self = .returned
        case .refused: self = .refused
        case .unknown: self = .unknown
        case .notSent: self = .notSent
        }
    }
}

/// The sums of a run.
struct Sums: Sendable {
    var ends: [End: Int] = [:]
    var deliveries = 0
    var redeliveries = 0
    var calls = 0
    var failedCalls = 0
    var connects = 0
    var faults: [String: Int] = [:]
}

/// The shared record of all workers.
final class Notes: Sendable {
    private let state = Mutex<(sums: Sums, broken: [String])>((Sums(), []))

    var sums: Sums { self.state.withLock { $0.sums } }
    /// Promises that were broken, the first hundred.
    var broken: [String] { self.state.withLock { $0.broken } }

    func add(_ change: (inout Sums) -> Void) { self.state.withLock { change(&$0.sums) } }

    func isBroken(_ promise: String) {
        self.state.withLock { state in
            if state.broken.count < 100 { state.broken.append(promise) }
        }
        say("BROKEN: \(promise)")
    }
}

final class Ledger: Sendable {
    private struct Entry {
        var end: End?
        var deliveries = 0
        var round: Int
    }

    private struct State {
        var entries: [Int: Entry] = [:]
        var next = 0
        var round = 0
        var begun = 0
        var pending = 0
    }

    let queue: String
    /// With an outbox a message may be published twice.
    let hasOutbox: Bool
    private let notes: Notes
    private let state = Mutex(State())

    init(_ queue: String, hasOutbox: Bool, _ notes: Notes) {
        self.queue = queue
        self.hasOutbox = hasOutbox
        self.notes = notes
    }

    /// A message about to be published: its number stands at the front of the body, and each octet behind follows from it.
    func begin(size: Int) -> (number: Int, message: AMQPMessage) {
        let number = self.state.withLock { state in
            state.next += 1
            state.begun += 1
            state.pending += 1
            state.entries[state.next] = Entry(round: state.round)
            return state.next
        }
        return (number, AMQPMessage(AMQPBody(Self.body(number, size: size)), properties: .init(deliveryMode: 2)))
    }

    func end(_ number: Int, _ end: End) {
        let isFirst = self.state.withLock { state -> Bool in
            guard state.entries[number]?.end == nil else { return false }
            state.entries[number]?.end = end
            state.pending -= 1
            return true
        }
        if !isFirst { self.notes.isBroken("\(self.queue): publish \(number) ended twice") }
        self.notes.add { $0.ends[end, default: 0] += 1 }
    }

    func delivered(_ delivery: AMQPDelivery) {
        let octets = delivery.body.copy().array
        guard let number = Self.number(octets) else {
            return self.notes.isBroken("\(self.queue): a body of \(octets.count) octets that nobody published")
        }
        let hasOutbox = self.hasOutbox
        let isRedelivered = delivery.redelivered
        let promise = self.state.withLock { state -> String? in
            guard var entry = state.entries[number] else { return "message \(number) came that was not published" }
            entry.deliveries += 1
            state.entries[number] = entry
            if entry.deliveries > 1, !isRedelivered, !hasOutbox { return "message \(number) came twice as new" }
            switch entry.end {
            case .notSent: return "message \(number) came, but was not sent"
            case .returned: return "message \(number) came, but was returned"
            default: return nil
            }
        }
        if let promise { self.notes.isBroken("\(self.queue): \(promise)") }
        self.notes.add { sums in
            sums.deliveries += 1
            if isRedelivered { sums.redeliveries += 1 }
        }
    }

    /// As many messages as one round takes: what the accounts hold must not depend on how fast the machine is.
    var isFull: Bool { self.state.withLock { $0.begun >= 20_000 } }

    /// Publishes without an end.
    var pending: Int { self.state.withLock { $0.pending } }

    /// Messages that were confirmed and have not come.
    var missing: [Int] {
        self.state.withLock { state in
            state.entries.filter { $0.value.end == .confirmed && $0.value.deliveries == 0 }.map(\.key).sorted()
        }
    }

    /// Forgets what is settled, but for the last round: what is unknown may come late.
    func nextRound() {
        self.state.withLock { state in
            state.round += 1
            state.begun = 0
            let oldest = state.round - 2
            state.entries = state.entries.filter { $0.value.round > oldest }
        }
    }

    // MARK: bodies

    private static func body(_ number: Int, size: Int) -> [UInt8] {
        let head = Array("\(number):\(size):".utf8)
        return head + (0..<size).map { UInt8(truncatingIfNeeded: number &+ $0 &* 7) }
    }

    private static func number(_ octets: [UInt8]) -> Int? {
        let parts = octets.split(separator: UInt8(ascii: ":"), maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, let number = Int(String(decoding: parts[0], as: UTF8.self)),
            let size = Int(String(decoding: parts[1], as: UTF8.self)), octets == Self.body(number, size: size)
        else { return nil }
        return number
    }
}
