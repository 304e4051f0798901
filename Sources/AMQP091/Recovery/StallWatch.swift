// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking

// StallWatch: drops a connection of a client that is up and of no use: one on which confirms do not come, and one without
// deliveries to the node where that was found out. What counts as such: ConfirmWatch and DeliveryWatch.

final class StallWatch: Sendable {
    private let limit: Duration
    private let nodes: StalledNodes
    /// Connections in a row that were dropped because they refused every publish.
    private let refusals = Locked(0)

    /// - Parameters:
    ///   - limit: The policy's `confirmTimeout`.
    ///   - nodes: Shared by the connections of a client.
    init(limit: Duration, nodes: StalledNodes) {
        self.limit = limit
        self.nodes = nodes
    }

    /// Drops the connection when confirms do not come: the next one may be to a node that knows what became of them.
    ///
    /// A connection that refuses everything is given twice as long each time, because a queue that is full does so too.
    func confirms(of connection: AMQPConnection, at endpoint: Int) async {
        let refusals = self.refusals.withLock { $0 }
        let patience = self.limit.saturated * (1 << min(refusals, 10))
        var watch = ConnectionSession.PublishWatch(
            limit: Self.nanoseconds(self.limit),
            refusalLimit: Self.nanoseconds(patience)
        )
        while await self.nextLook() {
            let (channels, isBlocked) = connection.driver.publishProgress
            if channels.contains(where: \.1.hasConfirmed) { self.refusals.withLock { $0 = 0 } }
            switch watch.look(at: channels, isBlocked: isBlocked, now: MonotonicTime.now.nanoseconds) {
            case nil: continue
            case .silent:
                self.nodes.suspect(endpoint)
                return self.drop(connection, "a publish was not confirmed within \(self.limit)")
            case .refusing:
                self.refusals.withLock { $0 = refusals + 1 }
                return self.drop(connection, "every publish of a channel was refused for \(patience)")
            }
        }
    }

    /// Drops the connection when nothing was delivered on it for as long, at a node where a publish was given up.
    func deliveries(of connection: AMQPConnection, at endpoint: Int) async {
        let limit = Self.nanoseconds(self.limit)
        var watch = DeliveryWatch(limit: limit, now: MonotonicTime.now.nanoseconds)
        while await self.nextLook() {
            let (delivered, mayLeave) = connection.driver.deliveryProgress
            let isStalled = watch.look(
                delivered: delivered,
                mayLeave: mayLeave,
                suspected: self.nodes.suspected(endpoint),
                now: MonotonicTime.now.nanoseconds
            )
            guard isStalled else { continue }
            let reason = "nothing was delivered within \(self.limit) at a node that did not confirm a publish"
            return self.drop(connection, reason)
        }
    }

    private func nextLook() async -> Bool {
        (try? await EventLoopGroup.shared.next().sleep(for: self.limit / 8)) != nil
    }

    private func drop(_ connection: AMQPConnection, _ reason: String) {
        let text = "\(reason), and the connection was dropped"
        connection.driver.drop(AMQPError(.connectionClosed, text, scope: .connection))
    }

    private static func nanoseconds(_ duration: Duration) -> UInt64 {
        (MonotonicTime(nanoseconds: 0) + duration).nanoseconds
    }
}

/// Where publishes were not confirmed, which the two connections of a client share.
final class StalledNodes: Sendable {
    private let latest = Locked<[Int: UInt64]>([:])

    func suspect(_ endpoint: Int) { self.latest.withLock { $0[endpoint] = MonotonicTime.now.nanoseconds } }

    /// When a publish at this address was last given up; nil for never.
    func suspected(_ endpoint: Int) -> UInt64? { self.latest.withLock { $0[endpoint] } }
}

extension ConnectionSession {
    /// A number that changes with each delivery, and whether nobody would lose anything with the connection: every channel
    /// is a consumer's own, every delivery is settled, and no queue ends with the connection.
    var deliveryProgress: (delivered: UInt64, mayLeave: Bool) {
        self.state.withChannels { state, channels in
            var (delivered, mayLeave) = (UInt64(0), !state.hasTemporaryQueues)
            for session in state.sessions {
                guard let session else { continue }
                let last = session.lastDeliveryTag
                delivered &+= last
                if !session.isOfClient || channels[session.slot].settlements.oldestOpen <= last { mayLeave = false }
            }
            return (delivered, mayLeave)
        }
    }
}
