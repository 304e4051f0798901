// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// SettlementAccount: what an application has said of the deliveries of one channel, kept as its tasks say it. Every
// settlement is made here, in one step with its entry, so that the account has the order of the calls.
// A settlement with `multiple` covers deliveries that no task has read yet: each is looked up when it is read.

/// The application's own account of one channel's deliveries.
final class SettlementAccount: Sendable {
    enum Verdict: Hashable, Sendable {
        case acked
        /// Refused without requeue: dead-lettered.
        case refused
        case requeued
    }

    /// How a task settles a delivery.
    enum Call: CaseIterable, Sendable {
        case ack, ackMultiple, nack, nackMultiple, requeue, requeueMultiple, reject, rejectAndRequeue
    }

    struct State: Sendable {
        /// The deliveries that are read and not settled: body by tag.
        var open: [UInt64: String] = [:]
        /// Settlements with `multiple` that reach further than all before them.
        var covered: [(tag: UInt64, verdict: Verdict)] = []
        /// How each message has ended.
        var ends: [String: Verdict] = [:]
        /// How often each came, and how often it went back.
        var deliveries: [String: Int] = [:]
        var requeues: [String: Int] = [:]
        var settlements = 0
    }

    private let state = Locked(State())

    init() {}

    var result: State { self.state.withLock { $0 } }

    /// Enters a delivery; answers false when a settlement with `multiple` has covered it before it was read.
    func read(_ delivery: AMQPDelivery) -> Bool {
        self.state.withLock { state in
            let (tag, body) = (delivery.deliveryTag.rawValue, delivery.body.string)
            state.deliveries[body, default: 0] += 1
            if let index = state.covered.firstIndex(where: { $0.tag >= tag }) {
                Self.end(body, state.covered[index].verdict, &state)
                return false
            }
            state.open[tag] = body
            return true
        }
    }

    /// Settles a delivery, and enters what that covers.
    ///
    /// - Returns: False when the client says that the delivery is settled or void.
    /// - Throws: Any other error of the client, or a difference from the account.
    func settle(_ delivery: AMQPDelivery, _ call: Call, mayBeVoid: Bool = false) throws -> Bool {
        try self.state.withLock { state in
            let tag = delivery.deliveryTag.rawValue
            let isMultiple = [.ackMultiple, .nackMultiple, .requeueMultiple].contains(call)
            let below = isMultiple ? state.open.keys.filter { $0 <= tag } : [tag].filter { state.open[$0] != nil }
            do {
                switch call {
                case .ack: try delivery.ack()
                case .ackMultiple: try delivery.ack(multiple: true)
                case .nack: try delivery.nack(requeue: false)
                case .nackMultiple: try delivery.nack(requeue: false, multiple: true)
                case .requeue: try delivery.nack(requeue: true)
                case .requeueMultiple: try delivery.nack(requeue: true, multiple: true)
                case .reject: try delivery.reject(requeue: false)
                case .rejectAndRequeue: try delivery.reject(requeue: true)
                }
            } catch let error as AMQPError where error.code == .alreadySettled {
                if isMultiple || below.isEmpty { return false }
                guard mayBeVoid else {
                    throw StormFailure("tag \(tag) is open, and the client says that it is settled")
                }
                state.open[tag] = nil
                return false
            }
            if below.isEmpty, !isMultiple { throw StormFailure("tag \(tag) was settled twice") }
            let verdict: Verdict =
                switch call {
                case .ack, .ackMultiple: .acked
                case .nack, .nackMultiple, .reject: .refused
                case .requeue, .requeueMultiple, .rejectAndRequeue: .requeued
                }
            for each in below {
                guard let body = state.open.removeValue(forKey: each) else { continue }
                Self.end(body, verdict, &state)
            }
            if isMultiple, tag > state.covered.last?.tag ?? 0 { state.covered.append((tag, verdict)) }
            return true
        }
    }

    /// Enters a delivery that needed no acknowledgement.
    func readAutomatic(_ delivery: AMQPDelivery) {
        self.state.withLock { state in
            let body = delivery.body.string
            state.deliveries[body, default: 0] += 1
            Self.end(body, .acked, &state)
        }
    }

    private static func end(_ body: String, _ verdict: Verdict, _ state: inout State) {
        state.settlements += 1
        if verdict == .requeued { state.requeues[body, default: 0] += 1 } else { state.ends[body] = verdict }
    }
}

/// A violated expectation.
package struct StormFailure: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}
