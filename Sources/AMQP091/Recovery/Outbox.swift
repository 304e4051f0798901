// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import DequeModule
import EpollConcurrency
import EpollNetworking

// Outbox: the books of what a client's publisher has accepted: each entry ends exactly once, as confirmed, returned,
// nacked, refused, or given up; a failure that nobody was told of is kept until somebody is. What was on a channel that
// is gone is published again on the next one, in its order, with the same message id: at least once. Bounded in octets.
// Not here: the channels and the waits (RecoveringPublisher+Outbox).
//
//   add -> waiting --publish--> published --confirm, return, nack--> ended
//             ^                     |  \---the channel was closed for it (refused)--> ended
//             |                     |
//             +----channel gone-----+            waiting, published --give up--> ended
//
// When the broker has closed the channel for a publish and it is not known for which, those that may be it are suspects:
// each is published alone on the next channel.

/// One accepted message.
///
/// The properties that are not constant are guarded by its outbox's lock.
final class OutboxEntry: @unchecked Sendable {
    let message: AMQPMessage
    let destination: AMQPDestination
    let mandatory: Bool
    let site: CallSite
    /// Octets it counts for: the body, and roughly the rest; 0 for one whose caller holds it anyway.
    let octets: Int

    fileprivate var number: UInt64 = 0
    fileprivate var place = Outbox.Place.waiting
    fileprivate var isSuspect = false
    /// It is the only one on its channel.
    fileprivate var isAlone = false
    fileprivate var wasWritten = false
    /// The outcome of a copy on a channel that is gone is unknown: the broker may have it.
    fileprivate var mayHaveArrived = false
    fileprivate var firstSequence: UInt64 = 0
    /// Times it was refused because its exchange, one of the topology, was missing.
    fileprivate var repairs = 0

    init(_ message: AMQPMessage, to destination: AMQPDestination, mandatory: Bool, site: CallSite, isMetered: Bool) {
        self.message = message
        self.destination = destination
        self.mandatory = mandatory
        self.site = site
        self.octets = isMetered ? message.body.count + 256 : 0
    }
}

final class Outbox: Sendable {
    enum Place {
        case waiting
        case published(on: ChannelSession, UInt64)
        case ended(AMQPPublishOutcome)
    }

    /// What one step of publishing came to.
    enum Step {
        /// Nothing waits.
        case done
        case published(UInt64)
        case noRoom
    }

    /// What a wait for everything waits for next.
    enum Next {
        case done
        case settled(ChannelSession, through: UInt64)
        case publishing(OutboxEntry)
    }

    /// How the entries so far have ended.
    package struct Books: Hashable, Sendable {
        package var accepted = 0
        package var confirmed = 0
        package var returned = 0
        package var nacked = 0
        package var refused = 0
        package var givenUp = 0
        /// Of those not confirmed, the ones of which an earlier copy may have arrived.
        package var uncertain = 0
        /// Neither ended nor withdrawn.
        package var held = 0
        /// Failures somebody was told of, and failures nobody was.
        package var reported = 0
        package var unreported = 0
    }

    private struct State {
        /// All that is held, oldest first; those that ended leave from the front.
        var entries = Deque<OutboxEntry>()
        /// Of those, the ones to be published, oldest first.
        var waiting = Deque<OutboxEntry>()
        var octets = 0
        var next: UInt64 = 1
        var books = Books()
        /// Failures nobody was told of, the oldest first; further ones are only counted.
        var failures = Deque<OutboxEntry>()
        /// Nothing is taken any more.
        var closing: AMQPError?
    }

    /// Failures kept until somebody is told.
    private static let failureLimit = 1024

    let limit: Int
    private let state = ObservedValue(State())

    /// - Parameter limit: Octets held at most.
    init(limit: Int) { self.limit = limit }

    /// The books at one moment.
    var books: Books {
        self.state.withLock { state in
            Self.settleAll(&state)
            return state.books
        }
    }

    var hasWaiting: Bool { self.state.withLock { !$0.waiting.isEmpty } }

    /// The number of the newest entry.
    var newest: UInt64 { self.state.withLock { $0.next - 1 } }

    // MARK: taking

    /// Takes a message; an empty outbox takes one of any size.
    ///
    /// - Returns: Nil when it was taken; the oldest entry when there is no room.
    /// - Throws: The outbox takes nothing any more.
    func add(_ entry: OutboxEntry) throws(AMQPError) -> OutboxEntry? {
        try self.state.withLock { state throws(AMQPError) in
            if let closing = state.closing { throw closing.withSafeRetry }
            Self.settleFront(&state)
            if entry.octets > 0, state.octets + entry.octets > self.limit { Self.settleAll(&state) }
            guard entry.octets == 0 || state.octets + entry.octets <= self.limit || state.octets == 0 else {
                return state.entries.first { if case .ended = $0.place { false } else { true } }
            }
            entry.number = state.next
            state.next += 1
            state.entries.append(entry)
            state.waiting.append(entry)
            state.octets += entry.octets
            state.books.accepted += 1
            state.books.held += 1
            return nil
        }
    }

    /// Takes an entry back that was never written.
    ///
    /// - Returns: False when it was written, or has ended.
    func withdraw(_ entry: OutboxEntry) -> Bool {
        self.state.change { state in
            guard case .waiting = entry.place, !entry.wasWritten else { return false }
            state.waiting.removeAll { $0 === entry }
            Self.forget(entry, &state)
            return true
        }
    }

    /// An entry was never taken.
    private static func forget(_ entry: OutboxEntry, _ state: inout State) {
        state.entries.removeAll { $0 === entry }
        state.octets -= entry.octets
        state.books.accepted -= 1
        state.books.held -= 1
    }

    /// Why nothing is taken any more; nil while the outbox takes messages.
    var closing: AMQPError? { self.state.withLock { $0.closing } }

    /// Waits until the outbox takes nothing any more, or `isOver` says so; it is asked at each change and `recheck`.
    func waitUntilClosed(
        until deadline: MonotonicTime,
        or isOver: () -> Bool
    ) async throws(AMQPError) {
        _ = try await self.state.wait(until: deadline) { state -> Bool? in
            state.closing != nil || isOver() ? true : nil
        }
    }

    /// Has all who wait for room look again.
    func recheck() { self.state.change { _ in } }

    // MARK: publishing

    /// Publishes the oldest entry that waits, in one step, so that the order of entries is that of the channel.
    ///
    /// - Throws: The channel is gone; the entry waits on.
    func publishNext(on core: ChannelSession, isAlone: Bool = false) throws(AMQPError) -> Step {
        try self.state.withLock { state throws(AMQPError) -> Step in
            while let entry = state.waiting.first {
                let attempt: ChannelSession.EnqueueAttempt
                do throws(AMQPError) {
                    attempt = try core.tryEnqueueUntraced(
                        entry.message,
                        to: entry.destination,
                        mandatory: entry.mandatory,
                        site: entry.site
                    )
                } catch {
                    guard error.code == .invalidArgument else { throw error }
                    // It cannot be encoded, on any channel.
                    state.waiting.removeFirst()
                    if entry.wasWritten {
                        Self.end(entry, .notSent(error), &state)
                    } else {
                        entry.place = .ended(.notSent(error))
                        Self.forget(entry, &state)
                    }
                    continue
                }
                guard case .done(let sequence) = attempt else { return .noRoom }
                state.waiting.removeFirst()
                entry.place = .published(on: core, sequence)
                entry.isAlone = isAlone
                entry.wasWritten = true
                if entry.firstSequence == 0 { entry.firstSequence = sequence }
                return .published(sequence)
            }
            return .done
        }
    }

    /// Whether an entry is to be published alone, and whether it is the next.
    var suspects: (areThere: Bool, isNext: Bool) {
        self.state.withLock { state in
            let isNext = state.waiting.first?.isSuspect ?? false
            return (isNext || state.waiting.contains { $0.isSuspect }, isNext)
        }
    }

    /// Looks for channels that are gone: what has its outcome ends, the rest waits to be published again.
    ///
    /// - Parameter isMissing: Whether a refusal is for an exchange that is declared again; such a message waits too.
    /// - Returns: What the broker refused.
    func channelsEnded(_ isMissing: (AMQPError) -> Bool) -> [AMQPError] {
        self.state.change { state in
            var refusals: [AMQPError] = []
            var hasMoved = false
            for entry in state.entries {
                guard case .published(let core, let sequence) = entry.place else { continue }
                // While the close is under way there is no outcome yet.
                guard let failure = core.ending else { continue }
                let isPoisoned = failure.isLoss && failure.disposition(for: .outbox) == .isolate
                switch core.knownOutcome(of: sequence) {
                case nil: continue
                case .notSent?: entry.isSuspect = false
                case .unknown?:
                    if isPoisoned, entry.isAlone {
                        let refusal = failure.asRefusal.ofOperation
                        refusals.append(refusal)
                        Self.end(entry, .refused(refusal), &state)
                        continue
                    }
                    guard core.isUnsettled(sequence) else {
                        Self.settle(entry, &state)
                        continue
                    }
                    entry.mayHaveArrived = true
                    let isSuspect = core.withLock { channel, _ in channel.verdict?.isSuspect(sequence) ?? false }
                    entry.isSuspect = isSuspect || isPoisoned
                case .refused(let refusal)? where entry.repairs < MissingExchanges.attempts && isMissing(refusal):
                    entry.repairs += 1
                    entry.isSuspect = false
                case let outcome?:
                    if case .refused(let refusal) = outcome { refusals.append(refusal) }
                    Self.end(entry, outcome, &state)
                    continue
                }
                #if DELIBERATE_FAULTS
                    if DeliberateFault.happens(.outboxForgets) {
                        Self.end(entry, .confirmed, &state)
                        continue
                    }
                #endif
                entry.place = .waiting
                hasMoved = true
            }
            if hasMoved {
                // In the order they were accepted in.
                state.waiting = Deque(state.entries.lazy.filter { if case .waiting = $0.place { true } else { false } })
            }
            Self.trim(&state)
            return refusals
        }
    }

    // MARK: ends

    /// Where an entry is; one whose confirm came has ended.
    func place(of entry: OutboxEntry, isAsked: Bool = false) -> Place {
        self.state.withLock { state in
            Self.settle(entry, &state)
            if isAsked, case .ended(let outcome) = entry.place, !outcome.isConfirmed { Self.report(entry, &state) }
            return entry.place
        }
    }

    /// Why an entry was not sent, reported with this; nil for any other end, which stays to be told of.
    func takeNotSent(_ entry: OutboxEntry) -> AMQPError? {
        self.state.withLock { state in
            guard case .ended(.notSent(let error)) = entry.place else { return nil }
            Self.report(entry, &state)
            return error
        }
    }

    func firstSequence(of entry: OutboxEntry) -> UInt64 { self.state.withLock { _ in entry.firstSequence } }

    /// What to wait for until all entries up to a number have ended.
    func next(through number: UInt64) -> Next {
        self.state.withLock { state in
            Self.settleAll(&state)
            var found: (core: ChannelSession, through: UInt64)?
            for entry in state.entries where entry.number <= number {
                switch entry.place {
                case .ended: continue
                case .waiting: if found == nil { return .publishing(entry) }
                case .published(let core, let sequence):
                    if found == nil || found?.core === core { found = (core, sequence) }
                }
            }
            return found.map { .settled($0.core, through: $0.through) } ?? .done
        }
    }

    /// The failures nobody was told of, as one error; from here on somebody was.
    func takeFailures() -> AMQPError? {
        self.state.withLock { state in
            let count = state.books.unreported
            guard count > 0, let first = state.failures.first, case .ended(let outcome) = first.place else {
                return nil
            }
            state.books.reported += count
            state.books.unreported = 0
            state.failures = []
            return outcome.error?.firstOf(count)
        }
    }

    /// How many entries have not ended.
    var heldCount: Int {
        self.state.withLock { state in
            Self.settleAll(&state)
            return state.books.held
        }
    }

    /// Takes nothing any more: those who wait for room are told this.
    func close(_ reason: AMQPError) {
        self.state.change { $0.closing = $0.closing ?? reason }
    }

    /// Ends an entry whose caller waits for it no longer.
    ///
    /// - Returns: How it has ended.
    func abandon(_ entry: OutboxEntry, _ reason: AMQPError) -> AMQPPublishOutcome {
        self.state.change { state in
            Self.settle(entry, &state)
            if case .ended(let outcome) = entry.place { return outcome }
            let outcome = entry.wasWritten ? AMQPPublishOutcome.unknown(reason) : .notSent(reason)
            state.waiting.removeAll { $0 === entry }
            Self.end(entry, outcome, &state)
            Self.report(entry, &state)
            return outcome
        }
    }

    /// Ends everything that has not ended.
    ///
    /// An entry that was never written has a caller who waits in `put` and is told: it was never taken.
    ///
    /// - Returns: How many entries that were taken.
    func giveUp(_ reason: AMQPError) -> Int {
        self.state.change { state in
            state.closing = state.closing ?? reason
            Self.settleAll(&state)
            var count = 0
            for entry in state.entries {
                if case .ended = entry.place { continue }
                let error = AMQPError(
                    .givenUp,
                    reason.replyText,
                    replyCode: reason.replyCode,
                    callSite: AMQPCallSite(entry.site),
                    origin: reason.origin,
                    isSafeToRetry: !entry.wasWritten
                )
                if entry.wasWritten {
                    count += 1
                    Self.end(entry, .unknown(error), &state)
                } else {
                    entry.place = .ended(.notSent(error))
                    Self.forget(entry, &state)
                }
            }
            state.waiting = []
            Self.trim(&state)
            return count
        }
    }

    /// An entry has its outcome, once.
    private static func end(_ entry: OutboxEntry, _ outcome: AMQPPublishOutcome, _ state: inout State) {
        if case .ended = entry.place { return }
        entry.place = .ended(outcome)
        state.octets -= entry.octets
        state.books.held -= 1
        switch outcome {
        case .confirmed: state.books.confirmed += 1
        case .returned: state.books.returned += 1
        case .nacked: state.books.nacked += 1
        case .refused: state.books.refused += 1
        case .unknown, .notSent: state.books.givenUp += 1
        }
        guard !outcome.isConfirmed else { return }
        if entry.mayHaveArrived { state.books.uncertain += 1 }
        state.books.unreported += 1
        if state.failures.count < Self.failureLimit { state.failures.append(entry) }
    }

    private static func report(_ entry: OutboxEntry, _ state: inout State) {
        guard let index = state.failures.firstIndex(where: { $0 === entry }) else { return }
        state.failures.remove(at: index)
        state.books.unreported -= 1
        state.books.reported += 1
    }

    /// Ends an entry whose confirm, return or nack came.
    private static func settle(_ entry: OutboxEntry, _ state: inout State) {
        guard case .published(let core, let sequence) = entry.place else { return }
        switch core.knownOutcome(of: sequence) {
        case .confirmed?: Self.end(entry, .confirmed, &state)
        case .returned(let code, let text)?: Self.end(entry, .returned(code, text), &state)
        case .nacked?: Self.end(entry, .nacked, &state)
        // Decided when the channel's end is: `channelEnded`.
        case nil, .refused?, .notSent?: break
        case .unknown(let reason)?:
            // The channel has forgotten how it ended: too many refusals.
            if !core.isUnsettled(sequence) { Self.end(entry, .unknown(reason), &state) }
        }
    }

    /// Two entries at most, so that what is added is matched by what leaves.
    private static func settleFront(_ state: inout State) {
        for _ in 0..<2 {
            guard let first = state.entries.first else { return }
            Self.settle(first, &state)
            guard case .ended = first.place else { return }
            state.entries.removeFirst()
        }
    }

    private static func settleAll(_ state: inout State) {
        for entry in state.entries { Self.settle(entry, &state) }
        Self.trim(&state)
    }

    private static func trim(_ state: inout State) {
        while let first = state.entries.first, case .ended = first.place { state.entries.removeFirst() }
        // Those that ended after one that has not.
        guard state.entries.count > 2 * state.books.held + 64 else { return }
        state.entries.removeAll { if case .ended = $0.place { true } else { false } }
    }
}
