// SPDX-License-Identifier: Apache-2.0
import Foundation
import Synchronization
import Testing

// Program: one of Snippets/ or Examples/, run as a reader would run it, with its output collected.

/// A program that runs.
final class Program: Sendable {
    private static let patience = Duration.seconds(60)

    private let process: Process
    private let output = Mutex(Data())
    private let status: AsyncStream<Int32>

    /// Starts the program, which the build has put beside the tests.
    convenience init(_ name: String, _ arguments: String...) throws { try self.init(name, arguments) }

    /// As above.
    convenience init(_ name: String, _ arguments: [String]) throws {
        let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
        try self.init(at: products.appendingPathComponent(name), arguments)
    }

    /// Starts a program that is elsewhere.
    init(at executable: URL, _ arguments: [String] = []) throws {
        let process = Process()
        process.executableURL = executable
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment
            .merging(["AMQP_URI": try #require(TestBroker.uri)]) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        let (status, ended) = AsyncStream.makeStream(of: Int32.self)
        self.status = status
        self.process = process
        process.terminationHandler = {
            ended.yield($0.terminationStatus)
            ended.finish()
        }
        pipe.fileHandleForReading.readabilityHandler = { [weak self] handle in
            let data = handle.availableData
            if data.isEmpty { handle.readabilityHandler = nil }
            self?.output.withLock { $0.append(data) }
        }
        try process.run()
    }

    /// Its output.
    var lines: [String] {
        let text = self.output.withLock { String(decoding: $0, as: UTF8.self) }
        return text.split(separator: "\n").map(String.init)
    }

    /// The tasks of a worker, as it printed them behind `Received`, quotation marks left out.
    var received: [String] {
        self.lines.filter { $0.hasPrefix(" [x] Received ") }
            .map { String($0.dropFirst(" [x] Received ".count)).replacing("'", with: "") }
    }

    /// The tasks a worker has finished.
    var done: Int { self.lines.count { $0 == " [x] Done" } }

    /// Waits for its end and for its whole output, whose last line begins so; nil does not wait for output.
    func exitStatus(lastLine: String? = " [x]") async throws -> Int32? {
        let status = await self.status.first { _ in true }
        if let lastLine { try await Self.wait { self.lines.last?.hasPrefix(lastLine) == true } }
        return status
    }

    /// Waits until it has printed a line.
    func waits(for line: String) async throws { try await Self.wait { self.lines.contains(line) } }

    /// Sends SIGTERM, as a supervisor does.
    func terminate() { if self.process.isRunning { Foundation.kill(self.process.processIdentifier, SIGTERM) } }

    /// Sends SIGKILL, as in a crash.
    func kill() { if self.process.isRunning { Foundation.kill(self.process.processIdentifier, SIGKILL) } }

    /// Waits until a condition holds.
    static func wait(until condition: () async throws -> Bool) async throws {
        let deadline = ContinuousClock.now + Self.patience
        while try await !condition() {
            try #require(ContinuousClock.now < deadline, "the condition did not come to hold in \(Self.patience)")
            try await Task.sleep(for: .milliseconds(20))
        }
    }
}
