// SPDX-License-Identifier: Apache-2.0
import EpollNetworking

// Publishing with a client: a publisher that survives reconnects, with or without an outbox.

/// The treatment of publishes whose confirm was lost with the connection.
public enum AMQPOutbox: Hashable, Sendable {
    /// Their outcome is reported as unknown: at most once, unless published again.
    case none
    /// They are kept and published again on the next connection, with the same message ID: at least once.
    ///
    /// Each message ends once: confirmed, returned, nacked, refused with the broker's text and the line that published
    /// it, or given up at the end. A message for which the broker closes the channel is found and removed; the others
    /// are published again in order. Failures are reported by receipts and otherwise by
    /// ``AMQPPublisher/waitForConfirms(timeout:)`` and the end of the scope, which do not return normally before every
    /// message has ended.
    ///
    /// The outcome is that of the copy that was published last: one that is refused, returned or nacked may have arrived by
    /// an earlier copy, whose confirm was lost with its connection.
    ///
    /// A message without a message ID gets one. Messages published without waiting for their outcome are held up to
    /// this size in octets, 1 or more; then publishing waits. Held in memory: they do not survive the process.
    case octets(Int)
}

extension AMQPClient {
    /// Opens a publisher with confirms; closed by the caller or by the client's shutdown.
    ///
    /// Connects when it is first used. Its channel is reopened after the loss of the connection and after the broker
    /// closed it; a publish waits for it within its timeout, and one that was certainly not written is written then.
    ///
    /// - Parameters:
    ///   - maxInFlight: Maximum number of unconfirmed messages, 1...4194304.
    ///   - maxInFlightOctets: Maximum size of unconfirmed bodies in octets.
    ///   - outbox: The treatment of publishes whose confirm was lost with the connection.
    /// - Returns: The publisher.
    /// - Throws: ``AMQPError``: an argument is out of range, or the client is being shut down.
    public func openPublisher(
        maxInFlight: Int = 1024,
        maxInFlightOctets: Int = 64 << 20,
        outbox: AMQPOutbox = .none
    ) throws(AMQPError) -> AMQPPublisher {
        let publisher = try self.addPublisher(maxInFlight, maxInFlightOctets, outbox, closesWithClient: true)
        return AMQPPublisher(source: .recovering(publisher))
    }

    /// Opens a publisher with confirms, runs `body`, waits for the outcomes of all publishes, and closes it.
    ///
    /// - Parameters:
    ///   - maxInFlight: Maximum number of unconfirmed messages, 1...4194304.
    ///   - maxInFlightOctets: Maximum size of unconfirmed bodies in octets.
    ///   - outbox: The treatment of publishes whose confirm was lost with the connection.
    ///   - body: Receives the publisher.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`, or ``AMQPError``: among others the first failure, or unknown outcome, of a
    ///   ``AMQPPublisher/send(_:to:mandatory:timeout:fileID:line:)`` that was not reported.
    @discardableResult
    public func withPublisher<Result>(
        maxInFlight: Int = 1024,
        maxInFlightOctets: Int = 64 << 20,
        outbox: AMQPOutbox = .none,
        _ body: (AMQPPublisher) async throws -> Result
    ) async throws -> Result {
        let publisher = try self.addPublisher(maxInFlight, maxInFlightOctets, outbox, closesWithClient: false)
        return try await AMQPPublisher(source: .recovering(publisher)).use { publisher in
            try await self.asUser { try await body(publisher) }
        }
    }

    private func addPublisher(
        _ maxInFlight: Int,
        _ maxInFlightOctets: Int,
        _ outbox: AMQPOutbox,
        closesWithClient: Bool
    ) throws(AMQPError) -> RecoveringPublisher {
        guard 1...(1 << 22) ~= maxInFlight, maxInFlightOctets > 0 else {
            throw AMQPError(
                .invalidArgument,
                "maxInFlight is 1 to \(1 << 22) messages, and maxInFlightOctets at least one",
                isSafeToRetry: true
            )
        }
        var kept: Outbox?
        if case .octets(let limit) = outbox {
            guard limit > 0 else {
                throw AMQPError(.invalidArgument, "the outbox holds at least one octet", isSafeToRetry: true)
            }
            kept = Outbox(limit: limit)
        }
        let publisher = RecoveringPublisher(
            self.publishing,
            maxInFlight: maxInFlight,
            maxInFlightOctets: maxInFlightOctets,
            outbox: kept,
            closesWithClient: closesWithClient,
            onClose: { [weak self] publisher in self?.remove(publisher) }
        )
        try self.add(publisher)
        return publisher
    }
}
