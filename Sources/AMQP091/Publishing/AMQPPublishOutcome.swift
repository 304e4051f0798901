// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire
#if DELIBERATE_FAULTS
    import EpollConcurrency
#endif

// AMQPPublishOutcome: the outcome of a publish, exactly one of six; and the sum of many (AMQPPublishSummary).
// "Lost" is never reported as nacked, "returned" never as confirmed.

/// The outcome of a publish.
public enum AMQPPublishOutcome: Hashable, Sendable {
    /// Confirmed: `basic.ack`.
    case confirmed
    /// Returned, because it was mandatory and routed to no queue: `basic.return` with this code and text.
    case returned(ReplyCode, String)
    /// Nacked: `basic.nack`.
    case nacked
    /// Refused: the broker closed the channel for it, with code and text: a missing exchange (404), no permission
    /// (403), an invalid property or size (406).
    ///
    /// Publishing the same again closes the next channel. The error has code `.refused` and the line that published.
    case refused(AMQPError)
    /// Unknown: its octets were written and no confirm arrived, for this reason.
    ///
    /// Publishing it again may duplicate it.
    case unknown(AMQPError)
    /// Not sent: nothing was written, or the broker closed the channel before processing it, for this reason: publishing it
    /// again is safe.
    case notSent(AMQPError)

    /// True if it was confirmed.
    public var isConfirmed: Bool { self == .confirmed }

    /// The error of this outcome; nil if confirmed.
    public var error: AMQPError? {
        switch self {
        case .confirmed: nil
        case .returned(let code, let text):
            AMQPError(.returned, text, replyCode: code, method: Basic.Return.id, origin: .broker)
        case .nacked: AMQPError(.nacked, method: Basic.Nack.id, origin: .broker)
        case .refused(let reason): reason
        case .unknown(let reason):
            AMQPError(
                .unknownOutcome,
                reason.code == .unknownOutcome || reason.replyText.isEmpty
                    ? reason.replyText : "\(reason.code): \(reason.replyText)",
                replyCode: reason.replyCode,
                method: reason.method,
                callSite: reason.callSite,
                scope: reason.scope,
                origin: reason.origin
            )
        case .notSent(let reason): reason.withSafeRetry
        }
    }

    init(_ outcome: PublishOutcome) {
        #if DELIBERATE_FAULTS
            if case .nacked = outcome, DeliberateFault.happens(.nackReportedAsConfirm) {
                self = .confirmed
                return
            }
        #endif
        switch outcome {
        case .confirmed: self = .confirmed
        case .nacked: self = .nacked
        case .returned(let code, let text): self = .returned(code, text)
        }
    }
}

/// Counts of publishes by outcome.
public struct AMQPPublishSummary: Hashable, Sendable {
    /// Number of confirmed publishes.
    public private(set) var confirmed = 0
    /// Number of returned publishes.
    public private(set) var returned = 0
    /// Number of nacked publishes.
    public private(set) var nacked = 0
    /// Number of publishes for which the broker closed the channel.
    public private(set) var refused = 0
    /// Number of publishes that were written and not confirmed.
    public private(set) var unknown = 0
    /// Number of publishes that were not written or not processed.
    public private(set) var notSent = 0
    /// The first outcome that is not `.confirmed`.
    public private(set) var firstFailure: AMQPPublishOutcome?

    /// Creates counts of zero.
    public init() {}

    /// The sum of all outcomes.
    public var total: Int {
        self.confirmed + self.returned + self.nacked + self.refused + self.unknown + self.notSent
    }

    /// Adds an outcome.
    public mutating func add(_ outcome: AMQPPublishOutcome) {
        switch outcome {
        case .confirmed: self.confirmed += 1
        case .returned: self.returned += 1
        case .nacked: self.nacked += 1
        case .refused: self.refused += 1
        case .unknown: self.unknown += 1
        case .notSent: self.notSent += 1
        }
        if !outcome.isConfirmed, self.firstFailure == nil { self.firstFailure = outcome }
    }
}
