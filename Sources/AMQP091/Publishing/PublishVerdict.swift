// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule

// PublishVerdict: what a `channel.close` says of each unconfirmed publish of its channel. The broker takes the methods of
// a channel in their order and drops all that follow the one it refuses. So a publish before the refused one was
// processed, though its confirm is lost: unknown. The refused one is the culprit. Those after it were not processed and
// may be published again. The culprit is found by what the text names; see PublishRuns.
//
//   ... confirmed | unknown unknown | CULPRIT | not processed ...
//   more than one publish may be it:  | suspect ... suspect | not processed ...

struct PublishVerdict {
    /// The publish the broker refused; nil when it is not known which.
    var culprit: UInt64?
    /// The publishes one of which is the culprit, lowest and highest number; nil when none is.
    var suspects: ClosedRange<UInt64>?
    /// Publishes from this number on were not processed.
    var unprocessed = UInt64.max
    /// The line that sent the culprit; nil when it is not known.
    var site: CallSite?
    /// The numbers the text names, when it names some and the culprit is not known.
    var named: Set<UInt64> = []

    /// Whether this publish may be the one the broker refused.
    func isSuspect(_ sequence: UInt64) -> Bool {
        guard self.culprit == nil, let suspects, suspects.contains(sequence) else { return false }
        return self.named.isEmpty || self.named.contains(sequence)
    }
}

extension PublishVerdict {
    /// What a text names of the publish it refuses.
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

    /// Judges the unconfirmed publishes of a channel.
    ///
    /// - Parameters:
    ///   - text: The text of the broker's `channel.close`, which blames `basic.publish`.
    ///   - confirms: What is unconfirmed.
    ///   - runs: What is known of it.
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
        // Only an exchange can have been there for the first and be gone for the last.
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

    /// The name RabbitMQ gives an exchange in its texts.
    private static func name(_ exchange: String) -> String { exchange.isEmpty ? "amq.default" : exchange }
}

extension ChannelState {
    /// The broker has closed the channel: says what that means for each unconfirmed publish.
    ///
    /// In the step that sets `failure`.
    mutating func judge(_ reason: ConnectionStateMachine.CloseReason) {
        guard reason.method == Basic.Publish.id, self.confirms.isOn else { return }
        let verdict = PublishVerdict(reason.text, self.confirms.ring, self.publishRuns)
        self.verdict = verdict
        self.confirms.closed(for: verdict.culprit, unprocessed: verdict.unprocessed)
        if let site = verdict.site { self.failure = AMQPError(channelClosed: reason, site: site) }
    }

    /// How an unconfirmed publish of a channel that is gone has ended.
    func endedOutcome(of sequence: UInt64, _ failure: AMQPError, asOperation: Bool) -> AMQPPublishOutcome {
        guard let verdict = self.verdict else { return .unknown(failure) }
        if sequence == verdict.culprit {
            return .refused(asOperation ? failure.asRefusal.ofOperation : failure.asRefusal)
        }
        return sequence >= verdict.unprocessed ? .notSent(failure.withSafeRetry) : .unknown(failure)
    }
}

extension AMQPError {
    /// The end of a channel as the outcome of the publish that caused it.
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

    /// The same error where channel and connection go on.
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
