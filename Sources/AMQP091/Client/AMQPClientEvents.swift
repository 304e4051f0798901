// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import Logging

// AMQPClientEvent and AMQPClientEvents: what happens to a client's connections, for those who want to watch.
// Nobody has to: calls wait, consumers go on and errors are thrown without it.

/// Which of a client's two connections.
public enum AMQPConnectionRole: String, Hashable, Sendable, CustomStringConvertible {
    /// The one that publishers and RPC clients use.
    ///
    /// Under an alarm a broker stops reading such a connection, and nothing else waits behind it.
    case publishing
    /// The one that consumers use.
    case consuming

    /// The role in a word.
    public var description: String { self.rawValue }
}

/// Something that happened to one of a client's connections.
public struct AMQPClientEvent: Hashable, Sendable, CustomStringConvertible {
    /// What can happen.
    public enum Kind: Hashable, Sendable {
        /// The connection can be used, for the first time.
        case connected(AMQPServerAddress)
        /// The connection can be used again: the topology has been declared, consumers and publishers go on.
        case recovered(AMQPServerAddress)
        /// The connection was lost, or the broker closed it.
        case disconnected(AMQPError)
        /// No address could be connected to; the last error.
        case connectFailed(AMQPError)
        /// The next attempt comes after a delay; attempts count from 1.
        case retrying(attempt: Int, delay: Duration)
        /// Something of the topology was missing while the connection was up, and all of it was declared again.
        case topologyDeclaredAgain
        /// Parts of the topology could not be declared again, after a reconnect or because something of it was missing.
        case topologyIncomplete(AMQPTopologyReport)
        /// The broker blocks publishers, for this reason.
        case blocked(String)
        /// The broker lets publishers go on.
        case unblocked
        /// The broker refused a message of an outbox, with code, text and the line that published it; it is not tried again.
        case publishRefused(AMQPError)
        /// An outbox let go of so many messages that the broker has not confirmed, for this reason.
        case publishesGivenUp(count: Int, AMQPError)
        /// A consumer of this queue goes on with a new channel.
        case consumerRecovered(queue: String)
        /// No more attempts are made, for this reason; nil after a shutdown.
        case ended(AMQPError?)
    }

    /// Which connection.
    public let connection: AMQPConnectionRole
    /// What happened.
    public let kind: Kind

    /// One sentence.
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
    /// An outage and its end are visible at `notice`, what is lost at `warning`.
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

/// A client's events from the moment ``AMQPClient/events`` was asked for.
///
/// An observer that falls behind by more than 256 events loses the oldest. It ends when the client has ended.
public struct AMQPClientEvents: AsyncSequence, Sendable {
    /// What it yields.
    public typealias Element = AMQPClientEvent
    /// It throws nothing.
    public typealias Failure = Never

    /// Events an observer may fall behind.
    static let limit = 256

    private let source: Broadcast<AMQPClientEvent>.Source

    init(_ hub: Broadcast<AMQPClientEvent>) { self.source = Broadcast.Source(hub) }

    /// The first iterator sees all events since the sequence was made, any other those since it was made itself.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(subscription: self.source.subscription()) }

    /// Walks the events.
    public struct AsyncIterator: AsyncIteratorProtocol {
        let subscription: Broadcast<AMQPClientEvent>.Subscription

        /// The next event; nil when the client has ended or the task is cancelled.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> AMQPClientEvent? {
            await self.subscription.next()
        }
    }
}
