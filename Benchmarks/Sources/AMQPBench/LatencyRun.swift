// SPDX-License-Identifier: Apache-2.0
import Foundation

// LatencyRun: the command `latency`: a probe for the capacity, unless a rate is given, and then one open-loop run at each
// part of it. Latency counts from when a message was due, so that a stall of the broker is seen by every message that
// it kept waiting.

/// The result of `latency`.
struct LatencyReport: Codable, Sendable {
    /// One rate.
    struct Step: Codable, Sendable {
        /// The part of the capacity; nil for a rate that was given.
        var ofCapacity: Double?
        var report: Report
    }

    var schema = 1
    var kind = "latency"
    var id: String
    /// Messages per second of the probe; nil for a rate that was given.
    var capacityPerSecond: Double?
    var steps: [Step] = []
    /// The conditions of `--fail-if` that held.
    var failures: [String] = []

    /// The report as JSON text, keys in order.
    func json() throws -> Data { try JSONText.of(self) }
}

/// One `latency`.
struct LatencyRun: Sendable {
    /// The parts of the capacity that are measured.
    static let parts = [0.5, 0.8, 0.95]

    let session: Session
    /// As for `both`; its rate is the one given, or nil.
    let options: RunOptions
    let thresholds: [Threshold]

    private var text: LatencyText { LatencyText(style: self.session.screen.style) }

    /// Measures, and shows a row for each rate.
    ///
    /// - Returns: The report and the exit code.
    /// - Throws: ``BenchFailure``, or what a run throws.
    func run() async throws -> (LatencyReport, Int32) {
        var report = LatencyReport(id: self.session.id)
        var status: Int32 = 0
        var rates: [(part: Double?, rate: Double)] = []
        if let rate = self.options.rate {
            rates = [(nil, rate)]
        } else {
            let probe = try await self.probe()
            guard probe.ended == .completed else {
                self.session.screen.show(self.text.failed(probe))
                return (report, probe.status(signal: self.session.interruption.signal))
            }
            let published =
                !self.options.isConfirmed ? probe.totals.publishedPerSecond : probe.totals.confirmedPerSecond
            let capacity = min(published, probe.totals.consumedPerSecond)
            guard (Self.parts[0] * capacity).rounded() >= 1 else {
                throw BenchFailure(
                    description: "no message arrived while the capacity was looked for; give a --rate",
                    status: ExitStatus.failed
                )
            }
            report.capacityPerSecond = capacity
            self.session.screen.show(self.text.capacity(capacity, seconds: Self.probeSeconds))
            rates = Self.parts.map { ($0, ($0 * capacity).rounded()) }
        }
        for (index, (part, rate)) in rates.enumerated() {
            guard self.session.interruption.signal == nil else { break }
            var options = self.options
            options.rate = rate
            options.isOpenLoop = true
            options.isRateSearched = part == nil ? nil : true
            self.session.screen.showLive("  \(Text.rate(rate)) …")
            let detail: LoadRun.Detail = index == 0 && part == nil ? .header : .nothing
            let result = try await self.session.load(options, detail: detail, suffix: "-\(index)").run()
            if index == 0 { self.session.screen.show(["", self.text.columns()]) }
            self.session.screen.show(self.text.row(result, part: part))
            if let recovery = RunText(style: self.session.screen.style).recovery(result) {
                self.session.screen.show(recovery)
            }
            self.session.screen.show(RunText(style: self.session.screen.style).outages(result))
            if result.ended == .failed { self.session.screen.show(self.text.failed(result)) }
            report.steps.append(.init(ofCapacity: part, report: result))
            for threshold in self.thresholds {
                guard let violation = threshold.violation(by: result) else { continue }
                report.failures.append("\(violation) at \(Text.rate(rate))")
            }
            status = max(status, result.status(signal: self.session.interruption.signal))
            guard result.ended == .completed else { break }
        }
        if status == 0, self.session.interruption.signal != nil {
            status = ExitStatus.interrupted(by: self.session.interruption.signal ?? SIGINT)
        }
        if status == 0, !report.failures.isEmpty { status = ExitStatus.thresholdFailed }
        return (report, status)
    }

    private static let probeSeconds = 3.0
    /// Messages unconfirmed of all producers together while the capacity is looked for: a flood of many producers would
    /// starve the consumers, and the capacity is what both sides keep up with.
    private static let probeUnconfirmed = 1024

    private func probe() async throws -> Report {
        var options = self.options
        options.time = Self.probeSeconds
        options.count = nil
        options.warmup = 1
        options.confirms = options.confirms.map { min($0, max(1, Self.probeUnconfirmed / options.producers)) }
        self.session.screen.showLive("  looking for the capacity …")
        return try await self.session.load(options, detail: .header).run()
    }
}

/// The text of `latency`; pure.
struct LatencyText: Sendable {
    var style: Style

    func capacity(_ capacity: Double, seconds: Double) -> [String] {
        [
            "",
            "capacity probe \(Text.decimal(seconds, places: 0)) s: \(Text.rate(capacity)). "
                + "Sending on a fixed schedule; latency counts from the scheduled time.",
        ]
    }

    func columns() -> String {
        self.style.dim(self.grid.head)
    }

    private var grid: TextGrid {
        var columns = [
            TextColumn(name: "  rate", width: 15, narrow: 12, weight: 0, isText: true),
            TextColumn(name: "of max", width: 9, narrow: 7, weight: 3),
        ]
        for (name, weight) in [("p50", 8), ("p90", 4), ("p99", 9), ("p99.9", 7), ("p99.99", 1)] {
            columns.append(TextColumn(name: name, width: 9, narrow: 8, weight: weight))
        }
        columns += [
            TextColumn(name: "max", width: 12, narrow: 10, weight: 6),
            TextColumn(name: "max lag", width: 12, narrow: 10, weight: 2),
            TextColumn(name: "achieved", width: 11, narrow: 9, weight: 5),
            TextColumn(name: "lost", width: 7, narrow: 6, weight: 12),
            TextColumn(name: "dup", width: 4, narrow: 4, weight: 11),
            TextColumn(name: "bad", width: 5, narrow: 4, weight: 10),
            TextColumn(name: "order", width: 6, narrow: 6, weight: 11),
        ]
        return TextGrid(columns, width: self.style.width)
    }

    func row(_ report: Report, part: Double?) -> String {
        let grid = self.grid
        let latency = report.latency.endToEnd
        let unit = grid.isNarrow ? "" : " ms"
        let achieved = report.totals.publishedPerSecond / max(report.options.rate ?? 1, 1e-9)
        let quantiles = [0.5, 0.9, 0.99, 0.999, 0.9999].map { quantile in
            latency?.known(quantile).map { Text.milliseconds($0) } ?? "–"
        }
        var text = grid.row(
            ["  " + Text.rate(report.options.rate ?? 0), part.map { Text.percent($0 * 100) } ?? "–"] + quantiles + [
                latency.map { Text.milliseconds($0.max) + unit } ?? "–",
                report.latency.lag.map { Text.milliseconds($0.max) + unit } ?? "–",
                Text.decimal(achieved * 100, places: 1) + " %", "\(report.lost)", "\(report.verify.duplicated)",
                report.options.verify ? "\(report.verify.corrupted)" : "–",
                report.verify.reordered == 0 ? "ok" : "\(report.verify.reordered)",
            ]
        )
        if let censored = latency?.censored { text += "   censored \(censored)" }
        return report.isSound ? text : self.style.red(text)
    }

    func failed(_ report: Report) -> String {
        self.style.red("  \(report.ended.rawValue)  \(report.failure ?? "")")
    }

    /// What failed, what to distrust, and where the result is.
    func closing(_ report: LatencyReport, savedTo file: String?) -> [String] {
        var lines = [""]
        lines += report.failures.map { self.style.red("  FAIL  \($0)") }
        lines += Array(Set(report.steps.flatMap(\.report.warnings))).sorted().map { "  ! \($0)" }
        let next = file.map { "amqp-bench report \($0) · amqp-bench compare \($0) OTHER.json" } ?? ""
        let isFile = file?.hasSuffix(".json") == true
        lines.append(
            file.map { "  saved  \($0)" + (isFile ? "    next:  \(next)" : "") }
                ?? "  next:  --json FILE keeps the result"
        )
        return lines
    }
}
