// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking

// Renewable: something that lives on one connection, such as a publisher's channel, and is made again on the next one.
// Made by whoever needs it first, while the others wait; and by the link as soon as it has a new connection, if it was
// there before.

/// What a link makes again when it has a new connection.
protocol Renewing: AnyObject, Sendable {
    func renew() async
}

final class Renewable<Resource: AnyObject & Sendable>: Renewing {
    private struct State {
        var current: Resource?
        var isBeingMade = false
        var wasMade = false
        var isClosed = false
    }

    private enum Turn { case use(Resource), make, closed }

    private let link: ConnectionLink
    private let make: @Sendable (AMQPConnection, MonotonicTime) async throws(AMQPError) -> Resource
    private let isAlive: @Sendable (Resource) -> Bool
    private let retire: @Sendable (Resource) -> Void
    private let state = ObservedValue(State())

    /// - Parameters:
    ///   - link: Gives the connections.
    ///   - make: Makes it, on a connection, before a deadline.
    ///   - isAlive: Whether it can still be used.
    ///   - retire: Told of each one that cannot be used any more, before the next is made; must not suspend or call back.
    init(
        _ link: ConnectionLink,
        make: @escaping @Sendable (AMQPConnection, MonotonicTime) async throws(AMQPError) -> Resource,
        isAlive: @escaping @Sendable (Resource) -> Bool,
        retire: @escaping @Sendable (Resource) -> Void = { _ in }
    ) {
        self.link = link
        self.make = make
        self.isAlive = isAlive
        self.retire = retire
        link.register(self)
    }

    /// The one that is there now, dead or alive.
    var present: Resource? { self.state.withLock { $0.current } }

    /// Whether there was one before.
    var wasMade: Bool { self.state.withLock { $0.wasMade } }

    /// The one to use; waits for a connection where there is none.
    func current(until deadline: MonotonicTime) async throws(AMQPError) -> Resource {
        while true {
            let turn = try await self.state.wait(until: deadline) { state -> Turn? in
                if state.isClosed { return .closed }
                if let current = state.current { return .use(current) }
                if state.isBeingMade { return nil }
                state.isBeingMade = true
                return .make
            }
            switch turn {
            case .use(let resource): return resource
            case .closed: throw Self.closed
            case .make:
                do throws(AMQPError) {
                    let connection = try await self.link.connection(until: deadline)
                    let resource = try await self.make(connection, deadline)
                    self.state.change { state in
                        state.isBeingMade = false
                        state.wasMade = true
                        state.current = resource
                    }
                    return resource
                } catch {
                    self.state.change { $0.isBeingMade = false }
                    // The connection was lost meanwhile: there will be another.
                    // Whatever was to be sent on it was not.
                    guard error.isLoss, self.link.ending == nil else { throw error.withSafeRetry }
                }
            }
        }
    }

    /// Says that this one cannot be used any more; does nothing when there is a newer one.
    func drop(_ resource: Resource) {
        self.state.change { state in
            guard state.current === resource else { return }
            state.current = nil
            self.retire(resource)
        }
    }

    func renew() async {
        let dead = self.state.withLock { $0.current }
        if let dead, !self.isAlive(dead) { self.drop(dead) }
        guard self.state.withLock({ $0.wasMade && !$0.isClosed }) else { return }
        _ = try? await self.current(until: self.link.deadline(nil))
    }

    /// Makes no more; the last one is the caller's to close.
    @discardableResult
    func close() -> Resource? {
        self.link.deregister(self)
        return self.state.change { state in
            state.isClosed = true
            return state.current.take()
        }
    }

    var isClosed: Bool { self.state.withLock { $0.isClosed } }

    private static var closed: AMQPError {
        AMQPError(
            .channelClosed,
            "the publisher or client for requests was closed",
            scope: .channel,
            isSafeToRetry: true
        )
    }
}
