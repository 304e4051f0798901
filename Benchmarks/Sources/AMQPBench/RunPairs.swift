// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Subprocess
import SystemPackage

// RunPairs: two commands measured in turn, A B B A A B …, so that a drift of the machine falls on both alike. Each run is a
// process of its own: this program, or another one whose path the command begins with, as of another build.

/// Pairs of runs of two commands.
struct RunPairs: Sendable {
    /// The arguments of one run, or its program and arguments.
    let commands: [[String]]
    let pairs: Int

    /// Reads two commands.
    ///
    /// - Throws: `ValidationError`.
    init(_ texts: [String], pairs: Int) throws {
        guard texts.count == 2 else { throw ValidationError("--run is given twice, for the two commands to compare.") }
        guard 2...60 ~= pairs else { throw ValidationError("--pairs takes 2 to 60.") }
        self.commands = try texts.map { text in
            guard let words = Self.words(text) else { throw ValidationError("--run '\(text)': a quote is not closed.") }
            for word in words where word == "--json" || word.hasPrefix("--json=") {
                throw ValidationError("--run must not contain --json: the result is read here.")
            }
            return words
        }
        self.pairs = pairs
    }

    /// Which of the commands is run, run by run.
    var order: [Int] { (0..<self.pairs).flatMap { $0 % 2 == 0 ? [0, 1] : [1, 0] } }

    /// Splits a command at blanks outside of quotes; nil when a quote is not closed.
    static func words(_ text: String) -> [String]? {
        var words: [String] = []
        var word: String?
        var quote: Character?
        for character in text {
            if let open = quote {
                if character == open { quote = nil } else { word = (word ?? "") + String(character) }
            } else if character == "'" || character == "\"" {
                quote = character
                word = word ?? ""
            } else if character.isWhitespace {
                if let done = word { words.append(done) }
                word = nil
            } else {
                word = (word ?? "") + String(character)
            }
        }
        guard quote == nil else { return nil }
        if let word { words.append(word) }
        return words
    }

    /// Measures all pairs.
    ///
    /// - Parameter say: Told of each run that ended.
    /// - Returns: Both results of each rate or step that both commands have, with its name and the figures of its runs.
    /// - Throws: ``BenchFailure`` when a run failed.
    func measure(say: (String) -> Void) async throws -> [(name: String, base: Report, other: Report)] {
        var results: [[StoredResult]] = [[], []]
        for (number, side) in self.order.enumerated() {
            let result = try await Self.run(self.commands[side])
            results[side].append(result)
            let rates = result.steps.map { Text.rate($0.report.mainRate) }.joined(separator: ", ")
            say("run \(number + 1) of \(self.pairs * 2): \(side == 0 ? "A" : "B")  \(rates)")
        }
        let merged = Self.merged(results[0], results[1])
        guard !merged.isEmpty else {
            throw BenchFailure(
                description: "these commands have no run in common: rates or values differ",
                status: ExitStatus.failed
            )
        }
        return merged
    }

    /// The runs of each rate or step that all results have.
    static func merged(
        _ base: [StoredResult],
        _ other: [StoredResult]
    ) -> [(name: String, base: Report, other: Report)] {
        func runs(_ results: [StoredResult], _ name: String) -> Report? {
            let reports = results.compactMap { result in result.steps.first { $0.name == name }?.report }
            return reports.count == results.count ? Report.median(of: reports) : nil
        }
        return (base.first?.steps.map(\.name) ?? []).compactMap { name in
            guard let one = runs(base, name), let two = runs(other, name) else { return nil }
            return (name, one, two)
        }
    }

    private static func run(_ words: [String]) async throws -> StoredResult {
        let file = FileManager.default.temporaryDirectory
            .appendingPathComponent("amqp-bench-\(getpid())-\(UInt32.random(in: 0...UInt32.max)).json").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        let isProgram = words.first?.contains("/") == true
        let own = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path
        let program = isProgram ? words[0] : own
        let result = try await Subprocess.run(
            .path(FilePath(program)),
            arguments: Arguments(Array(words.dropFirst(isProgram ? 1 : 0)) + ["--quiet", "--json", file]),
            output: .discarded,
            error: .currentStandardError
        )
        guard FileManager.default.fileExists(atPath: file), case let stored = try StoredResult.read(file),
            !stored.steps.isEmpty, stored.steps.allSatisfy({ $0.report.ended == .completed })
        else {
            throw BenchFailure(
                description: "a run of '\(words.joined(separator: " "))' failed (\(result.terminationStatus))",
                status: ExitStatus.failed
            )
        }
        return stored
    }
}
