// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Glibc
import Testing

@testable import AMQPBench

// ToolTests: the program as a process: what becomes of it, its broker and its files when an output is closed, a disk is
// full or a signal comes; and every example of its help and of the documentation, run.

@Suite("The program", .serialized, .timeLimit(.minutes(5)))
struct ToolTests {
    @Test("A closed output ends the run as Ctrl-C does: the broker is stopped, the result written, the status 141")
    func closedOutput() async throws {
        try await Tool.withDirectory { directory in
            let result = try await Tool.bash(
                "$TOOL --time 60s --warmup 0s --interval 200ms -r 100 --json r.json | head -3; exit ${PIPESTATUS[0]}",
                in: directory
            )
            #expect(result.status == 141)
            #expect(result.seconds < 40)
            guard case .run(let report) = try StoredResult.read(directory + "/r.json") else {
                Issue.record("no result")
                return
            }
            #expect(report.ended == .interrupted && report.wholeRun.published > 0)
        }
    }

    @Test("A disk that is full leaves the older result as it was, and the status says that the run failed")
    func fullDisk() async throws {
        try await Tool.withDirectory { directory in
            try Data("older".utf8).write(to: URL(fileURLWithPath: directory + "/r.json"))
            // No file may be larger than 2 KiB, and a write beyond that fails.
            let result = try await Tool.bash(
                "trap '' XFSZ; ulimit -f 2; $TOOL --time 300ms --warmup 0s -r 500 --quiet --json r.json | cat",
                in: directory
            )
            #expect(result.output.contains("r.json cannot be written"), "\(result.output)")
            #expect(try String(contentsOfFile: directory + "/r.json", encoding: .utf8) == "older")
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: directory).filter { !$0.hasPrefix("output") } == [
                    "r.json"
                ]
            )
        }
    }

    @Test("The result is written before its other forms, whose failure is said")
    func resultFirst() async throws {
        try await Tool.withDirectory { directory in
            for command in ["both -r 500", "latency -r 500", "sweep --over size=64"] {
                let result = try await Tool.bash(
                    "$TOOL \(command) --time 300ms --warmup 0s --quiet --json r.json --html /dev/full",
                    in: directory
                )
                #expect(result.status == 1, "\(result.output)")
                #expect(result.output.contains("/dev/full cannot be written"))
                #expect(try StoredResult.read(directory + "/r.json").steps.count == 1)
                try FileManager.default.removeItem(atPath: directory + "/r.json")
            }
        }
    }

    @Test(
        "A name of --predeclared that is not there is said, before anything is published",
        arguments: ["queue", "exchange"]
    )
    func predeclaredTypo(_ what: String) async throws {
        try await Tool.withDirectory { directory in
            let result = try await Tool.bash(
                "$TOOL publish --predeclared --\(what) typo --time 300ms --warmup 0s --json r.json",
                in: directory
            )
            #expect(result.status == 1)
            #expect(
                result.output.contains("there is no \(what) typo, and --predeclared makes none"),
                "\(result.output)"
            )
            #expect(!FileManager.default.fileExists(atPath: directory + "/r.json"))
        }
    }

    @Test("Every line fits the terminal, and all is there on a pipe", arguments: [80, 40])
    func terminal(_ width: Int) async throws {
        try await Tool.withDirectory { directory in
            let options = "--time 1s --warmup 500ms --interval 500ms -r 500 --color always"
            for command in ["both", "latency", "rpc", "sweep --over size=64,1k"] {
                let text = "script -qec \"stty cols \(width); $TOOL \(command) \(options)\" /dev/null"
                let result = try await Tool.bash(
                    text,
                    in: directory,
                    environment: ["TERM": "xterm", "SHELL": "/bin/bash"]
                )
                #expect(result.status == 0, "\(result.output)")
                // What is drawn over is separated by a carriage return.
                let lines = result.output.split(whereSeparator: { $0 == "\n" || $0 == "\r" || $0 == "\r\n" }).map(
                    String.init
                )
                #expect(lines.count > 8)
                for line in lines {
                    let seen = line.replacing("\u{1B}[K", with: "")
                    #expect(Text.visibleCount(seen) <= width, "\(command): \(seen)")
                }
            }
            let piped = try await Tool.bash("$TOOL \(options) | cat", in: directory)
            #expect(piped.output.contains("confirm p50 / p99"))
        }
    }

    @Test("Ctrl-C ends the wait for what has not arrived")
    func interruptedDrain() async throws {
        try await Tool.withDirectory { directory in
            let command = "exec $TOOL -r 400 --time 1s --warmup 0s --consumer-work 100ms --drain 60s --quiet"
            let result = try await Tool.bash(command, in: directory) { pid, output in
                let deadline = ContinuousClock.now + .seconds(30)
                while !output().contains("waiting for"), ContinuousClock.now < deadline {
                    try await Task.sleep(for: .milliseconds(20))
                }
                kill(pid, SIGINT)
            }
            #expect(result.output.contains("--drain"))
            #expect(result.status == 130)
            #expect(result.seconds < 40)
            #expect(result.output.contains("lost 0"))
        }
    }

    // MARK: - Examples

    /// The examples of the help of every command, and those of the documentation.
    static var examples: [String] {
        var found: [String] = []
        let helps =
            [AMQPBench.helpMessage(columns: 400)]
            + AMQPBench.configuration.subcommands.map { AMQPBench.helpMessage(for: $0, columns: 400) }
        for line in helps.joined(separator: "\n").split(separator: "\n") {
            let text = line.trimmingCharacters(in: .whitespaces)
            // The purpose of an example follows two blanks.
            if text == "amqp-bench" || text.hasPrefix("amqp-bench ") {
                found.append(text.components(separatedBy: "  ")[0])
            }
        }
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../../..").standardizedFileURL.path
        for file in ["docs/benchmarking.md", "README.md"] {
            let text = (try? String(contentsOfFile: "\(root)/\(file)", encoding: .utf8)) ?? ""
            var isCode = false
            for line in text.split(separator: "\n") {
                if line.hasPrefix("```") { isCode.toggle() }
                if isCode, line.hasPrefix("./amqp-bench") {
                    found.append(line.components(separatedBy: " #")[0])
                } else if !isCode {
                    for span in line.split(separator: "`", omittingEmptySubsequences: false).enumerated()
                    where span.offset % 2 == 1
                        && ["amqp-bench ", "./amqp-bench "].contains(where: span.element.hasPrefix)
                    {
                        found.append(String(span.element))
                    }
                }
            }
        }
        let trimmed = found.map { $0.trimmingCharacters(in: .whitespaces) }
        return Set(trimmed.map { $0.hasPrefix("./") ? String($0.dropFirst(2)) : $0 })
            .filter { example in !["COMMAND", "OTHER", "…", "<"].contains { example.contains($0) } }.sorted()
    }

    /// An example that takes a second: times and repetitions are short, and the broker is the embedded one.
    static func shortened(_ example: String) -> String {
        var text = example
        let rules: [(String, String)] = [
            (#"(\.\.?/[a-z/]*)?amqp-bench"#, "$TOOL"), (#"--time [0-9a-z]+"#, "--time 300ms"),
            (#"@[0-9]+s"#, "@100ms"), (#"pause:[0-9]+s"#, "pause:200ms"), (#" --broker (rabbitmq|docker)[^ ]*"#, ""),
            (#"--uri [^ ]+( --id big --instances 3)?"#, "--explain"), (#"--pairs [0-9]+"#, "--pairs 2"),
            (#"--runs [0-9]+"#, "--runs 2"), (#":10s"#, ":300ms"),
        ]
        for (pattern, replacement) in rules {
            text = text.replacingOccurrences(
                of: pattern,
                with: NSRegularExpression.escapedTemplate(for: replacement),
                options: .regularExpression
            )
        }
        // The program of a quoted command is found by its path.
        return text.replacing("'$TOOL", with: "\"$TOOL\"'")
    }

    @Test("Every example of the help and of the documentation runs")
    func examplesRun() async throws {
        let examples = Self.examples
        #expect(examples.count > 20, "\(examples)")
        try await Tool.withDirectory { directory in
            let environment = ["AMQP_BENCH_TIME": "300ms", "AMQP_BENCH_WARMUP": "100ms", "AMQP_BENCH_PAIRS": "2"]
            for name in ["main", "branch", "result", "out"] {
                _ = try await Tool.bash("$TOOL --json \(name).json --quiet", in: directory, environment: environment)
            }
            await withTaskGroup(of: Void.self) { group in
                for (index, example) in examples.enumerated() {
                    // A few at a time.
                    if index >= 3 { await group.next() }
                    group.addTask {
                        let command = Self.shortened(example)
                        let isCompared = example.contains(".json branch") || example.contains("main.json")
                        let result = try? await Tool.bash(
                            command + (isCompared ? " --force" : ""),
                            in: directory,
                            environment: environment
                        )
                        // 3: a condition held; 4: the embedded broker keeps nothing when it is killed.
                        // 1 of doctor: it found something about this machine.
                        let expected: [Int32] =
                            example.contains("kill@") ? [0, 4] : example.hasSuffix("doctor") ? [0, 1] : [0, 3]
                        if !expected.contains(result?.status ?? -1) {
                            Issue.record(
                                "\(example), run as \(command): \(result.map { "\($0.status) \($0.output.suffix(600))" } ?? "nothing")"
                            )
                        }
                    }
                }
            }
        }
    }
}
