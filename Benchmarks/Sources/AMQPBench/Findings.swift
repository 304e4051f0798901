// SPDX-License-Identifier: Apache-2.0

// Findings: everything that can have gone wrong in a run, with its count, as pages and tables show it. Pure.

/// One thing that can go wrong in a run.
struct Finding: Hashable, Sendable {
    var name: String
    var text: String
    /// True for what fails the run or spoils its figures.
    var isBad: Bool
}

extension Report {
    /// What became of the messages, what failed, and how far several runs are apart.
    var findings: [Finding] {
        var found: [Finding] = []
        func count(_ name: String, _ value: UInt64?, isBad: Bool = true, isAlways: Bool = false) {
            let value = value ?? 0
            guard value > 0 || isAlways else { return }
            found.append(Finding(name: name, text: Text.count(value), isBad: isBad && value > 0))
        }
        let (verify, whole) = (self.verify, self.wholeRun)
        count("lost", self.lost, isAlways: true)
        count("duplicated", verify.duplicated, isAlways: true)
        count("reordered", verify.reordered, isAlways: true)
        count("corrupted", verify.corrupted, isAlways: self.options.verify)
        if let unaccounted = verify.unaccounted {
            let text = Text.count(unaccounted) + ": " + (verify.unaccountedReason ?? "no reason")
            found.append(Finding(name: "not accounted", text: text, isBad: true))
        }
        count("left in the queue", verify.inQueue, isBad: false)
        count("redelivered", whole.redelivered, isBad: false)
        count("nacked", whole.nacked)
        count("returned", whole.returned)
        count("outcome unknown", whole.unknown)
        count("of other runs", verify.foreign, isBad: false)
        count("confirms that never came", self.latency.confirm?.censored)
        count("arrivals that never came", self.latency.endToEnd?.censored)
        if let recovery = RunText(style: .plain).recovery(self) {
            found.append(Finding(name: "fault", text: recovery.drop { $0 == " " }.dropFirst(5).trimmed, isBad: true))
        }
        let text = RunText(style: .plain)
        if let command = text.faultCommand(self) {
            found.append(Finding(name: "fault command", text: command, isBad: true))
        }
        for outage in (self.outages ?? []).prefix(RunText.mostOutages) {
            found.append(Finding(name: "\(outage.connection) was lost", text: text.outage(outage), isBad: true))
        }
        if let runs = self.runs, runs.count > 1 {
            let rates = runs.map { self.options.producers > 0 ? $0.publishedPerSecond : $0.consumedPerSecond }.sorted()
            let text = "\(runs.count) runs: \(Text.rate(rates[0])) to \(Text.rate(rates[rates.count - 1]))"
            found.append(Finding(name: "spread", text: text, isBad: false))
        }
        if let failure = self.failure { found.append(Finding(name: self.ended.rawValue, text: failure, isBad: true)) }
        return found
    }
}

extension Substring {
    /// Without the blanks at its beginning.
    fileprivate var trimmed: String { String(self.drop { $0 == " " }) }
}
