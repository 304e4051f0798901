// SPDX-License-Identifier: Apache-2.0
import Foundation

// OtherClient: a client of another language that a broker is seen through. scripts/other-clients has what it takes, and
// Tests/OtherClients the checks; here they are only run. Asked for by AMQP091_TEST_OTHER_CLIENTS, because they need more
// than this package: a JDK, Go, pika.

/// A client of another language.
package enum OtherClient: String, CaseIterable, Sendable {
    case pika, java, go

    /// The clients named in the environment, or "all".
    package static var asked: [OtherClient] {
        let names = ProcessInfo.processInfo.environment["AMQP091_TEST_OTHER_CLIENTS"] ?? ""
        if names == "all" { return self.allCases }
        return names.split(separator: ",").compactMap { OtherClient(rawValue: String($0)) }
    }

    /// Runs its checks against a broker, on a separate thread, and returns their output.
    ///
    /// - Returns: The exit status, 0 when all passed and 77 when the client is not installed; and the output.
    package func run(host: String, port: UInt16) async throws -> (status: Int32, output: String) {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(with: Result { try self.wait(host: host, port: port) })
            }
        }
    }

    private func wait(host: String, port: UInt16) throws -> (status: Int32, output: String) {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let process = Process()
        process.executableURL = root.appendingPathComponent("scripts/other-clients")
        process.arguments = [host, "\(port)", self.rawValue]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }
}
