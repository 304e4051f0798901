// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Synchronization
import Testing

// FaultLedger: what a publisher and a consumer of numbered messages have seen, and when: what was lost, invented or out
// of order, and how long each side stalled after a fault.

/// Bodies that came, in order.
final class SeenBodies: Sendable {
    private let state = Mutex([String]())
    var all: [String] { self.state.withLock { $0 } }

    func add(_ body: String) { self.state.withLock { $0.append(body) } }
    func forget() { self.state.withLock { $0 = [] } }
}

final class FaultLedger: Sendable {
    /// The outcome of a publish.
    enum End: String, Hashable, Sendable { case confirmed, nacked, unknown, notSent }

    /// Something that was done to the brokers.
    struct Fault: Sendable {
        var name: String
        var at: ContinuousClock.Instant
        /// Longest permitted stall of either side; nil for no limit, such as at the return of a node.
        var limit: Duration?
        /// A stall of the consumer has no limit.
        var holdsConsumer = false
    }

    private struct State {
        var published = 0
        var ends: [Int: End] = [:]
        /// How often each number came.
        var arrivals: [Int: Int] = [:]
        /// Numbers published once more because their outcome was not `confirmed`.
        var again: Set<Int> = []
        var highest = -1
        var redeliveries = 0
        var outOfOrder: [Int] = []
        /// Deliveries that lost consumers may have held, at most.
        var handedOut = 0
        var invented: [String] = []
        var endedTwice: [Int] = []
        var confirmTimes: [ContinuousClock.Instant] = []
        var arrivalTimes: [ContinuousClock.Instant] = []
        var faults: [Fault] = []
    }

    private let state = Mutex(State())

    // MARK: what happens

    /// The number of the next message.
    func next() -> Int {
        self.state.withLock { state in
            defer { state.published += 1 }
            return state.published
        }
    }

    /// A consumer's connection was lost, with up to this many deliveries that it has not acknowledged.
    ///
    /// They come again, behind later ones if a node that was cut off held them. RabbitMQ 4.3 does not mark those as
    /// redelivered: for its queue, they were handed out to a consumer that nobody could reach.
    func lostConsumer(prefetch: Int) { self.state.withLock { $0.handedOut += prefetch } }

    func publishesAgain(_ number: Int) { self.state.withLock { _ = $0.again.insert(number) } }

    func ended(_ number: Int, _ end: End) {
        let now = ContinuousClock.now
        self.state.withLock { state in
            if state.ends.updateValue(end, forKey: number) != nil { state.endedTwice.append(number) }
            if end == .confirmed { state.confirmTimes.append(now) }
        }
    }

    /// A delivery came.
    func arrived(_ body: String, redelivered: Bool) {
        let now = ContinuousClock.now
        self.state.withLock { state in
            state.arrivalTimes.append(now)
            guard let number = Int(body), 0..<state.published ~= number else {
                state.invented.append(body)
                return
            }
            if redelivered { state.redeliveries += 1 }
            let earlier = state.arrivals.updateValue((state.arrivals[number] ?? 0) + 1, forKey: number) ?? 0
            guard earlier == 0, !state.again.contains(number) else { return }
            if number < state.highest, !redelivered { state.outOfOrder.append(number) }
            state.highest = max(state.highest, number)
        }
    }

    /// Notes that something is about to be done.
    func fault(_ name: String, limit: Duration?, holdsConsumer: Bool = false) {
        self.state.withLock {
            $0.faults.append(Fault(name: name, at: .now, limit: limit, holdsConsumer: holdsConsumer))
        }
        FaultStage.report(name)
    }

    // MARK: what came of it

    /// Confirmed messages that have not come.
    var missing: [Int] {
        self.state.withLock { state in
            state.ends.filter { $0.value == .confirmed && state.arrivals[$0.key] == nil }.keys.sorted()
        }
    }

    var invented: [String] { self.state.withLock { $0.invented } }
    /// Confirmed messages that came behind later ones without being redelivered.
    ///
    /// A message reported unknown with its connection may still arrive after later ones.
    var outOfOrder: [Int] {
        self.state.withLock { state in state.outOfOrder.filter { state.ends[$0] == .confirmed } }
    }
    var endedTwice: [Int] { self.state.withLock { $0.endedTwice } }
    /// Messages that ended in no way.
    var endless: [Int] { self.state.withLock { state in (0..<state.published).filter { state.ends[$0] == nil } } }
    /// Messages that did not come although nobody was told so.
    var silentlyLost: [Int] {
        self.state.withLock { state in
            (0..<state.published).filter { state.arrivals[$0] == nil && (state.ends[$0] ?? .confirmed) == .confirmed }
        }
    }
    var confirmed: Int { self.state.withLock { state in state.ends.values.count { $0 == .confirmed } } }
    var arrived: Int { self.state.withLock { $0.arrivals.count } }

    /// The longest stall of either side after each fault and before the next, in seconds.
    struct Standstill: Sendable {
        var fault: Fault
        var publisher: Double
        var consumer: Double
    }

    var standstills: [Standstill] {
        self.state.withLock { state in
            let end = max(state.confirmTimes.last ?? .now, state.arrivalTimes.last ?? .now)
            return state.faults.indices.map { index in
                let from = state.faults[index].at
                let to = index + 1 < state.faults.count ? state.faults[index + 1].at : end
                return Standstill(
                    fault: state.faults[index],
                    publisher: Self.longest(state.confirmTimes, from, to),
                    consumer: Self.longest(state.arrivalTimes, from, to)
                )
            }
        }
    }

    private static func longest(
        _ times: [ContinuousClock.Instant],
        _ from: ContinuousClock.Instant,
        _ to: ContinuousClock.Instant
    ) -> Double {
        var longest = Duration.zero
        var last = from
        for time in times where time > from && time < to {
            longest = max(longest, time - last)
            last = time
        }
        return max(longest, to - last) / .seconds(1)
    }

    /// Prints what there is to say.
    func report(_ name: String) {
        for standstill in self.standstills {
            FaultStage.report(
                "\(name): \(standstill.fault.name): publisher stood still \(Self.text(standstill.publisher)) s, "
                    + "consumer \(Self.text(standstill.consumer)) s"
            )
        }
        let text = self.state.withLock { state in
            let ends = Dictionary(grouping: state.ends.values) { $0 }.mapValues(\.count)
            let copies = state.arrivals.values.reduce(0, +)
            return "published \(state.published), confirmed \(ends[.confirmed] ?? 0), nacked \(ends[.nacked] ?? 0), "
                + "unknown \(ends[.unknown] ?? 0), not sent \(ends[.notSent] ?? 0), arrived \(state.arrivals.count) "
                + "in \(copies) deliveries (\(state.redeliveries) redelivered), out of order \(state.outOfOrder.count), "
                + "invented \(state.invented.count), published again \(state.again.count), faults \(state.faults.count)"
        }
        FaultStage.report("\(name): \(text), confirmed and lost \(self.missing.count)")
    }

    private static func text(_ seconds: Double) -> String { "\((seconds * 10).rounded() / 10)" }

    /// Seconds with one decimal.
    static func text(_ duration: Duration) -> String { Self.text(duration / .seconds(1)) }

    /// The conditions after any run.
    ///
    /// - Parameter isOrdered: Whether what was published once comes in order.
    func check(isOrdered: Bool = true) {
        #expect(self.missing == [], "confirmed, and not consumed")
        #expect(self.invented == [], "consumed, and never published")
        if isOrdered {
            let handedOut = self.state.withLock { $0.handedOut }
            #expect(self.outOfOrder.count <= handedOut, "\(self.outOfOrder) came behind later ones")
        }
        #expect(self.endedTwice == [], "two outcomes")
        #expect(self.endless == [], "no outcome")
        #expect(self.silentlyLost == [], "neither consumed nor reported")
        for standstill in self.standstills {
            guard let limit = standstill.fault.limit else { continue }
            let longest =
                standstill.fault.holdsConsumer
                ? standstill.publisher : max(standstill.publisher, standstill.consumer)
            #expect(longest <= limit / .seconds(1), "\(standstill.fault.name): \(longest) s")
        }
    }
}
