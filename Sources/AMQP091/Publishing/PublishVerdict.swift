// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule
#if DELIBERATE_FAULTS
    import EpollConcurrency
#endif

// PublishVerdict: the meaning of a `channel.close` for each unconfirmed publish of its channel. The broker processes the
// methods of a channel in order and drops all after the one it refuses. So a publish before the refused one was
// processed, but its confirm is lost: unknown. The refused one is the culprit. Publishes after it were not processed and
// may be published again. The culprit is found from the reply text; see PublishRuns.
//
//   ... confirmed | unknown unknown | CULPRIT | not processed ...
//   more than one publish may be it:  | suspect ... suspect | not processed ...

struct PublishVerdict {
    /// The refused publish; nil if it is unknown.
    var culprit: UInt64?
    /// The range of suspects, one of which is the culprit; nil if there are none.
    var suspects: ClosedRange<UInt64>?
    /// Publishes from this number on were not processed.
    var unprocessed = UInt64.max
    /// The line that sent the culprit; nil if it is unknown.
    var site: CallSite?
    /// The publishes that match the text if the culprit is unknown.
    var named: Set<UInt64> = []

    /// Returns true if this publish may be the refused one.
    func isSuspect(_ sequence: UInt64) -> Bool {
        guard self.culprit == nil, let suspects, suspects.contains(sequence) else { return false }
        return self.named.isEmpty || self.named.contains(sequence)
    }
}

extension PublishVerdict {
    /// The properties of the refused publish in the text.
    private enum Trait {
        case exchange
        case expiration
        case userID
        case size(Int)
        case none

        init(_ text: String) {
            if text.contains("exchange '") {
                self = .exchange
            } else if text.contains("invalid expiration") {
                self = .expiration
            } else if text.contains("user_id property") {
                self = .userID
            } else if let size = Self.size(in: text) {
                self = .size(size)
            } else {
                self = .none
            }
        }

        /// The N of "message size N is larger than …".
        private static func size(in text: String) -> Int? {
            var words = text.split(separator: " ")[...]
            while let word = words.popFirst() {
                guard word == "size", let number = words.first.flatMap({ Int($0) }) else { continue }
                return number
            }
            return nil
        }
    }

    /// Classifies the unconfirmed publishes of a channel.
    ///
    /// - Parameters:
    ///   - text: The text of the broker's `channel.close`, which blames `basic.publish`.
    ///   - confirms: The unconfirmed publishes.
    ///   - runs: The recorded runs of publishes.
    init(_ text: String, _ confirms: ConfirmRing, _ runs: PublishRuns) {
        guard confirms.outstandingMessages > 0 else { return }
        let trait = Trait(text)
        var named: [UInt64] = []
        var first: UInt64?
        var last: UInt64 = 0
        var index = 0
        let all = runs.runs
        for sequence in confirms.lowest..<confirms.next where confirms.isOutstanding(sequence) {
            first = first ?? sequence
            last = sequence
            while index + 1 < all.count, all[index + 1].first <= sequence { index += 1 }
            guard index < all.count else { continue }
            let isNamed =
                switch trait {
                case .exchange: text.contains("exchange '\(Self.name(all[index].exchange))'")
                case .expiration: all[index].expiration.map { text.contains("'\($0)'") } ?? false
                case .userID: all[index].userID.map { text.contains("set to '\($0)'") } ?? false
                case .size(let size): confirms.octets(of: sequence) == size
                case .none: false
                }
            if isNamed { named.append(sequence) }
        }
        guard let first else { return }
        guard let firstNamed = named.first, let lastNamed = named.last else {
            self.suspects = first...last
            if first == last { self.convict(first, runs) }
            return
        }
        self.suspects = firstNamed...lastNamed
        self.unprocessed = lastNamed + 1
        // Only an exchange can exist for the first publish and be deleted for the last.
        guard named.count > 1, case .exchange = trait, let run = runs.run(of: firstNamed),
            runs.hasServed(run.exchange, lowest: confirms.lowest)
        else {
            self.convict(firstNamed, runs)
            return
        }
        self.named = Set(named)
    }

    private mutating func convict(_ sequence: UInt64, _ runs: PublishRuns) {
        self.culprit = sequence
        self.unprocessed = sequence + 1
        self.suspects = sequence...sequence
        self.site = runs.run(of: sequence)?.site
    }

    /// Returns the name of an exchange in RabbitMQ's texts.
    private static func name(_ exchange: String) -> String { exchange.isEmpty ? "amq.default" : exchange }
}

extension ChannelState {
    /// Classifies each unconfirmed publish after the broker has closed the channel.
    ///
    /// In the step that sets `failure`.
    mutating func judge(_ reason: ConnectionStateMachine.CloseReason) {
        guard reason.method == Basic.Publish.id, self.confirms.isOn else { return }
        let verdict = PublishVerdict(reason.text, self.confirms.ring, self.publishRuns)
        self.verdict = verdict
        self.confirms.closed(for: verdict.culprit, unprocessed: verdict.unprocessed)
        if let site = verdict.site { self.failure = AMQPError(channelClosed: reason, site: site) }
    }

    /// Returns the outcome of an unconfirmed publish of a closed channel.
    func endedOutcome(of sequence: UInt64, _ failure: AMQPError, asOperation: Bool) -> AMQPPublishOutcome {
        #if DELIBERATE_FAULTS
            if DeliberateFault.happens(.unknownReportedAsNotSent) { return .notSent(failure.withSafeRetry) }
        #endif
        guard let verdict = self.verdict else { return .unknown(failure) }
        if sequence == verdict.culprit {
            return .refused(asOperation ? failure.asRefusal.ofOperation : failure.asRefusal)
        }
        return sequence >= verdict.unprocessed ? .notSent(failure.withSafeRetry) : .unknown(failure)
    }
}

extension AMQPError {
    /// The error of a channel's end as the outcome of the culprit.
    var asRefusal: AMQPError {
        AMQPError(
            .refused,
            self.replyText,
            replyCode: self.replyCode,
            method: self.method,
            callSite: self.callSite,
            scope: self.scope,
            origin: self.origin
        )
    }

    /// Returns this error with scope `.operation`.
    var ofOperation: AMQPError {
        AMQPError(
            self.code,
            self.replyText,
            replyCode: self.replyCode,
            method: self.method,
            callSite: self.callSite,
            scope: .operation,
            origin: self.origin,
            isSafeToRetry: self.isSafeToRetry
        )
    }
}
