// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// connection.blocked and connection.unblocked as an awaitable state. RabbitMQ sends `blocked` after the first publish
// during a memory or disk alarm, and then does not read this connection at all: acknowledgements and closes wait, too.

/// The blocked state of a connection: the current state first, then each change.
///
/// A slow observer gets the latest state, not every one. The sequence ends with the connection.
public struct AMQPBlockedStates: AsyncSequence, Sendable {
    /// The broker's reason while it blocks publishers; nil while it does not.
    public typealias Element = String?
    /// The sequence throws no error.
    public typealias Failure = Never

    private let source: Broadcast<String?>.Source

    fileprivate init(_ hub: Broadcast<String?>) { self.source = Broadcast.Source(hub) }

    /// The first iterator begins with the state at the creation of the sequence, others with that at their own creation.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(subscription: self.source.subscription()) }

    /// The iterator over states.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let subscription: Broadcast<String?>.Subscription

        /// Returns the next state; nil at the end of the connection or when the task is cancelled.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> String?? {
            await self.subscription.next()
        }
    }
}

extension AMQPConnection {
    /// The blocked state as a sequence.
    public var blockedStates: AMQPBlockedStates { AMQPBlockedStates(self.driver.blockedStates) }

    /// Waits while the broker blocks publishers; returns at once otherwise.
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

    /// Sends a new password or token for this connection: `connection.update-secret` (10, 70), a RabbitMQ extension.
    ///
    /// For OAuth 2 tokens that expire. The broker may cancel consumers that lost their permissions. Afterwards
    /// ``configuration`` has the new secret.
    ///
    /// - Parameters:
    ///   - secret: The new secret; never logged.
    ///   - reason: The reason for the broker's log; at most 255 octets.
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

    /// The connection's configuration.
    ///
    /// After ``updateSecret(_:reason:timeout:)`` the new secret replaces the password, so that a later
    /// connect with this configuration uses it. A credentials provider is kept and called again.
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
