// SPDX-License-Identifier: Apache-2.0
import AMQP091
import EpollNetworking
import Synchronization

// Link: a connection of a run, and Lane: a channel on it. Where the broker is killed on order, both are made again after
// they were lost; what the channels before counted stays in the sums.

/// A connection that can be made again.
final class Link: Sendable {
    /// How long a broker may be away.
    static let patience = Duration.seconds(60)
    /// Between two tries of what the broker refuses after a connection was made again.
    static let pause = Duration.milliseconds(100)

    private struct State {
        var current: AMQPConnection
        var renewal: Task<AMQPConnection, any Error>?
        var isEnded = false
        var outages: [Outage] = []
    }

    /// The outages that are kept; later ones are not noted.
    private static let mostOutages = 1000

    /// The purpose, such as `producer 0`.
    let name: String
    private let nodes: ConnectedNodes?
    private let state: Mutex<State>
    private let connect: @Sendable () async throws -> AMQPConnection

    /// A connection that is open.
    ///
    /// - Parameters:
    ///   - connection: The connection.
    ///   - name: The purpose.
    ///   - nodes: Which node the connection of a name is to.
    ///   - connect: Makes another like it.
    init(
        _ connection: AMQPConnection,
        name: String = "",
        nodes: ConnectedNodes? = nil,
        connect: @escaping @Sendable () async throws -> AMQPConnection
    ) {
        self.name = name
        self.nodes = nodes
        self.state = Mutex(State(current: connection))
        self.connect = connect
    }

    /// When it was lost, and came back.
    var outages: [Outage] { self.state.withLock { $0.outages } }

    /// True when it was lost and not made again yet.
    var isLost: Bool { self.state.withLock { $0.outages.last.map { $0.connected == nil } ?? false } }

    /// True when it was made again and nothing has come on it yet.
    var isResuming: Bool {
        self.state.withLock { $0.outages.last.map { $0.connected != nil && $0.resumed == nil } ?? false }
    }

    /// Notes the first confirm or delivery after it was made again.
    func resumed(at time: UInt64) {
        self.state.withLock { state in
            guard let last = state.outages.indices.last, state.outages[last].connected != nil,
                state.outages[last].resumed == nil
            else { return }
            state.outages[last].resumed = time
        }
    }

    /// The connection as it is now, open or not.
    var connection: AMQPConnection { self.state.withLock { $0.current } }

    /// The connection that takes the place of a lost one; all that ask for it get the same.
    ///
    /// - Parameter lost: The one that is of no more use.
    /// - Returns: An open connection.
    /// - Throws: The last error, when the broker stays away, or `CancellationError`.
    func renewed(after lost: AMQPConnection) async throws -> AMQPConnection {
        let task = self.state.withLock { state -> Task<AMQPConnection, any Error> in
            if state.current !== lost { return Task { [current = state.current] in current } }
            if let renewal = state.renewal { return renewal }
            if state.outages.count < Self.mostOutages {
                state.outages.append(Outage(lost: MonotonicClock.now, from: self.nodes?[self.name]))
            }
            let renewal = Task { try await self.renew() }
            state.renewal = renewal
            return renewal
        }
        return try await task.value
    }

    private func renew() async throws -> AMQPConnection {
        let deadline = ContinuousClock.now + Self.patience
        while true {
            do {
                let connection = try await self.connect()
                let isLate = self.state.withLock { state in
                    state.current = connection
                    state.renewal = nil
                    if let last = state.outages.indices.last, state.outages[last].connected == nil {
                        state.outages[last].connected = MonotonicClock.now
                        state.outages[last].to = self.nodes?[self.name]
                    }
                    return state.isEnded
                }
                if isLate {
                    connection.abort()
                    throw CancellationError()
                }
                return connection
            } catch {
                let isEnded = self.state.withLock { state in
                    if ContinuousClock.now > deadline || state.isEnded { state.renewal = nil }
                    return state.isEnded
                }
                guard !isEnded, ContinuousClock.now < deadline else { throw error }
                try await Task.sleep(for: .milliseconds(20))
            }
        }
    }

    /// Ends it for good, in order and at the latest after a time.
    func close(timeout: Duration) async {
        self.state.withLock { $0.isEnded = true }
        try? await self.connection.close(timeout: timeout)
    }

    /// Closes the socket at once.
    func abort() {
        self.state.withLock { $0.isEnded = true }
        self.connection.abort()
    }
}

/// A channel of a producer, with those it had before.
final class Lane: Sendable {
    private struct State {
        var connection: AMQPConnection
        var channels: [AMQPChannel]
        /// Of the last channel.
        var times: ConfirmTimes?
        var follower: Task<Void, Never>?
        /// Of the channels before.
        var censored: UInt64 = 0
    }

    let link: Link
    private let window: Int?
    private let meter: LatencyMeter?
    private let restore: @Sendable (AMQPConnection) async throws -> Void
    private let state: Mutex<State>

    /// Messages of transactions: all, and those that were committed; written by the producer only.
    let opened = Counter()
    private let committed = Counter()
    private let abandoned = Counter()

    /// A new channel, with confirms where there is a window.
    ///
    /// - Parameters:
    ///   - link: The connection.
    ///   - window: Publishes unconfirmed at most; nil for no confirms.
    ///   - meter: Gets the time of every confirm; nil where nobody notes when publishes were due.
    ///   - restore: Makes sure that what is published to is there, on a connection that was made again.
    /// - Throws: What opening the channel throws.
    init(
        on link: Link,
        window: Int?,
        meter: LatencyMeter? = nil,
        restore: @escaping @Sendable (AMQPConnection) async throws -> Void
    ) async throws {
        self.link = link
        self.window = window
        self.meter = meter
        self.restore = restore
        let connection = link.connection
        let channel = try await Self.open(on: connection, window)
        self.state = Mutex(State(connection: connection, channels: []))
        self.take(channel, connection)
    }

    /// Makes a channel the one to publish on, and follows its confirms.
    private func take(_ channel: AMQPChannel, _ connection: AMQPConnection) {
        self.endTimes()
        var times: ConfirmTimes?
        var follower: Task<Void, Never>?
        if let window, let meter {
            let new = ConfirmTimes(window: window, meter: meter)
            times = new
            // On a thread of the network: where tasks keep the others busy, confirms would look late.
            follower = Task(executorPreference: EventLoopGroup.shared.next()) { await new.follow(channel) }
        }
        self.state.withLock {
            $0.connection = connection
            $0.channels.append(channel)
            ($0.times, $0.follower) = (times, follower)
        }
    }

    /// Records the confirms that have come, and the age of the publishes that have none; no more is recorded.
    func endTimes() {
        let (times, follower, channel) = self.state.withLock { state in
            defer { (state.times, state.follower) = (nil, nil) }
            return (state.times, state.follower, state.channels.last)
        }
        follower?.cancel()
        guard let times, let channel else { return }
        times.end(channel.confirmCounts.ended, now: MonotonicClock.now)
        self.state.withLock { $0.censored += times.censored }
    }

    /// Publishes whose confirm never came.
    var censored: UInt64 { self.state.withLock { $0.censored } }

    /// The channel as it is now, with the times of its publishes.
    var station: (channel: AMQPChannel, times: ConfirmTimes?) {
        self.state.withLock { ($0.channels[$0.channels.count - 1], $0.times) }
    }

    private static func open(on connection: AMQPConnection, _ window: Int?) async throws -> AMQPChannel {
        let channel = try await connection.openChannel()
        if let window { try await channel.enableConfirms(window: window) }
        return channel
    }

    /// The channel as it is now.
    var channel: AMQPChannel { self.state.withLock { $0.channels[$0.channels.count - 1] } }

    /// True once a channel was lost and another has had a publish confirmed.
    var hasRecovered: Bool {
        let (count, channel) = self.state.withLock { ($0.channels.count, $0.channels[$0.channels.count - 1]) }
        return count > 1 && channel.confirmCounts.confirmed > 0
    }

    /// Opens a channel in place of one that was lost.
    ///
    /// - Throws: `AMQPError`, when the broker stays away.
    func renew() async throws {
        let deadline = ContinuousClock.now + Link.patience
        while true {
            let lost = self.state.withLock { $0.connection }
            let connection = try await self.link.renewed(after: lost)
            do {
                try await self.restore(connection)
                let channel = try await Self.open(on: connection, self.window)
                self.take(channel, connection)
                return
            } catch let error as AMQPError where error.isLoss {
                // Lost again while it was opened.
                self.state.withLock { $0.connection = connection }
            } catch let error as AMQPError where error.code != .cancelled && ContinuousClock.now < deadline {
                // A cluster refuses what it will have again when the node that is gone is back.
                try await Task.sleep(for: Link.pause)
            }
        }
    }

    /// Notes that the broker has committed messages that were due at these times.
    func commit(_ dues: [UInt64]) {
        self.committed.add(UInt64(dues.count))
        let now = MonotonicClock.now
        self.meter?.record { recorded in for due in dues { recorded.record(now - min(now, due), due: due) } }
        if self.link.isResuming { self.link.resumed(at: now) }
    }

    /// Notes that nobody knows whether the broker has committed messages that were due at these times.
    func abandon(_ dues: [UInt64]) {
        self.abandoned.add(UInt64(dues.count))
        let now = MonotonicClock.now
        self.meter?.record { recorded in for due in dues { recorded.record(now - min(now, due), due: due) } }
        self.state.withLock { $0.censored += UInt64(dues.count) }
    }

    /// How the publishes of all its channels have ended.
    var confirmCounts: AMQPConfirmCounts {
        var counts = AMQPConfirmCounts()
        counts.confirmed = self.committed.current
        counts.unknown = self.abandoned.current
        counts.unconfirmed = self.opened.current - min(self.opened.current, counts.confirmed + counts.unknown)
        return self.state.withLock { $0.channels }.reduce(into: counts) { sum, channel in
            let counts = channel.confirmCounts
            sum.confirmed += counts.confirmed
            sum.nacked += counts.nacked
            sum.returned += counts.returned
            sum.unknown += counts.unknown
            sum.unconfirmed += counts.unconfirmed
        }
    }
}

extension AMQPError {
    /// True for what a new connection mends; false for what the broker refused.
    var isLoss: Bool {
        if self.replyCode != nil, self.scope != .connection { return false }
        return self.scope == .connection
            || [.connectFailed, .connectionClosed, .channelClosed].contains(self.code)
    }
}
