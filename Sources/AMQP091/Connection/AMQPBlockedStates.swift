// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// connection.blocked and connection.unblocked as a state one can await. RabbitMQ sends `blocked` after the first publish
// while a memory or disk alarm is on, and then does not read this connection at all: acknowledgements and closes wait too.

/// Whether the broker blocks publishers: the present state first, then each change.
///
/// An observer that falls behind sees the newest state, not every one. It ends with the connection.
public struct AMQPBlockedStates: AsyncSequence, Sendable {
    /// The broker's reason while it blocks publishers; nil while it does not.
    public typealias Element = String?
    /// It throws nothing.
    public typealias Failure = Never

    private let source: Broadcast<String?>.Source

    fileprivate init(_ hub: Broadcast<String?>) { self.source = Broadcast.Source(hub) }

    /// The first iterator begins with the state at the time the sequence was made, any other with that of its own making.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(subscription: self.source.subscription()) }

    /// Walks the states.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let subscription: Broadcast<String?>.Subscription

        /// The next state; nil at the end of the connection or when the task is cancelled.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> String?? {
            await self.subscription.next()
        }
    }
}

extension AMQPConnection {
    /// Whether the broker blocks publishers, as a sequence of states.
    public var blockedStates: AMQPBlockedStates { AMQPBlockedStates(self.driver.blockedStates) }

    /// Waits while the broker blocks publishers; returns at once when it does not.
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: `.timedOut` with the broker's reason, `.cancelled`, or `.connectionClosed`.
    public func waitUntilUnblocked(timeout: Duration? = nil) async throws(AMQPError) {
        do throws(AMQPError) {
            let deadline = self.driver.deadline(timeout)
            _ = try await self.driver.wait(deadline: deadline) { state, _, token throws(AMQPError) in
                try state.requireOpen()
                guard state.blockedReason == nil else {
                    state.unblockedWaiters.append(token)
                    return .none
                }
                return state.resumeSoon(token, .room)
            }
        } catch {
            guard error.code == .timedOut, let reason = self.blockedReason else { throw error }
            throw AMQPError(.timedOut, "the broker blocks publishers: \(reason)", isSafeToRetry: true)
        }
    }

    /// Gives the broker a new password or token for this connection: `connection.update-secret` (10, 70), RabbitMQ's.
    ///
    /// Of use with OAuth 2 tokens that expire. The broker may cancel consumers that lost their rights. Afterwards
    /// ``configuration`` has the new secret.
    ///
    /// - Parameters:
    ///   - secret: The new secret; never logged.
    ///   - reason: Why, for the broker's log; at most 255 octets.
    ///   - timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Throws: ``AMQPError``: `.invalidArgument` and nothing was sent; 530 of scope `.connection` when the broker
    ///   refuses the secret.
    public func updateSecret(
        _ secret: String,
        reason: String = "credentials refreshed",
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        try await self.driver.updateSecret(secret, reason: reason, self.driver.deadline(timeout))
    }

    /// The options it was made with.
    ///
    /// After ``updateSecret(_:reason:timeout:)`` the new secret stands in the place of the password, so that a later
    /// connect with these options logs in with it. A provider of credentials stays: it is asked again.
    public var configuration: AMQPClientConfiguration {
        var configuration = self.driver.configuration
        if let secret = self.driver.state.withLock({ $0.updatedSecret }) {
            configuration.authentication = configuration.authentication.with(password: secret)
        }
        return configuration
    }
}

extension ConnectionState {
    mutating func takeUnblockedWaiters(into resumptions: inout [Resumption]) {
        for token in self.unblockedWaiters { self.wake(token, .room, into: &resumptions) }
        self.unblockedWaiters = []
    }
}

extension ConnectionSession {
    /// `connection.blocked`.
    ///
    /// Loop thread.
    func blocked(_ reason: String) {
        self.state.withLock { $0.blockedReason = reason }
        self.blockedStates.emit(reason)
    }
}
