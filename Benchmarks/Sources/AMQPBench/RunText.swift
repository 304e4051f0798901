// SPDX-License-Identifier: Apache-2.0

// RunText: a report as people read it: what is measured, a line per interval, the summary. Pure; the columns keep their
// width and their unit from the first line to the last.

/// The text of one run.
struct RunText: Sendable {
    var style: Style

    // MARK: - Before the run

    /// What is measured, and with which settings.
    func header(_ report: Report, isNamed: Bool = true) -> [String] {
        let broker = report.broker
        let started = broker.startSeconds.map { " (started here, \(Text.decimal($0, places: 1)) s)" } ?? ""
        let facts = [
            self.style.bold("\(report.tool.name) \(report.tool.version)"),
            "\(broker.product) \(broker.version)\(started)",
            "Swift \(report.tool.swift) \(report.tool.build)", "\(report.machine.cores) cores",
        ]
        return [
            "", (facts + (isNamed ? ["run \(report.id)"] : [])).joined(separator: "   "), self.shape(report.options),
        ]
    }

    private func shape(_ options: RunOptions) -> String {
        if options.operation != nil { return self.operationShape(options) }
        func number(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
        var queue = options.queuesText
        if let exchange = options.exchange { queue = "exchange \(exchange) → " + queue }
        if options.predeclared == true, !options.isQueueNamed { queue = "exchange \(options.exchange ?? "")" }
        var stations: [String] = []
        if options.producers > 0 { stations.append(number(options.producers, "producer")) }
        stations.append(queue)
        if options.consumers > 0 { stations.append(number(options.consumers, "consumer")) }
        var parts = [stations.joined(separator: " → ")]
        if let size = options.size {
            let top = options.sizeMax.map { " to \(Text.count(UInt64($0)))" } ?? ""
            parts.append("\(Text.count(UInt64(size)))\(top) B" + (options.bodyFile == nil ? "" : " of a file"))
        }
        if let channels = options.channelsText { parts.append(channels) }
        if let connections = options.connections { parts.append(number(connections, "connection") + " in all") }
        if let instances = options.instances { parts.append("\(instances) instances") }
        if let profile = options.rateProfile {
            let rates = profile.parts.map { "\(Text.rate($0.rate)) for \(Text.decimal($0.seconds, places: 0)) s" }
            parts.append(rates.joined(separator: ", "))
        } else if let rate = options.rate {
            parts.append(Text.rate(rate))
        }
        if options.persistent { parts.append("persistent") }
        if options.producers > 0 { parts.append(options.confirmsText) }
        if options.consumers > 0 {
            let ahead = options.isPolling ? "basic.get" : "prefetch \(options.prefetch ?? 0)"
            parts.append(
                options.ackEvery.map { "\(ahead), ack every \($0)" }
                    ?? (options.isPolling ? "basic.get, automatic acks" : "automatic acks")
            )
        }
        if let backlog = options.backlog, options.rate == nil {
            parts.append("backlog ≤ \(Text.count(UInt64(backlog)))")
        }
        if let sink = options.sink { parts.append("the queue keeps the last \(Text.count(UInt64(sink)))") }
        if options.isExclusive == true { parts.append("exclusive") }
        if options.isAutoDelete == true { parts.append("auto-delete") }
        if options.lastConsumerStart > 0 {
            parts.append("consumers from \(Text.decimal(options.lastConsumerStart, places: 1)) s on")
        }
        if options.verify { parts.append("verified") }
        return parts.joined(separator: "   ")
    }

    // MARK: - While it runs

    /// The heads of the columns that this run has.
    func columns(_ options: RunOptions) -> String {
        self.style.dim((options.operation == nil ? self.grid(options) : self.operationGrid(options)).head)
    }

    /// The columns that a run of messages has.
    private func grid(_ options: RunOptions) -> TextGrid {
        var columns = [TextColumn(name: "time", width: 7, narrow: 7, weight: 0)]
        if options.producers > 0 {
            columns.append(TextColumn(name: "published", width: 13, narrow: 12, weight: options.consumers > 0 ? 5 : 8))
            columns.append(TextColumn(name: "confirmed", width: 13, narrow: 12, weight: 4))
        }
        if options.consumers > 0 { columns.append(TextColumn(name: "consumed", width: 13, narrow: 12, weight: 8)) }
        if options.producers > 0 { columns.append(TextColumn(name: "in flight", width: 12, narrow: 10, weight: 3)) }
        columns.append(TextColumn(name: "client", width: 9, narrow: 8, weight: 2))
        columns.append(TextColumn(name: "broker", width: 9, narrow: 8, weight: 1))
        if options.isConfirmed {
            columns.append(
                TextColumn(name: "confirm p50 / p99", short: "p50 / p99", width: 22, narrow: 18, weight: 7)
            )
        }
        return TextGrid(columns, width: self.style.width, mark: Self.mark)
    }

    /// The room that the mark of the warm-up takes.
    static let mark = (wide: 10, narrow: 2)

    /// A row with what marks the warm-up.
    func marked(_ text: String, isWarmup: Bool, isNarrow: Bool) -> String {
        isWarmup ? self.style.dim(text + (isNarrow ? " w" : "   warm-up")) : text
    }

    /// One interval.
    func row(_ interval: Report.Interval, _ options: RunOptions) -> String {
        if options.operation != nil { return self.operationRow(interval, options) }
        let places = options.interval.truncatingRemainder(dividingBy: 1) == 0 ? 0 : 1
        let grid = self.grid(options)
        var cells = [Text.decimal(interval.time, places: places) + " s"]
        if options.producers > 0 {
            cells.append(Text.rate(interval.published))
            cells.append(!options.isConfirmed ? "–" : Text.rate(interval.confirmed))
        }
        if options.consumers > 0 { cells.append(Text.rate(interval.consumed)) }
        if options.producers > 0 { cells.append(Text.count(interval.inFlight)) }
        cells.append(Text.percent(interval.clientCPUPercent))
        cells.append(interval.brokerCPUPercent.map { Text.percent($0) } ?? "–")
        if options.isConfirmed {
            let p50 = interval.confirmP50.map { Text.milliseconds($0) } ?? "–"
            let p99 = interval.confirmP99.map { Text.milliseconds($0) } ?? "–"
            cells.append(grid.isNarrow ? "\(p50)/\(p99) ms" : p50 + " /" + Text.right(p99, 7) + " ms")
        }
        return self.marked(grid.row(cells), isWarmup: interval.isWarmup, isNarrow: grid.isNarrow)
    }

    /// How far the run is; drawn over by the next line.
    func progress(_ part: Double, of total: String) -> String {
        let eighths = Int((min(max(part, 0), 1) * 24 * 8).rounded(.down))
        let blocks = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]
        let bar = String(repeating: "█", count: eighths / 8) + blocks[eighths % 8]
        return "        ▕" + Text.left(bar, 24) + "▏ " + total
    }

    // MARK: - After it

    /// The summary.
    func summary(_ report: Report) -> [String] {
        var lines = [""]
        let totals = report.totals
        let warmup =
            report.options.warmup > 0 ? " after \(Text.decimal(report.options.warmup, places: 2)) s warm-up" : ""
        var title = "── summary, \(Text.decimal(totals.seconds, places: 2)) s\(warmup) "
        title += String(repeating: "─", count: max(0, min(100, (self.style.width ?? .max) - 1) - title.count))
        lines.append(self.style.dim(" " + title.trimmingBlanksAtEnd))
        switch report.ended {
        case .completed: break
        case .interrupted:
            lines.append(
                "  ended      interrupted" + (totals.seconds == 0 ? " in the warm-up: nothing was measured" : "")
            )
        case .failed: lines.append(self.style.red("  FAILED     \(report.failure ?? "")"))
        }
        lines += report.options.operation.map { self.operationCounts(report, $0.plural) } ?? self.counts(report)
        lines += self.cost(report)
        if let recovery = self.recovery(report) { lines.append(recovery) }
        lines += self.outages(report)
        lines += self.latency(report)
        return lines
    }

    private func counts(_ report: Report) -> [String] {
        let (options, totals) = (report.options, report.totals)
        guard totals.seconds > 0 else { return [self.soundness(report)] }
        var lines: [String] = []
        func line(_ name: String, _ count: UInt64, _ rate: Double, _ octets: Double?, _ rest: String) {
            let octets = octets.map { Text.decimal($0 / 1e6, places: 1) + " MB/s" } ?? ""
            let text =
                "  " + Text.left(name, 11) + Text.right(Text.count(count), 12) + Text.right(Text.rate(rate), 15)
                + Text.right(octets, 15) + "   " + rest
            lines.append(text.trimmingBlanksAtEnd)
        }
        let steadiness = totals.steadinessPercent.map { "steadiness ± \(Text.decimal($0, places: 1)) %" } ?? ""
        if options.producers > 0 {
            let octets = totals.publishedOctetsPerSecond
            line("published", totals.published, totals.publishedPerSecond, octets, steadiness)
            if options.isConfirmed {
                let refused = "nacked \(Text.count(totals.nacked))   returned \(Text.count(totals.returned))"
                line("confirmed", totals.confirmed, totals.confirmedPerSecond, nil, refused)
            }
        }
        if options.consumers > 0 {
            let isAlone = options.producers == 0
            var rest = "redelivered \(Text.count(totals.redelivered))"
            if !isAlone { rest += "   in queue at the end \(Text.count(totals.inQueue))" }
            if isAlone && !steadiness.isEmpty { rest = steadiness + "   " + rest }
            let octets = isAlone && options.size != nil ? totals.consumedOctetsPerSecond : nil
            line("consumed", totals.consumed, totals.consumedPerSecond, octets, rest)
        }
        lines.append(self.soundness(report))
        return lines + self.culprits(report)
    }

    private func soundness(_ report: Report) -> String {
        let verify = report.verify
        var text = "  whole run"
        if report.options.producers > 0 { text += "  published \(Text.count(report.wholeRun.published)) " }
        if report.options.consumers > 0 { text += "  consumed \(Text.count(report.wholeRun.consumed)) " }
        text += "  lost \(Text.count(report.lost))"
        if report.options.consumers > 0 {
            text += "   duplicated \(Text.count(verify.duplicated))   reordered \(Text.count(verify.reordered))"
        }
        if let inQueue = verify.inQueue, report.options.consumers > 0 {
            text += "   left in the queue \(Text.count(inQueue))"
        }
        if let unaccounted = verify.unaccounted {
            text += "   not accounted \(Text.count(unaccounted)): \(verify.unaccountedReason ?? "no reason")"
        }
        if report.options.verify { text += "   corrupted \(Text.count(verify.corrupted))" }
        if verify.foreign > 0 { text += "   of other runs \(Text.count(verify.foreign))" }
        if report.wholeRun.unknown > 0 { text += "   outcome unknown \(Text.count(report.wholeRun.unknown))" }
        return report.isSound ? text : self.style.red(text)
    }

    /// How a fault was got over; nil where there was none.
    func recovery(_ report: Report) -> String? {
        guard let recovery = report.recovery, let fault = report.options.fault else { return nil }
        let seconds = { (value: Double?) in value.map { "\(Text.decimal($0, places: 3)) s" } ?? "never" }
        var text = "  fault      \(fault.kind) at \(Text.decimal(recovery.at, places: 1)) s"
        text += "   broker back after \(seconds(recovery.brokerBack))"
        if report.options.producers > 0, report.options.isConfirmed {
            text += "   first confirm after \(seconds(recovery.confirmed))"
        }
        if report.options.consumers > 0 { text += "   first delivery after \(seconds(recovery.consumed))" }
        return text
    }

    /// Publishers and consumers that did not get or give all, a few of them.
    private func culprits(_ report: Report) -> [String] {
        guard !report.isSound else { return [] }
        var lines: [String] = []
        for publisher in report.verify.publishers ?? [] where publisher.arrived < publisher.published {
            lines.append(
                "    publisher \(publisher.publisher)   published \(Text.count(publisher.published))   "
                    + "arrived \(Text.count(publisher.arrived))"
            )
        }
        for consumer in report.verify.consumers ?? [] where consumer.reordered + consumer.corrupted > 0 {
            lines.append(
                "    consumer \(consumer.consumer)   consumed \(Text.count(consumer.consumed))   "
                    + "reordered \(Text.count(consumer.reordered))   corrupted \(Text.count(consumer.corrupted))"
            )
        }
        return lines.count > 6 ? Array(lines.prefix(5)) + ["    … and \(lines.count - 5) more in the JSON"] : lines
    }

    private func cost(_ report: Report) -> [String] {
        guard report.totals.seconds > 0 else { return [] }
        let client = report.client
        var text =
            "  client     \(Text.percent(client.cpuPercent)) of one core   "
            + "\(Text.decimal(client.cpuMicrosecondsPerMessage, places: 2)) µs/\(report.options.unit)   "
            + "peak memory \(Text.decimal(Double(client.maxResidentOctets) / 1_048_576, places: 1)) MiB"
        if let broker = report.broker.cpuPercent { text += "      broker \(Text.percent(broker))" }
        return [text]
    }

    private func latency(_ report: Report) -> [String] {
        let rows = [
            ("confirm", report.latency.confirm), ("end to end", report.latency.endToEnd),
            ("publish lag", report.latency.lag),
            (report.options.intervalLatencyName, report.latency.operation),
        ]
        guard rows.contains(where: { $0.1 != nil }) else { return [] }
        let isPaced = report.options.rate != nil || report.options.operation != nil
        let head = isPaced ? "" : "at saturation"
        var columns = [TextColumn(name: "  " + head, short: "  in ms", width: 18, narrow: 14, weight: 0, isText: true)]
        for (name, weight) in [("p50", 5), ("p90", 2), ("p99", 6), ("p99.9", 3), ("max", 4)] {
            columns.append(TextColumn(name: name, width: 13, narrow: 10, weight: weight))
        }
        columns.append(TextColumn(name: "samples", width: 12, narrow: 11, weight: 1))
        let grid = TextGrid(columns, width: self.style.width)
        var lines = ["", self.style.dim(grid.head)]
        for (name, latency) in rows {
            guard let latency else { continue }
            let unit = grid.isNarrow ? "" : " ms"
            let values = [
                latency.known(0.5), latency.known(0.9), latency.known(0.99), latency.known(0.999), latency.max,
            ]
            let times = values.map { $0.map { Text.milliseconds($0) + unit } ?? "–" }
            var text = grid.row(["  " + name] + times + [Text.count(latency.count)])
            if let censored = latency.censored { text += "   censored \(Text.count(censored))" }
            lines.append(self.style.dim(text))
        }
        if !isPaced {
            let isRabbitMQ = report.broker.product == "RabbitMQ"
            let broker = report.broker.startedHere ? (isRabbitMQ ? " --broker rabbitmq" : "") : " --uri …"
            let next = "amqp-bench latency\(broker)"
            lines.append(
                self.style.dim("  These are queue lengths, not service times. For latency:  \(next)")
            )
        }
        return lines
    }

    /// The median and the spread of several runs.
    func spread(_ report: Report) -> [String] {
        guard let runs = report.runs else { return [] }
        func line(_ name: String, _ values: [Double], _ text: (Double) -> String) -> String {
            let sorted = values.sorted()
            let deviation =
                Statistics.relativeDeviation(values).map { "   ± \(Text.decimal($0 * 100, places: 1)) %" } ?? ""
            return "  " + Text.left(name, 16) + Text.right(text(sorted[sorted.count / 2]), 13)
                + Text.right(text(sorted[0]), 15) + " …" + Text.right(text(sorted[sorted.count - 1]), 13) + deviation
        }
        var lines = ["", self.style.dim("  " + Text.left("\(runs.count) runs", 16) + Text.right("median", 13))]
        if report.options.producers > 0 {
            lines.append(line(report.options.publishedName, runs.map(\.publishedPerSecond), Text.rate))
        }
        if report.options.consumers > 0, report.options.operation == nil {
            lines.append(line("consumed", runs.map(\.consumedPerSecond), Text.rate))
        }
        lines.append(
            line("client", runs.map(\.cpuMicrosecondsPerMessage)) { Text.decimal($0, places: 2) + " µs" }
        )
        return lines
    }

    /// What to distrust, and what to do next.
    func closing(_ report: Report, savedTo file: String?) -> [String] {
        var lines = [""]
        lines += report.failures.map { self.style.red("  FAIL  \($0)") }
        lines += report.warnings.map { "  ! \($0)" }
        if let file {
            let next = "amqp-bench report \(file) · amqp-bench compare \(file) OTHER.json"
            lines.append("  saved  \(file)" + (file.hasSuffix(".json") ? "    next:  \(next)" : ""))
        } else {
            lines.append("  next:  --json FILE keeps the result")
        }
        return lines
    }
}

extension String {
    /// Without the blanks at its end.
    var trimmingBlanksAtEnd: String {
        String(self[..<(self.lastIndex { $0 != " " }.map { self.index(after: $0) } ?? self.startIndex)])
    }
}
