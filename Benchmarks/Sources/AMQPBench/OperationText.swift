// SPDX-License-Identifier: Apache-2.0

// OperationText: what a run of `rpc` or `churn` looks like where it differs from one of messages. Pure.

extension RunOptions {
    /// What is counted, in a run of operations; nil for one of messages.
    var operation: (plural: String, latency: String)? {
        switch self.command {
        case "rpc": ("calls", "call to reply")
        case "churn": ("\(self.churn ?? .connection)s", "open to closed")
        default: nil
        }
    }

    /// One of what is counted.
    var unit: String { self.command == "rpc" ? "call" : self.churn?.rawValue ?? "message" }
    /// What publishes are called in a table.
    var publishedName: String { self.operation?.plural ?? "published" }
    /// What the latency of each interval is.
    var intervalLatencyName: String { self.operation?.latency ?? "confirm" }
}

extension RunText {
    /// What does the operations, and how.
    func operationShape(_ options: RunOptions) -> String {
        func number(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
        guard let churn = options.churn else {
            let calls =
                (options.inFlight ?? 1) == 1 ? "1 call at a time each" : "\(options.inFlight ?? 1) calls at a time each"
            let parts = [
                number(options.producers, "client") + " → 1 queue → " + number(options.consumers, "server"),
                "\(Text.count(UInt64(options.size ?? 0))) B", calls, "direct reply-to",
                options.rate.map { Text.rate($0) },
            ]
            return parts.compactMap { $0 }.joined(separator: "   ")
        }
        let rate = options.rate.map { "   " + Text.rate($0) } ?? ""
        return number(options.producers, "worker") + " open and close \(churn)s, one at a time each" + rate
    }

    func operationGrid(_ options: RunOptions) -> TextGrid {
        let columns = [
            TextColumn(name: "time", width: 7, narrow: 7, weight: 0),
            TextColumn(name: options.publishedName, width: 15, narrow: 12, weight: 4),
            TextColumn(name: "client", width: 9, narrow: 8, weight: 2),
            TextColumn(name: "broker", width: 9, narrow: 8, weight: 1),
            TextColumn(name: "p50 / p99 / max", width: 32, narrow: 18, weight: 3),
        ]
        return TextGrid(columns, width: self.style.width, mark: RunText.mark)
    }

    func operationRow(_ interval: Report.Interval, _ options: RunOptions) -> String {
        let places = options.interval.truncatingRemainder(dividingBy: 1) == 0 ? 0 : 1
        let grid = self.operationGrid(options)
        let times = [interval.confirmP50, interval.confirmP99, interval.confirmMax]
            .map { $0.map { Text.milliseconds($0) } ?? "–" }
        let spread = " /" + Text.right(times[1], 7) + " /" + Text.right(times[2], 7) + " ms"
        let cells = [
            Text.decimal(interval.time, places: places) + " s", Text.rate(interval.published),
            Text.percent(interval.clientCPUPercent), interval.brokerCPUPercent.map { Text.percent($0) } ?? "–",
            grid.isNarrow ? times.joined(separator: "/") : times[0] + spread,
        ]
        return self.marked(grid.row(cells), isWarmup: interval.isWarmup, isNarrow: grid.isNarrow)
    }

    func operationCounts(_ report: Report, _ name: String) -> [String] {
        let totals = report.totals
        guard totals.seconds > 0 else { return [] }
        var text = "  " + Text.left(name, 11) + Text.right(Text.count(totals.published), 12)
        text += Text.right(Text.rate(totals.publishedPerSecond), 15)
        if let steadiness = totals.steadinessPercent {
            text += "   steadiness ± \(Text.decimal(steadiness, places: 1)) %"
        }
        guard report.options.command == "rpc" else { return [text] }
        let replies = "  replies    other than the request \(Text.count(report.verify.corrupted))"
        return [text, report.verify.corrupted == 0 ? replies : self.style.red(replies)]
    }
}
