// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Synchronization

// Outage: the times in which a connection of a run was lost, as `--reconnect` and `--fault kill` report them, and which
// node each connection was to. Who connects again: Link.

/// A time in which a connection was lost; nanoseconds of the monotonic clock.
struct Outage: Hashable, Sendable {
    /// When its tasks noticed that it was lost.
    var lost: UInt64
    /// The node it was to, and the one that took its place.
    var from: String?
    var to: String?
    /// When another connection was open.
    var connected: UInt64?
    /// When the first confirm or delivery had come on that one.
    var resumed: UInt64?
}

/// Which node each connection of a run is to, by the role in its name.
final class ConnectedNodes: Sendable {
    private let names = Mutex<[String: String]>([:])

    subscript(role: String) -> String? {
        get { self.names.withLock { $0[role] } }
        set { self.names.withLock { $0[role] = newValue } }
    }
}

extension Report {
    /// A time in which a connection was lost.
    struct Outage: Codable, Hashable, Sendable {
        /// Which connection: `producer 0`.
        var connection: String
        /// The node it was to, and the one that took its place.
        var from: String?
        var to: String?
        /// Seconds into the measured time when the loss was noticed; negative in the warm-up.
        var at: Double
        /// Seconds from then until another connection was open; nil if none was any more.
        var connected: Double?
        /// Seconds from then until the first confirm or delivery; nil if there was none any more.
        var resumed: Double?
    }
}

extension Report.Outage {
    /// Takes over the times of a link.
    ///
    /// - Parameters:
    ///   - outage: When it was lost and came back.
    ///   - connection: Its name.
    ///   - start: When the measured time began.
    init(_ outage: Outage, connection: String, start: UInt64) {
        let seconds = { (time: UInt64?) in time.map { Double($0 - min($0, outage.lost)) / 1e9 } }
        self.init(
            connection: connection,
            from: outage.from,
            to: outage.to,
            at: (Double(outage.lost) - Double(start)) / 1e9,
            connected: seconds(outage.connected),
            resumed: seconds(outage.resumed)
        )
    }
}

extension Load {
    /// How often it is looked whether messages flow again on a connection that was made again.
    private static let poll = Duration.milliseconds(2)

    /// Notes when messages flow again on connections that were made again.
    ///
    /// - Parameter stop: Ends it.
    func watchOutages(until stop: StopFlag) async {
        while !stop.isSet, !Task.isCancelled {
            for producer in self.producers where producer.lane.link.isResuming && producer.lane.hasRecovered {
                producer.lane.link.resumed(at: MonotonicClock.now)
            }
            try? await Task.sleep(for: Self.poll, tolerance: .zero)
        }
    }

    /// The outages of all connections, in the order of time.
    func outages(start: UInt64) -> [Report.Outage] {
        self.links.flatMap { link in
            link.outages.map { Report.Outage($0, connection: link.name, start: start) }
        }
        .sorted { ($0.at, $0.connection) < ($1.at, $1.connection) }
    }
}
