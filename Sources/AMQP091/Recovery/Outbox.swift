// SPDX-License-Identifier: Apache-2.0
import DequeModule
import EpollNetworking

// Outbox: what was published without anybody waiting for it and is not confirmed yet, so that it can be published again
// on the next connection, with the same message id: at least once. Bounded in octets.
// Not here: publishes somebody waits for; their own task publishes them again (RecoveringPublisher).

/// One message of an outbox, and where its confirm will come from.
final class OutboxEntry: Sendable {
    enum State: Sendable {
        /// Somebody is publishing it.
        case publishing
        case published(on: ChannelSession, UInt64)
        /// It could not be published again, and waits for the next connection.
        case lost
    }

    let message: AMQPMessage
    let destination: AMQPDestination
    let mandatory: Bool
    let site: CallSite
    /// The token its confirms carry: 0, or that of publishes whose outcome is asked for later.
    let token: UInt32
    let state = Watched(State.publishing)

    init(
        _ message: AMQPMessage,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        token: UInt32
    ) {
        self.message = message
        self.destination = destination
        self.mandatory = mandatory
        self.site = site
        self.token = token
    }

    /// What it counts for: the body, and roughly the rest.
    var octets: Int { self.message.body.count + 256 }

    func publish(on core: ChannelSession, until deadline: MonotonicTime) async throws(AMQPError) {
        let sequence = try await core.enqueue(
            self.message,
            to: self.destination,
            mandatory: self.mandatory,
            site: self.site,
            deadline: deadline.nanoseconds,
            token: self.token
        )
        self.state.change { $0 = .published(on: core, sequence) }
    }

    /// Whether it was published and has its outcome.
    var isSettled: Bool {
        guard case .published(let core, let sequence) = self.state.withLock({ $0 }) else { return false }
        return !core.isUnsettled(sequence)
    }

    /// Whether the channel it was published on is in use.
    var isInPlace: Bool {
        guard case .published(let core, _) = self.state.withLock({ $0 }) else { return false }
        return core.isUsable
    }

    /// Whether it was lost with a channel other than this one; the caller then is the one to publish it again.
    func takeIfLost(except present: ChannelSession?) -> Bool {
        self.state.withLock { state in
            switch state {
            case .publishing: return false
            case .published(let core, let sequence):
                guard core !== present, core.isUnsettled(sequence) else { return false }
            case .lost: break
            }
            state = .publishing
            return true
        }
    }

    func giveBack() { self.state.change { $0 = .lost } }
}

final class Outbox: Sendable {
    private struct State {
        var entries = Deque<OutboxEntry>()
        var octets = 0
    }

    let limit: Int
    private let state = Locked(State())

    init(limit: Int) { self.limit = limit }

    /// Takes a message if it has room; an empty outbox takes one of any size.
    func add(_ entry: OutboxEntry) -> Bool {
        self.state.withLock { state in
            if state.octets + entry.octets > self.limit { Self.trim(&state) }
            guard state.octets + entry.octets <= self.limit || state.entries.isEmpty else { return false }
            state.entries.append(entry)
            state.octets += entry.octets
            return true
        }
    }

    func remove(_ entry: OutboxEntry) {
        self.state.withLock { state in
            guard let index = state.entries.lastIndex(where: { $0 === entry }) else { return }
            state.entries.remove(at: index)
            state.octets -= entry.octets
        }
    }

    /// The oldest message; nil when there is none.
    var oldest: OutboxEntry? { self.state.withLock { $0.entries.first } }

    /// Publishes again what was lost, in its order, before anything new.
    func replay(on core: ChannelSession, until deadline: MonotonicTime) async throws(AMQPError) {
        let entries = self.state.withLock { state in
            Self.trim(&state)
            return state.entries
        }
        for entry in entries where entry.takeIfLost(except: core) {
            do throws(AMQPError) {
                try await entry.publish(on: core, until: deadline)
            } catch {
                entry.giveBack()
                throw error
            }
        }
    }

    private static func trim(_ state: inout State) {
        while let first = state.entries.first, first.isSettled {
            state.entries.removeFirst()
            state.octets -= first.octets
        }
    }
}
