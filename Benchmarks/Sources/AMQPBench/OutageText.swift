// SPDX-License-Identifier: Apache-2.0

// OutageText: the outages of a run and what its fault command did, as lines. Pure.

extension RunText {
    /// The outages that are shown; the JSON has all.
    static let mostOutages = 10

    /// The end of the command of `--fault-command`; nil where there was none.
    func faultCommand(_ report: Report) -> String? {
        guard let given = report.options.faultCommand else { return nil }
        guard let command = report.faultCommand else { return "'\(given.command)' did not run: the run ended before" }
        let seconds = { (value: Double) in Text.decimal(value, places: 3) + " s" }
        return
            "'\(given.command)' at \(seconds(command.at))   took \(seconds(command.seconds))   exit \(command.status)"
    }

    /// When a connection was lost, and how long until it was back.
    func outage(_ outage: Report.Outage) -> String {
        let seconds = { (value: Double?) in value.map { "\(Text.decimal($0, places: 3)) s" } ?? "never" }
        var text = "at \(seconds(outage.at))   connected after \(seconds(outage.connected))"
        text += "   first message after \(seconds(outage.resumed))"
        let nodes = [outage.from, outage.to].compactMap { $0 }
        if Set(nodes).count > 1 {
            text += "   " + nodes.joined(separator: " → ")
        } else {
            text += nodes.first.map { "   \($0)" } ?? ""
        }
        return text
    }

    /// The fault command, and a line for each outage.
    func outages(_ report: Report) -> [String] {
        var lines: [String] = []
        if let command = self.faultCommand(report) {
            let text = "  command    " + command
            lines.append(report.faultCommand?.status == 0 ? text : self.style.red(text))
        }
        let outages = report.outages ?? []
        guard !outages.isEmpty else {
            if report.options.reconnects == true { lines.append("  outages    no connection was lost") }
            return lines
        }
        for (index, outage) in outages.prefix(Self.mostOutages).enumerated() {
            let name = Text.left(outage.connection, 14)
            lines.append((index == 0 ? "  outages    " : "             ") + name + self.outage(outage))
        }
        if outages.count > Self.mostOutages {
            lines.append("             … and \(outages.count - Self.mostOutages) more in the JSON")
        }
        return lines
    }
}
