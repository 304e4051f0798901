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

    func operationColumns(_ name: String) -> String {
        let text =
            "   time" + Text.right(name, 15) + Text.right("client", 9) + Text.right("broker", 9)
            + Text.right("p50 / p99 / max", 32)
        return self.style.dim(text)
    }

    func operationRow(_ interval: Report.Interval, _ options: RunOptions) -> String {
        let places = options.interval.truncatingRemainder(dividingBy: 1) == 0 ? 0 : 1
        var text = Text.right(Text.decimal(interval.time, places: places) + " s", 7)
        text += Text.right(Text.rate(interval.published), 15) + Text.right(Text.percent(interval.clientCPUPercent), 9)
        text += Text.right(interval.brokerCPUPercent.map { Text.percent($0) } ?? "–", 9)
        let times = [interval.confirmP50, interval.confirmP99, interval.confirmMax]
            .map { $0.map { Text.milliseconds($0) } ?? "–" }
        text += Text.right(times[0], 11) + " /" + Text.right(times[1], 7) + " /" + Text.right(times[2], 7) + " ms"
        return interval.isWarmup ? self.style.dim(text + "   warm-up") : text
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
