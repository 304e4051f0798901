// SPDX-License-Identifier: Apache-2.0
import Foundation
import Histogram

// Report: all that a run found out, as it is written with --json. The fields are a promise: `schema` counts up when one
// changes its meaning or goes. Times are microseconds where the name says nothing else, rates are per second.

/// The result of one run.
struct Report: Codable, Sendable {
    /// How a run ended.
    enum Ending: String, Codable, Sendable { case completed, interrupted, failed }

    var schema = 1
    var id: String
    /// What `--label` gave.
    var labels: [String: String] = [:]
    /// When the run began, ISO 8601.
    var started: String
    var ended = Ending.completed
    /// Why it failed.
    var failure: String?
    var tool = Tool()
    var machine = MachineFacts.here
    var broker: Broker
    var options: RunOptions
    /// Of the measured time.
    var totals = Totals()
    /// From the first message to the last, warm-up and draining included.
    var wholeRun = Counts()
    var client = Client()
    var latency = Latencies()
    /// Messages that were confirmed (without confirms: published) and did not arrive.
    var lost: UInt64 = 0
    var verify = Verification()
    /// The part of the producers' time in which the bound of --backlog made them wait; nil without a bound.
    var backlogWaitPercent: Double?
    /// Where there was a fault.
    var recovery: Recovery?
    /// The result of the command of --fault-command.
    var faultCommand: Command?
    /// When connections were lost and came back; nil where none was.
    var outages: [Outage]?
    /// One for each interval, the warm-up included.
    var intervals: [Interval] = []
    var warnings: [String] = []
    /// The conditions of `--fail-if` that held.
    var failures: [String] = []
    /// The figures of all runs, when there was more than one; this report is then the one of the median run.
    var runs: [RunFigures]?

    /// What measured.
    struct Tool: Codable, Sendable {
        var name = "amqp-bench"
        var version = BuildFacts.version
        var commit: String?
        var build = BuildFacts.isDebug ? "debug" : "release"
        var swift = BuildFacts.swift
    }

    /// What was measured.
    struct Broker: Codable, Sendable {
        var product: String
        var version: String
        /// True when the tool started it.
        var startedHere: Bool
        var startSeconds: Double?
        /// Of one core, over the measured time; only of a broker started here.
        var cpuPercent: Double?
        /// True when it blocked publishers at some tick, as under a memory alarm.
        var wasBlocked = false
    }

    /// Counts of messages.
    struct Counts: Codable, Hashable, Sendable {
        var published: UInt64 = 0
        var confirmed: UInt64 = 0
        var nacked: UInt64 = 0
        var returned: UInt64 = 0
        /// Published, and the broker's word on them never came.
        var unknown: UInt64 = 0
        var consumed: UInt64 = 0
        var redelivered: UInt64 = 0
    }

    /// Counts and rates of the measured time.
    struct Totals: Codable, Sendable {
        var seconds: Double = 0
        var published: UInt64 = 0
        var confirmed: UInt64 = 0
        var nacked: UInt64 = 0
        var returned: UInt64 = 0
        var consumed: UInt64 = 0
        var redelivered: UInt64 = 0
        var publishedPerSecond: Double = 0
        var confirmedPerSecond: Double = 0
        var consumedPerSecond: Double = 0
        var publishedOctetsPerSecond: Double = 0
        var consumedOctetsPerSecond: Double = 0
        /// Standard deviation of the intervals' rates, percent of their mean; nil below three intervals.
        var steadinessPercent: Double?
        /// Published and not consumed at the end of the measured time.
        var inQueue: UInt64 = 0
    }

    /// What the run cost this process.
    struct Client: Codable, Sendable {
        var cpuMicroseconds: UInt64 = 0
        /// A message that is published and consumed here counts once.
        var cpuMicrosecondsPerMessage: Double = 0
        /// Of one core.
        var cpuPercent: Double = 0
        /// Of one core: the share of the busiest thread.
        var busiestThreadPercent: Double = 0
        /// The largest resident set since the process began, octets.
        var maxResidentOctets: UInt64 = 0
    }

    /// The kinds of latency; what was not measured is left out.
    struct Latencies: Codable, Sendable {
        /// From when a message was due (without a schedule: from the call of its publish, the wait for the window
        /// included) to its confirm; of every message.
        var confirm: LatencySummary?
        /// From when a message was due (without a schedule: from the call of its publish) to its arrival at the
        /// consumer; of every message of an open loop, of samples elsewhere.
        var endToEnd: LatencySummary?
        /// From the call of the publish, where there is a schedule.
        var endToEndFromSend: LatencySummary?
        /// How late the publishes of a schedule were called.
        var lag: LatencySummary?
        /// Of every operation of `rpc` (call to reply) and `churn` (open to closed); with a rate, from when it was due.
        var operation: LatencySummary?
    }

    /// What the sequence numbers in the messages say.
    struct Verification: Codable, Hashable, Sendable {
        var lost: UInt64 = 0
        /// Not arrived, and still in the queues at the end.
        var inQueue: UInt64?
        /// Not arrived and in no queue, without proof that the broker lost them; the reason says why.
        var unaccounted: UInt64?
        var unaccountedReason: String?
        /// Arrived more often than once and were not marked redelivered.
        var duplicated: UInt64 = 0
        /// Came behind one published after them on the same channel, and were not marked redelivered.
        var reordered: UInt64 = 0
        /// Arrived with a wrong checksum; known with `--verify` only.
        var corrupted: UInt64 = 0
        /// Messages in the queue that another run left there.
        var foreign: UInt64 = 0
        /// Different messages of the run that arrived intact.
        var arrived: UInt64 = 0
        /// Each publisher and each consumer, with `--verify`.
        var publishers: [Publisher]?
        var consumers: [Consumer]?

        /// What one publisher published and what of it arrived.
        struct Publisher: Codable, Hashable, Sendable {
            var publisher: Int
            var published: UInt64
            var arrived: UInt64
        }

        /// What one consumer got.
        struct Consumer: Codable, Hashable, Sendable {
            var consumer: Int
            var consumed: UInt64
            var redelivered: UInt64
            var reordered: UInt64
            var corrupted: UInt64
        }
    }

    /// How a fault was got over; seconds.
    struct Recovery: Codable, Hashable, Sendable {
        /// Into the measured time.
        var at: Double
        /// From the fault until the broker was there again: thawed, or restarted and listening.
        var brokerBack: Double?
        /// From the fault to the first confirm after it.
        var confirmed: Double?
        /// From the fault to the first delivery after it.
        var consumed: Double?
    }

    /// Rates between two ticks.
    struct Interval: Codable, Sendable {
        /// End of the interval, seconds since the start.
        var time: Double
        var isWarmup: Bool
        var published: Double
        var confirmed: Double
        var consumed: Double
        /// Unconfirmed at the end of the interval.
        var inFlight: UInt64
        var clientCPUPercent: Double
        var brokerCPUPercent: Double?
        var confirmP50: Double?
        var confirmP99: Double?
        var confirmMax: Double?
        var endToEndP50: Double?
        var endToEndP99: Double?
        var endToEndMax: Double?
    }
}

extension Report {
    /// True when nothing was lost, doubled, out of order or corrupted.
    var isSound: Bool {
        self.lost == 0 && self.verify.duplicated == 0 && self.verify.reordered == 0 && self.verify.corrupted == 0
    }

    /// True when that holds for each of several runs.
    var areAllSound: Bool {
        self.isSound && (self.runs ?? []).allSatisfy { $0.lost == 0 && $0.isSound != false }
    }

    /// The status the tool exits with.
    func status(signal: Int32?) -> Int32 {
        switch self.ended {
        case .failed: ExitStatus.failed
        case .interrupted: ExitStatus.interrupted(by: signal ?? SIGINT)
        case .completed: self.isSound ? 0 : ExitStatus.verificationFailed
        }
    }

    /// The report as JSON text, keys in order.
    func json() throws -> Data { try JSONText.of(self) }

    static var encoder: JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return encoder
    }

    /// Messages or operations per second: published, or consumed where nothing is published.
    var mainRate: Double {
        self.options.producers > 0 ? self.totals.publishedPerSecond : self.totals.consumedPerSecond
    }

    /// The run whose rate is in the middle, with the figures of all; nil for no runs.
    static func median(of reports: [Report]) -> Report? {
        let sorted = reports.sorted { $0.mainRate < $1.mainRate }
        guard var median = reports.last else { return nil }
        // A run that failed or was broken off is the last; it must not hide behind the median.
        if median.ended == .completed { median = sorted[sorted.count / 2] }
        if reports.count > 1 { median.runs = reports.map { RunFigures($0) } }
        return median
    }
}

/// The figures of one run that are compared.
struct RunFigures: Codable, Hashable, Sendable {
    var publishedPerSecond: Double
    var consumedPerSecond: Double
    /// Of the operations, in `rpc` and `churn`.
    var confirmP50: Double?
    var confirmP99: Double?
    var endToEndP50: Double?
    var endToEndP99: Double?
    var cpuMicrosecondsPerMessage: Double
    var lost: UInt64
    /// False when messages were lost, doubled, out of order or corrupted; missing in results of older versions.
    var isSound: Bool?

    init(_ report: Report) {
        self.publishedPerSecond = report.totals.publishedPerSecond
        self.consumedPerSecond = report.totals.consumedPerSecond
        let confirm = report.latency.confirm ?? report.latency.operation
        (self.confirmP50, self.confirmP99) = (confirm?.p50, confirm?.p99)
        self.endToEndP50 = report.latency.endToEnd?.p50
        self.endToEndP99 = report.latency.endToEnd?.p99
        self.cpuMicrosecondsPerMessage = report.client.cpuMicrosecondsPerMessage
        self.lost = report.lost
        self.isSound = report.isSound
    }
}

/// A distribution of times, microseconds.
struct LatencySummary: Codable, Hashable, Sendable {
    var count: UInt64
    /// Those of them that never ended and are counted with the age they had; nil for none.
    var censored: UInt64?
    var mean: Double
    var p50: Double
    var p90: Double
    var p99: Double
    var p999: Double
    var p9999: Double
    var max: Double
    /// The whole histogram: pairs of a value in nanoseconds and its count.
    var histogram: [[UInt64]]
    /// The same in HdrHistogram's V2 encoding, compressed, as Base64; missing in results of older versions.
    var hdr: String?

    /// Nil when nothing was recorded.
    init?(_ histogram: Histogram<UInt64>) {
        guard histogram.totalCount > 0 else { return nil }
        func value(_ percentile: Double) -> Double { Double(histogram.valueAtPercentile(percentile)) / 1000 }
        self.count = histogram.totalCount
        self.mean = histogram.mean / 1000
        self.p50 = value(50)
        self.p90 = value(90)
        self.p99 = value(99)
        self.p999 = value(99.9)
        self.p9999 = value(99.99)
        self.max = Double(histogram.max) / 1000
        self.histogram = histogram.recordedValues().map { [$0.value, $0.count] }
        self.hdr = HdrEncoding.text(self.histogram)
    }

    /// The samples that must lie beyond a quantile for it to say something.
    private static let fewest = 10.0

    /// A quantile, microseconds; nil with fewer than ten samples beyond it.
    func known(_ quantile: Double) -> Double? {
        guard (Double(self.count) * (1 - quantile)).rounded() >= Self.fewest else { return nil }
        return switch quantile {
        case 0.5: self.p50
        case 0.9: self.p90
        case 0.99: self.p99
        case 0.999: self.p999
        default: self.p9999
        }
    }
}

/// What this build of the tool is.
enum BuildFacts {
    static let version = "0.1.0"

    static var isDebug: Bool {
        #if DEBUG
            true
        #else
            false
        #endif
    }

    static var swift: String {
        #if compiler(>=6.5)
            "6.5 or later"
        #elseif compiler(>=6.4)
            "6.4"
        #else
            "6.3"
        #endif
    }
}

extension BuildFacts {
    /// The commit of the checkout this was built from, if it is still there.
    static var commit: String? {
        var folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        while folder.path != "/" {
            let git = folder.appendingPathComponent(".git")
            if FileManager.default.fileExists(atPath: git.path) { return Self.commit(git) }
            folder.deleteLastPathComponent()
        }
        return nil
    }

    /// Reads HEAD, its file or its line in packed-refs.
    private static func commit(_ git: URL) -> String? {
        func read(_ url: URL) -> String? {
            (try? String(contentsOf: url, encoding: .utf8))?.trimmingCharacters(in: .whitespacesAndNewlines)
        }
        var folder = git
        // In a worktree .git is a file that names the folder.
        if let link = read(git), link.hasPrefix("gitdir: ") { folder = URL(fileURLWithPath: String(link.dropFirst(8))) }
        guard let head = read(folder.appendingPathComponent("HEAD")) else { return nil }
        guard head.hasPrefix("ref: ") else { return String(head.prefix(12)) }
        let name = String(head.dropFirst(5))
        let common = read(folder.appendingPathComponent("commondir")).map { folder.appendingPathComponent($0) }
        for place in [folder, common].compactMap({ $0 }) {
            if let commit = read(place.appendingPathComponent(name)) { return String(commit.prefix(12)) }
            let packed = read(place.appendingPathComponent("packed-refs"))?.split(separator: "\n") ?? []
            if let line = packed.first(where: { $0.hasSuffix(" " + name) }) { return String(line.prefix(12)) }
        }
        return nil
    }
}
