// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import ArgumentParser
import Foundation
import Subprocess
import SystemPackage

// EmbeddedBroker: the in-process broker of AMQP091Testing in a process of its own, so that what it costs is not counted
// as the client's. The process is this program again, with a command that is not for people; it ends when its standard
// input does, and so when this program dies in whatever way.

/// The embedded broker, seen from the process that measures.
enum EmbeddedBroker {
    /// Runs an operation with a broker in a process of its own.
    ///
    /// - Parameter body: The operation.
    /// - Returns: What the operation returns.
    /// - Throws: ``BenchFailure``, or what the operation throws.
    static func with<Result: Sendable>(_ body: (BrokerUnderTest) async throws -> Result) async throws -> Result {
        var options = PlatformOptions()
        options.createSession = true
        options.teardownSequence = [.gracefulShutDown(allowedDurationToNextStep: .seconds(2))]
        let started = ContinuousClock.now
        let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path
        let ended = try await Subprocess.run(
            .path(FilePath(program)),
            arguments: [EmbeddedBrokerProcess.name],
            platformOptions: options,
            input: .inputWriter,
            output: .sequence,
            error: .currentStandardError
        ) { execution in
            var uri: String?
            for try await line in execution.standardOutput.strings() {
                uri = line.trimmingCharacters(in: .whitespacesAndNewlines)
                break
            }
            guard let uri, !uri.isEmpty else {
                try Task.checkCancellation()
                throw BenchFailure(
                    description: "the embedded broker did not start",
                    status: ExitStatus.unavailable
                )
            }
            let process = pid_t(execution.processIdentifier.value)
            return try await body(
                BrokerUnderTest(
                    uri: uri,
                    startSeconds: (ContinuousClock.now - started) / .seconds(1),
                    usage: SessionUsage(session: process),
                    control: { command in kill(process, command == "freeze" ? SIGSTOP : SIGCONT) }
                )
            )
        }
        return ended.closureResult
    }
}

/// The process of the embedded broker.
struct EmbeddedBrokerProcess: AsyncParsableCommand {
    static let name = "embedded-broker"
    static let configuration = CommandConfiguration(commandName: Self.name, shouldDisplay: false)

    func run() async throws {
        try await InProcessBroker.withBroker { broker in
            Screen.write(Data("\(broker.uri)\n".utf8), to: STDOUT_FILENO)
            await Self.waitForEndOfInput()
        }
    }

    /// On a thread of its own, which may block.
    private static func waitForEndOfInput() async {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                var octet: UInt8 = 0
                while true {
                    let count = read(STDIN_FILENO, &octet, 1)
                    if count == 0 || count < 0 && errno != EINTR { break }
                }
                continuation.resume()
            }
        }
    }
}
