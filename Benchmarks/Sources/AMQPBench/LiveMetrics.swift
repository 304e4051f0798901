// SPDX-License-Identifier: Apache-2.0
import Foundation
import Synchronization

// LiveMetrics: the counters of a run while it runs, for other programs: as Prometheus text where --prometheus listens, and
// as a line of JSON for each interval where --ndjson is given. The server: MetricsServer.

/// The counters of the run that is running.
final class LiveMetrics: Sendable {
    private struct State {
        var id = ""
        var command = ""
        var snapshot: (@Sendable () -> Snapshot)?
        var interval: Report.Interval?
    }

    /// One interval, as `--ndjson` writes it.
    private struct Line: Encodable {
        var kind = "interval"
        var id: String
        var command: String
        var counts: Report.Counts
        var interval: Report.Interval
    }

    private let state = Mutex(State())
    /// Gets each line of JSON; nil without `--ndjson`.
    private let write: (@Sendable (Data) -> Void)?

    /// Metrics of no run yet.
    ///
    /// - Parameter write: Gets a line of JSON at the end of each interval.
    init(write: (@Sendable (Data) -> Void)? = nil) { self.write = write }

    /// A run begins.
    func begin(_ id: String, command: String, snapshot: @escaping @Sendable () -> Snapshot) {
        self.state.withLock { $0 = State(id: id, command: command, snapshot: snapshot) }
    }

    /// An interval is over.
    func tick(_ interval: Report.Interval, _ counts: Report.Counts) {
        let (id, command) = self.state.withLock { state in
            state.interval = interval
            return (state.id, state.command)
        }
        guard let write else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let line = Line(id: id, command: command, counts: counts, interval: interval)
        guard let data = try? encoder.encode(line) else { return }
        write(data + Data("\n".utf8))
    }

    /// The counters as Prometheus reads them (text format 0.0.4); nothing before the first run.
    var prometheus: String {
        let state = self.state.withLock { $0 }
        guard let snapshot = state.snapshot?() else { return "" }
        return Self.text(snapshot, state.interval, id: state.id, command: state.command)
    }

    /// The same of given values; pure.
    static func text(_ snapshot: Snapshot, _ interval: Report.Interval?, id: String, command: String) -> String {
        let labels = "run=\"\(id)\",command=\"\(command)\""
        var text = ""
        func head(_ name: String, _ type: String, _ help: String) {
            text += "# HELP amqp_bench_\(name) \(help)\n# TYPE amqp_bench_\(name) \(type)\n"
        }
        func put(_ name: String, _ type: String, _ help: String, _ value: String) {
            head(name, type, help)
            text += "amqp_bench_\(name){\(labels)} \(value)\n"
        }
        let counts = snapshot.counts
        let counters: [(String, UInt64, String)] = [
            ("published", counts.published, "Messages published, or operations done."),
            ("confirmed", counts.confirmed, "Publishes confirmed."), ("nacked", counts.nacked, "Publishes nacked."),
            ("returned", counts.returned, "Publishes returned."),
            ("unknown", counts.unknown, "Publishes whose outcome is unknown: the connection was lost."),
            ("consumed", counts.consumed, "Messages consumed."),
            ("redelivered", counts.redelivered, "Messages consumed that were marked redelivered."),
        ]
        for (name, value, help) in counters { put("\(name)_total", "counter", help, String(value)) }
        put("in_flight", "gauge", "Publishes without an answer of the broker.", String(snapshot.inFlight))
        let client = Text.decimal(Double(snapshot.client.cpuMicroseconds) / 1e6, places: 6)
        put("client_cpu_seconds_total", "counter", "Processor time of this process.", client)
        if let broker = snapshot.brokerCPU {
            let seconds = Text.decimal(Double(broker.microseconds) / 1e6, places: 6)
            put("broker_cpu_seconds_total", "counter", "Processor time of the broker that was started here.", seconds)
        }
        guard let interval else { return text }
        let kinds: [(String, String, [(String, Double?)])] = [
            (
                "confirm_seconds", "Confirm latency (of operations: their time) in the last interval.",
                [("0.5", interval.confirmP50), ("0.99", interval.confirmP99), ("1", interval.confirmMax)]
            ),
            (
                "end_to_end_seconds", "End-to-end latency in the last interval.",
                [("0.5", interval.endToEndP50), ("0.99", interval.endToEndP99), ("1", interval.endToEndMax)]
            ),
        ]
        for (name, help, values) in kinds where values.contains(where: { $0.1 != nil }) {
            head(name, "gauge", help)
            for (quantile, value) in values {
                guard let value else { continue }
                let seconds = Text.decimal(value / 1e6, places: 9)
                text += "amqp_bench_\(name){\(labels),quantile=\"\(quantile)\"} \(seconds)\n"
            }
        }
        return text
    }
}
