// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire

// AMQPPublishOutcome: how a publish ended, exactly one of six; and the sum of many (AMQPPublishSummary).
// "Lost" is never reported as nacked, "returned" never as confirmed.

/// How a publish ended.
public enum AMQPPublishOutcome: Hashable, Sendable {
    /// The broker took it: `basic.ack`.
    case confirmed
    /// It was mandatory and no queue took it: `basic.return` with this code and text.
    case returned(ReplyCode, String)
    /// The broker refused it: `basic.nack`.
    case nacked
    /// The broker refused it and closed the channel for it, with code and text: a missing exchange (404), no permission
    /// (403), a property or a size it does not take (406).
    ///
    /// Publishing the same again closes the next channel. The error has code `.refused` and the line that published.
    case refused(AMQPError)
    /// Its octets were written and the broker's word did not come, for this reason.
    ///
    /// Publishing it again may duplicate it.
    case unknown(AMQPError)
    /// Nothing was written, or the broker closed the channel before it came to it, for this reason: publishing it again
    /// is safe.
    case notSent(AMQPError)

    /// Whether the broker took it.
    public var isConfirmed: Bool { self == .confirmed }

    /// What a throwing call throws for this outcome; nil when confirmed.
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
        switch outcome {
        case .confirmed: self = .confirmed
        case .nacked: self = .nacked
        case .returned(let code, let text): self = .returned(code, text)
        }
    }
}

/// How many publishes ended in which way.
public struct AMQPPublishSummary: Hashable, Sendable {
    /// Taken by the broker.
    public private(set) var confirmed = 0
    /// Mandatory and taken by no queue.
    public private(set) var returned = 0
    /// Refused by the broker.
    public private(set) var nacked = 0
    /// Refused by the broker, which closed the channel for it.
    public private(set) var refused = 0
    /// Written, with no word from the broker.
    public private(set) var unknown = 0
    /// Not written, or not processed.
    public private(set) var notSent = 0
    /// The first outcome that is not `.confirmed`.
    public private(set) var firstFailure: AMQPPublishOutcome?

    /// No publishes.
    public init() {}

    /// All of them together.
    public var total: Int {
        self.confirmed + self.returned + self.nacked + self.refused + self.unknown + self.notSent
    }

    /// Counts one more.
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
