// SPDX-License-Identifier: Apache-2.0
import EpollNetworking

// Publishing with a client: a publisher that goes on with the next connection, with or without an outbox.

/// What becomes of publishes whose confirm was lost with the connection.
public enum AMQPOutbox: Hashable, Sendable {
    /// Their outcome is unknown, and whoever published them is told: at most once, unless published again.
    case none
    /// They are kept and published again on the next connection, with the same message id: at least once.
    ///
    /// Each message ends once: confirmed, returned, nacked, refused with the broker's words and the line that published
    /// it, or given up at the end. A message for which the broker closes the channel is found and taken out, the others
    /// are published again in their order. Failures are told by receipts and, if nobody asked, by
    /// ``AMQPPublisher/waitForConfirms(timeout:)`` and the end of the scope, which do not return normally before every
    /// message has ended.
    ///
    /// The outcome is that of the copy that was published last: one that is refused, returned or nacked may have arrived by
    /// an earlier copy, whose confirm was lost with its connection.
    ///
    /// A message without a message id gets one. Messages published without waiting for their outcome are held up to
    /// this many octets, 1 or more; then publishing waits. Kept in memory: they do not outlive the process.
    case octets(Int)
}

extension AMQPClient {
    /// Opens a publisher with confirms; the caller closes it, or the client's shutdown.
    ///
    /// Connects when it is first used. Its channel is made again after the loss of the connection and after the broker
    /// closed it; a publish waits for it within its timeout, and one that was certainly not written is written then.
    ///
    /// - Parameters:
    ///   - maxInFlight: Messages unconfirmed at which the next one waits, 1...4194304.
    ///   - maxInFlightOctets: Octets of bodies unconfirmed at which the next one waits.
    ///   - outbox: What becomes of publishes whose confirm was lost with the connection.
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

    /// Opens a publisher with confirms, runs `body`, waits for the outcome of everything published, and closes it.
    ///
    /// - Parameters:
    ///   - maxInFlight: Messages unconfirmed at which the next one waits, 1...4194304.
    ///   - maxInFlightOctets: Octets of bodies unconfirmed at which the next one waits.
    ///   - outbox: What becomes of publishes whose confirm was lost with the connection.
    ///   - body: Publishes.
    /// - Returns: What `body` returns.
    /// - Throws: What `body` throws, or ``AMQPError``: among others the first refusal, or unknown outcome, of a
    ///   ``AMQPPublisher/send(_:to:mandatory:timeout:fileID:line:)`` nobody has asked for.
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
