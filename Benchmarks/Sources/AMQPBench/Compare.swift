// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// Compare: the command that says whether one result differs from another, and exits with 3 when it is worse.

/// Compare two results.
struct Compare: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare two results written with --json, or two commands; exit 3 on a regression.",
        discussion: """
            amqp-bench compare main.json branch.json
            amqp-bench compare --run '--size 1k' --run '--size 1k --persistent' --pairs 10
            amqp-bench compare --run '../main/amqp-bench --time 5s' --run './amqp-bench --time 5s'
            amqp-bench compare --run 'latency --rate 5k --size 64' --run 'latency --rate 5k --size 1k'
            """
    )

    @Argument(help: "The result to compare with.") var base: String?
    @Argument(help: "The result that is compared.") var other: String?
    @Option(
        name: .customLong("run"),
        parsing: .unconditionalSingleValue,
        help: "Measure this command (its options, or program and options); given twice."
    )
    var commands: [String] = []
    @Option(help: "Runs of each command, in the order A B B A.") var pairs = 10
    @Option(help: "Changes up to this many percent are no difference.") var tolerance = 2.0
    @Flag(help: "Compare although brokers, machines or options differ.") var force = false
    @Option(help: "Write both beside each other as HTML to this file.") var html: String?
    @Option(help: "Colour the text: auto, always or never. NO_COLOR is honoured.") var color = ColorChoice.auto

    func validate() throws {
        guard 0...100 ~= self.tolerance else { throw ValidationError("--tolerance takes 0 to 100 percent.") }
        if self.commands.isEmpty {
            guard self.base != nil, self.other != nil else {
                throw ValidationError("Give two results, or --run twice.")
            }
        } else {
            guard self.base == nil else { throw ValidationError("Results and --run cannot go together.") }
            _ = try RunPairs(self.commands, pairs: self.pairs)
        }
    }

    func run() async throws {
        let screen = Screen(usesStandardError: false, color: self.color)
        if self.commands.isEmpty, let base, let other {
            let text = ComparisonText(style: screen.style, base: Self.name(base), other: Self.name(other))
            let (before, after) = (try StoredResult.read(base), try StoredResult.read(other))
            return try self.show(
                Self.comparisons(before, after, tolerance: self.tolerance),
                (before, after),
                text,
                screen
            )
        }
        do {
            let results = try await RunPairs(self.commands, pairs: self.pairs).measure {
                Screen.write(Data(($0 + "\n").utf8), to: STDERR_FILENO)
            }
            let comparisons = results.map {
                let (tolerance, count) = (self.tolerance, results.count)
                return ComparisonHTML.Part(
                    name: $0.name,
                    base: $0.base,
                    other: $0.other,
                    comparison: Comparison($0.base, $0.other, tolerance: tolerance, isPaired: true, of: count)
                )
            }
            // The two commands differ on purpose: what they differ in is said, not refused.
            try self.show(comparisons, ComparisonText(style: screen.style, base: "A", other: "B"), screen)
        } catch let failure as BenchFailure {
            Screen.write(Data("amqp-bench: \(failure)\n".utf8), to: STDERR_FILENO)
            throw ExitCode(failure.status)
        }
    }

    private func show(
        _ comparisons: [ComparisonHTML.Part],
        _ results: (base: StoredResult, other: StoredResult),
        _ text: ComparisonText,
        _ screen: Screen
    ) throws {
        let (base, other) = results
        guard !comparisons.isEmpty else {
            throw ValidationError("These results have no run in common: \(base.command) and \(other.command).")
        }
        let differences = comparisons.flatMap(\.comparison.differences)
        if !differences.isEmpty, !self.force {
            throw ValidationError(
                "These results cannot be compared; --force does it all the same.\n"
                    + Array(Set(differences)).sorted().map { "  \($0)" }.joined(separator: "\n")
            )
        }
        try self.show(comparisons, text, screen)
    }

    private func show(_ comparisons: [ComparisonHTML.Part], _ text: ComparisonText, _ screen: Screen) throws {
        for part in comparisons {
            if !part.name.isEmpty { screen.show(["", screen.style.bold("  " + part.name)]) }
            screen.show(text.lines(part.comparison))
        }
        if let html {
            let page = try ComparisonHTML(base: text.base, other: text.other, parts: comparisons).page()
            try FileOutput.write(page, to: html)
            screen.show("  saved  \(html)")
        }
        guard !comparisons.contains(where: \.comparison.isRegression) else {
            throw ExitCode(ExitStatus.thresholdFailed)
        }
    }

    /// The runs that both results have, compared.
    static func comparisons(
        _ base: StoredResult,
        _ other: StoredResult,
        tolerance: Double
    ) -> [ComparisonHTML.Part] {
        let others = Dictionary(other.steps.map { ($0.name, $0.report) }) { first, _ in first }
        let common = base.steps.filter { others[$0.name] != nil }
        return common.compactMap { name, report in
            others[name].map {
                let comparison = Comparison(report, $0, tolerance: tolerance, of: common.count)
                return ComparisonHTML.Part(name: name, base: report, other: $0, comparison: comparison)
            }
        }
    }

    private static func name(_ path: String) -> String {
        URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
    }
}

/// A comparison for people; pure.
struct ComparisonText: Sendable {
    var style: Style
    var base: String
    var other: String

    func lines(_ comparison: Comparison) -> [String] {
        var head = "  " + Text.left("", 15) + Text.right(self.base, 22) + Text.right(self.other, 24)
        head += Text.right("change", 12)
        var lines = ["", self.style.dim(head)]
        lines += comparison.rows.map { self.row($0) }
        lines.append("")
        if let row = comparison.rows.first {
            let ratio = row.other / row.base
            lines.append("  \(self.other) is \(Text.decimal(ratio, places: 2)) × \(self.base) in \(row.name).")
        }
        if comparison.isUnsound {
            let text = "  \(self.other) lost, doubled, reordered or corrupted messages, and \(self.base) did not."
            lines.append(self.style.red(text))
        }
        if let runs = comparison.runsNeeded {
            lines.append(
                "  A verdict takes \(runs) runs of each: --runs \(runs), or compare --run 'A' --run 'B' --pairs 10."
            )
        }
        lines.append(
            comparison.differences.isEmpty
                ? "  Same broker, machine and options."
                : self.style.red("  Not the same: " + comparison.differences.joined(separator: "; "))
        )
        return lines
    }

    private func row(_ row: Comparison.Row) -> String {
        func value(_ value: Double, _ deviation: Double?) -> String {
            Text.right(row.text(value), 12)
                + Text.right(deviation.map { "± \(Text.decimal($0 * 100, places: 1)) %" } ?? "", 10)
        }
        func sign(_ value: Double) -> String {
            (value < 0 ? "−" : "+") + Text.decimal(abs(value), places: 1)
        }
        let text =
            "  " + Text.left(row.name, 15) + value(row.base, row.baseDeviation) + "  "
            + value(row.other, row.otherDeviation) + Text.right(sign(row.change) + " %", 12)
            + "  " + Text.left(row.chance.map { "chance \(Text.decimal($0, places: 3))" } ?? "", 13) + " "
            + row.verdict.rawValue
        return row.verdict == .worse ? self.style.red(text) : text
    }
}
