// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import Logging

// AMQPClientEvent and AMQPClientEvents: events of a client's connections, for observers.
// Observing is optional: calls wait, consumers continue and errors are thrown without it.

/// The role of one of a client's two connections.
public enum AMQPConnectionRole: String, Hashable, Sendable, CustomStringConvertible {
    /// The connection of publishers and RPC clients.
    ///
    /// Under an alarm the broker stops reading this connection; consumers are not affected.
    case publishing
    /// The connection of consumers.
    case consuming

    /// The role as a word.
    public var description: String { self.rawValue }
}

/// An event of one of a client's connections.
public struct AMQPClientEvent: Hashable, Sendable, CustomStringConvertible {
    /// Kinds of events.
    public enum Kind: Hashable, Sendable {
        /// The connection is ready for the first time.
        case connected(AMQPServerAddress)
        /// The connection is ready again: the topology is declared, consumers and publishers continue.
        case recovered(AMQPServerAddress)
        /// The connection was lost, or the broker closed it.
        case disconnected(AMQPError)
        /// No address could be connected; with the last error.
        case connectFailed(AMQPError)
        /// The next attempt comes after a delay; attempts count from 1.
        case retrying(attempt: Int, delay: Duration)
        /// Something of the topology was missing while the connection was up, and all of it was declared again.
        case topologyDeclaredAgain
        /// Parts of the topology could not be declared again, after a reconnect or because something of it was missing.
        case topologyIncomplete(AMQPTopologyReport)
        /// The broker blocks publishers, for this reason.
        case blocked(String)
        /// The broker unblocked publishers.
        case unblocked
        /// The broker refused a message of an outbox, with code, text and the line that published it; it is not retried.
        case publishRefused(AMQPError)
        /// An outbox gave up this number of unconfirmed messages, for this reason.
        case publishesGivenUp(count: Int, AMQPError)
        /// A consumer of this queue continues with a new channel.
        case consumerRecovered(queue: String)
        /// The client stopped reconnecting, for this reason; nil after a shutdown.
        case ended(AMQPError?)
    }

    /// The role of the connection.
    public let connection: AMQPConnectionRole
    /// The kind of event.
    public let kind: Kind

    /// A description in one sentence.
    public var description: String {
        let text =
            switch self.kind {
            case .connected(let address): "connected to \(address)"
            case .recovered(let address): "recovered on \(address)"
            case .disconnected(let error): "lost: \(error)"
            case .connectFailed(let error): "could not be made: \(error)"
            case .retrying(let attempt, let delay): "attempt \(attempt) in \(delay)"
            case .topologyDeclaredAgain: "topology declared again, because something of it was missing"
            case .topologyIncomplete(let report):
                "topology incomplete: " + report.problems.map(\.description).joined(separator: "; ")
            case .blocked(let reason): "blocked by the broker: \(reason)"
            case .unblocked: "no longer blocked"
            case .publishRefused(let error): "\(error)"
            case .publishesGivenUp(let count, let reason):
                "outbox gave up \(count) unconfirmed \(count == 1 ? "message" : "messages"): \(reason)"
            case .consumerRecovered(let queue): "consumer of '\(queue)' goes on"
            case .ended(let error): error.map { "given up: \($0)" } ?? "shut down"
            }
        return "\(self.connection) connection: \(text)"
    }
}

extension AMQPClientEvent.Kind {
    /// An outage and its end are logged at `notice`, lost messages at `warning`.
    var logLevel: Logger.Level {
        switch self {
        case .disconnected, .recovered, .blocked, .unblocked, .connectFailed, .topologyDeclaredAgain: .notice
        case .topologyIncomplete, .publishRefused, .publishesGivenUp: .warning
        case .ended(let error): error == nil ? .info : .error
        case .connected, .consumerRecovered: .info
        case .retrying: .debug
        }
    }
}

/// A client's events from the moment ``AMQPClient/events`` was read.
///
/// An observer that falls behind by more than 256 events loses the oldest. The sequence ends with the client.
public struct AMQPClientEvents: AsyncSequence, Sendable {
    /// The element type.
    public typealias Element = AMQPClientEvent
    /// The sequence throws no error.
    public typealias Failure = Never

    /// Maximum number of buffered events.
    static let limit = 256

    private let source: Broadcast<AMQPClientEvent>.Source

    init(_ hub: Broadcast<AMQPClientEvent>) { self.source = Broadcast.Source(hub) }

    /// The first iterator gets all events since the sequence was created, others those since their own creation.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(subscription: self.source.subscription()) }

    /// The iterator over events.
    public struct AsyncIterator: AsyncIteratorProtocol {
        let subscription: Broadcast<AMQPClientEvent>.Subscription

        /// Returns the next event; nil when the client has ended or the task is cancelled.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> AMQPClientEvent? {
            await self.subscription.next()
        }
    }
}
