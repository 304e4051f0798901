// SPDX-License-Identifier: Apache-2.0

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
        /// After a reconnect, parts of the topology could not be declared again.
        case topologyIncomplete(AMQPTopologyReport)
        /// The broker blocks publishers, for this reason.
        case blocked(String)
        /// The broker lets publishers go on.
        case unblocked
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
            case .topologyIncomplete(let report):
                "topology incomplete: " + report.problems.map(\.description).joined(separator: "; ")
            case .blocked(let reason): "blocked by the broker: \(reason)"
            case .unblocked: "no longer blocked"
            case .consumerRecovered(let queue): "consumer of '\(queue)' goes on"
            case .ended(let error): error.map { "given up: \($0)" } ?? "shut down"
            }
        return "\(self.connection) connection: \(text)"
    }
}

/// A client's events from the moment the iterator is made.
///
/// An observer that falls behind by more than 256 events loses the oldest. It ends when the client has ended.
public struct AMQPClientEvents: AsyncSequence, Sendable {
    /// What it yields.
    public typealias Element = AMQPClientEvent
    /// It throws nothing.
    public typealias Failure = Never

    let hub: EventHub

    /// An iterator of its own: every one sees all that comes after it was made.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(base: self.hub.subscribe().makeAsyncIterator()) }

    /// Walks the events.
    public struct AsyncIterator: AsyncIteratorProtocol {
        var base: AsyncStream<AMQPClientEvent>.AsyncIterator

        /// The next event; nil when the client has ended or the task is cancelled.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> AMQPClientEvent? {
            await self.base.next(isolation: actor)
        }
    }
}

/// Hands each event to every observer.
final class EventHub: Sendable {
    private struct State {
        var observers: [UInt64: AsyncStream<AMQPClientEvent>.Continuation] = [:]
        var next: UInt64 = 0
        var isFinished = false
    }

    private let state = Watched(State())
    private static let limit = 256

    func subscribe() -> AsyncStream<AMQPClientEvent> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: AMQPClientEvent.self,
            bufferingPolicy: .bufferingNewest(Self.limit)
        )
        let number = self.state.withLock { state -> UInt64? in
            guard !state.isFinished else { return nil }
            state.next += 1
            state.observers[state.next] = continuation
            return state.next
        }
        guard let number else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { _ = $0.observers.removeValue(forKey: number) }
        }
        return stream
    }

    func emit(_ event: AMQPClientEvent) {
        for observer in self.state.withLock({ Array($0.observers.values) }) { observer.yield(event) }
    }

    func finish() {
        let observers = self.state.withLock { state in
            state.isFinished = true
            return Array(state.observers.values)
        }
        for observer in observers { observer.finish() }
    }
}
