// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol

// Maps an error to an Ending, for the table in Disposition.

extension AMQPError {
    /// The ending that the error stands for.
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

    /// Returns the consequence of this error for `asker`.
    func disposition(for asker: Asker) -> Disposition { self.ending.disposition(for: asker) }

    /// True if the connection was lost and another may follow.
    var isLoss: Bool {
        guard self.scope == .connection else { return false }
        return switch self.ending {
        case .linkLost, .connectionClosed, .violation: true
        default: false
        }
    }

    /// True if nothing was written or processed, because the channel or connection had ended already.
    var isNotSentBecauseGone: Bool {
        self.isSafeToRetry
            && (self.code == .connectionClosed || self.code == .channelClosed || self.code == .protocolViolation)
    }
}
