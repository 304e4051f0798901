// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol

// How an error is asked what it means: as an Ending, for the table in Disposition.

extension AMQPError {
    /// What has ended, and how.
    var ending: Ending {
        switch self.code {
        case .topologyRefused where self.scope == .connection, .connectionClosed:
            if let replyCode = self.replyCode, self.origin == .broker {
                .connectionClosed(replyCode, self.replyText, self.method)
            } else {
                .linkLost
            }
        case .connectFailed: .dialFailed
        case .protocolViolation: .violation
        case .authenticationFailed, .virtualHostRefused: .loginRefused(self.replyCode, self.replyText)
        case .consumerCancelled, .acknowledgementTimedOut: .consumerCancelled
        case .channelClosed, .refused:
            if let replyCode = self.replyCode, self.origin == .broker {
                .channelClosed(replyCode, self.replyText, self.method)
            } else {
                .ended
            }
        case .timedOut: .timedOut
        case .invalidConfiguration, .invalidArgument: .unusable
        case .noFreeChannel: .localLimit
        default: .ended
        }
    }

    /// What this error means for `asker`.
    func disposition(for asker: Asker) -> Disposition { self.ending.disposition(for: asker) }

    /// Whether the connection is gone, and another may come.
    var isLoss: Bool {
        guard self.scope == .connection else { return false }
        return switch self.ending {
        case .linkLost, .connectionClosed, .violation: true
        default: false
        }
    }

    /// Whether nothing was written, or processed, because the channel or connection was gone already.
    var isNotSentBecauseGone: Bool {
        self.isSafeToRetry
            && (self.code == .connectionClosed || self.code == .channelClosed || self.code == .protocolViolation)
    }
}
