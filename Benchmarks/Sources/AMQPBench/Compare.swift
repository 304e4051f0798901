// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// Compare: the command that says whether one result differs from another, and exits with 3 when it is worse.

/// Compare two results.
struct Compare: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compare two results written with --json; exit 3 on a regression."
    )

    @Argument(help: "The result to compare with.") var base: String
    @Argument(help: "The result that is compared.") var other: String
    @Option(help: "Changes up to this many percent are no difference.") var tolerance = 2.0
    @Flag(help: "Compare although brokers, machines or options differ.") var force = false
    @Option(help: "Colour the text: auto, always or never. NO_COLOR is honoured.") var color = ColorChoice.auto

    func validate() throws {
        guard 0...100 ~= self.tolerance else { throw ValidationError("--tolerance takes 0 to 100 percent.") }
    }

    func run() throws {
        let screen = Screen(usesStandardError: false, color: self.color)
        let comparison = Comparison(
            try ResultFile.read(self.base),
            try ResultFile.read(self.other),
            tolerance: self.tolerance
        )
        let text = ComparisonText(style: screen.style, base: Self.name(self.base), other: Self.name(self.other))
        if !comparison.differences.isEmpty, !self.force {
            throw ValidationError(
                "These results cannot be compared; --force does it all the same.\n"
                    + comparison.differences.map { "  \($0)" }.joined(separator: "\n")
            )
        }
        guard !comparison.rows.isEmpty else {
            throw ValidationError("At least three intervals or runs are needed on both sides; measure for longer.")
        }
        screen.show(text.lines(comparison))
        guard !comparison.isRegression else { throw ExitCode(ExitStatus.thresholdFailed) }
    }

    private static func name(_ path: String) -> String {
        URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
    }
}

/// A result in a file.
enum ResultFile {
    /// Reads a result of `both`, `publish` or `consume`.
    ///
    /// - Parameter path: The file.
    /// - Returns: The result.
    /// - Throws: `ValidationError` that says what the file is not.
    static func read(_ path: String) throws -> Report {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ValidationError("\(path) cannot be read.")
        }
        do {
            return try JSONDecoder().decode(Report.self, from: data)
        } catch {
            if let latency = try? JSONDecoder().decode(LatencyReport.self, from: data) {
                throw ValidationError(
                    "\(path) is a result of latency, with \(latency.steps.count) runs; "
                        + "compare and report take one of both, publish or consume."
                )
            }
            throw ValidationError("\(path) is not a result of amqp-bench (schema 1).")
        }
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
            let margin = (row.range.upperBound - row.range.lowerBound) / 200
            lines.append(
                "  \(self.other) is \(Text.decimal(ratio, places: 2)) ± \(Text.decimal(margin, places: 2))"
                    + " × \(self.base) in \(row.name)."
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
            + "  " + Text.left("[\(sign(row.range.lowerBound)), \(sign(row.range.upperBound))]", 17)
            + row.verdict.rawValue
        return row.verdict == .worse ? self.style.red(text) : text
    }
}
