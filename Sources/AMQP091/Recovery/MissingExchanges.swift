// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// MissingExchanges: what a client's publisher, or its client for requests, does about an exchange of the topology that was
// deleted while the connection is up: the broker closes the channel for the publish (404); the topology is declared again
// before the next channel is opened, and the publish is made again there, a bounded number of times.
// Not here: the declaration, which all who need it at the same time share (TopologyRepair).

final class MissingExchanges: Sendable {
    /// Times one message is published again because its exchange was missing.
    static let attempts = 3

    private let link: ConnectionLink
    /// The topology is to be declared before the next channel is opened.
    private let isDue = ObservedValue(false)

    init(_ link: ConnectionLink) { self.link = link }

    /// A channel has ended for this; nil when it is not known.
    func note(_ failure: AMQPError?) {
        guard let failure, self.link.declares(missingIn: failure) else { return }
        self.isDue.withLock { $0 = true }
    }

    /// Notes why a publish failed.
    ///
    /// - Parameters:
    ///   - error: The error the publish ended with.
    ///   - attempts: Times this message was published again before for this reason; counted here.
    /// - Returns: Whether to publish it again.
    func mayPublishAgain(after error: AMQPError, _ attempts: inout Int) -> Bool {
        guard error.code == .refused, attempts < Self.attempts, self.link.declares(missingIn: error) else {
            return false
        }
        attempts += 1
        self.note(error)
        return true
    }

    /// Declares the topology if an exchange of it was found missing; call before a channel is opened.
    func declare(on connection: AMQPConnection, until deadline: MonotonicTime) async throws(AMQPError) {
        let isDue = self.isDue.withLock { isDue in
            defer { isDue = false }
            return isDue
        }
        guard isDue else { return }
        do throws(AMQPError) {
            _ = try await self.link.declareTopologyAgain(
                on: connection,
                timeout: max(.zero, deadline - .now),
                isPatient: false
            )
        } catch {
            // Without a channel to declare on, the next publish to the exchange shows that it is missing.
            guard error.code != .noFreeChannel else { return }
            self.isDue.withLock { $0 = true }
            throw error.withSafeRetry
        }
    }
}

extension ConnectionLink {
    /// Whether a publish was refused because an exchange of the topology is missing.
    func declares(missingIn error: AMQPError) -> Bool {
        guard error.replyCode == .notFound, error.method == Basic.Publish.id else { return false }
        return self.topology.exchanges.contains { error.replyText.contains("exchange '\($0.name)'") }
    }
}
