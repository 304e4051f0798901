// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation
import Glibc
import Synchronization

@testable import AMQPBench

// Tool: the built amqp-bench as a process of its own, for what only a process shows: exit codes, signals, closed outputs.

/// The program under test.
enum Tool {
    /// Where the build has put it: beside the program of the tests.
    static let path: String = {
        let own = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        let places = [own, URL(fileURLWithPath: CommandLine.arguments[0])]
        let found = places.map { $0.deletingLastPathComponent().appendingPathComponent("amqp-bench").path }
        return found.first { FileManager.default.isExecutableFile(atPath: $0) } ?? "amqp-bench"
    }()

    struct Result: Sendable {
        var status: Int32
        var output: String
        var seconds: Double
    }

    /// Makes a directory for a test and removes it.
    static func withDirectory<Value>(_ body: (String) async throws -> Value) async throws -> Value {
        let directory = FileManager.default.temporaryDirectory
            .appendingPathComponent("amqp-bench-test-\(UInt64.random(in: 0 ... .max))").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        return try await body(directory)
    }

    /// Runs a command of bash in which `$TOOL` is the program.
    ///
    /// - Parameters:
    ///   - command: The command.
    ///   - directory: Where it runs.
    ///   - environment: More of it.
    ///   - meanwhile: Gets the process id of bash, and what the process has written so far.
    /// - Returns: How it ended.
    /// - Throws: What starting it throws.
    static func bash(
        _ command: String,
        in directory: String,
        environment: [String: String] = [:],
        meanwhile: @Sendable (Int32, @Sendable () -> String) async throws -> Void = { _, _ in }
    ) async throws -> Result {
        let output = directory + "/output-\(UInt64.random(in: 0 ... .max))"
        _ = FileManager.default.createFile(atPath: output, contents: nil)
        let read = { @Sendable in (try? String(contentsOfFile: output, encoding: .utf8)) ?? "" }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = ["-c", command]
        process.currentDirectoryURL = URL(fileURLWithPath: directory)
        process.environment = ProcessInfo.processInfo.environment
            .merging(["TOOL": Self.path, "AMQP_BENCH_ALLOW_DEBUG": "1", "NO_COLOR": "1"]) { $1 }
            .merging(environment) { $1 }
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: output))
        (process.standardInput, process.standardOutput, process.standardError) = (FileHandle.nullDevice, handle, handle)
        let start = ContinuousClock.now
        let (ends, continuation) = AsyncStream<Int32>.makeStream()
        process.terminationHandler = { process in
            continuation.yield(
                process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
            )
            continuation.finish()
        }
        try process.run()
        try await meanwhile(process.processIdentifier, read)
        var status: Int32 = -1
        for await end in ends { status = end }
        return Result(status: status, output: read(), seconds: (ContinuousClock.now - start) / .seconds(1))
    }

    /// Runs an operation with an embedded broker in a process of its own, which takes no time from the threads here.
    ///
    /// - Parameter body: Gets the port.
    /// - Returns: What the operation returns.
    /// - Throws: What starting it or the operation throws.
    static func withBroker<Value>(_ body: (UInt16) async throws -> Value) async throws -> Value {
        let (process, input, output) = (Process(), Pipe(), Pipe())
        process.executableURL = URL(fileURLWithPath: Self.path)
        process.arguments = [EmbeddedBrokerProcess.name]
        (process.standardInput, process.standardOutput) = (input, output)
        try process.run()
        defer {
            try? input.fileHandleForWriting.close()
            process.waitUntilExit()
        }
        var line = ""
        while !line.contains("\n"), case let data = output.fileHandleForReading.availableData, !data.isEmpty {
            line += String(decoding: data, as: UTF8.self)
        }
        let uri = line.trimmingCharacters(in: .whitespacesAndNewlines)
        guard let port = try AMQPClientConfiguration(uri: uri).addresses.first?.port else {
            throw CocoaError(.fileReadUnknown)
        }
        return try await body(port)
    }
}
