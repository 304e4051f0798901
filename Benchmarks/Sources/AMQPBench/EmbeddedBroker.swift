// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import ArgumentParser
import Foundation
import Subprocess
import Synchronization
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
        let started = ContinuousClock.now
        let process = EmbeddedProcess()
        let uri = try await process.start(port: 0)
        let broker = BrokerUnderTest(
            uris: [uri],
            startSeconds: (ContinuousClock.now - started) / .seconds(1),
            usage: BrokerUsage { process.pid.map { BrokerCPU(session: $0) } },
            control: { try await process.control($0) }
        )
        let result: Swift.Result<Result, any Error>
        do {
            result = .success(try await body(broker))
        } catch {
            result = .failure(error)
        }
        await process.stop()
        return try result.get()
    }
}

/// The process that is the broker, and the next one after it was killed.
private final class EmbeddedProcess: Sendable {
    private struct State {
        var pid: Int32?
        var port: UInt16 = 0
        var task: Task<Void, any Error>?
        var ending: AsyncStream<Never>.Continuation?
    }

    private let state = Mutex(State())

    var pid: Int32? { self.state.withLock { $0.pid } }

    /// Starts it.
    ///
    /// - Parameter port: Where it listens; 0 for a free port.
    /// - Returns: Its URI.
    /// - Throws: ``BenchFailure``.
    func start(port: UInt16) async throws -> String {
        let (uris, said) = AsyncStream<String>.makeStream()
        let (ending, continuation) = AsyncStream<Never>.makeStream()
        // In a task of its own: the process outlives the call.
        let task = Task { try await self.run(port: port, said: said, until: ending) }
        self.state.withLock { ($0.task, $0.ending) = (task, continuation) }
        var iterator = uris.makeAsyncIterator()
        guard let uri = await iterator.next(), !uri.isEmpty else {
            continuation.finish()
            try Task.checkCancellation()
            throw BenchFailure(description: "the embedded broker did not start", status: ExitStatus.unavailable)
        }
        let port = (try? AMQPClientConfiguration(uri: uri))?.addresses.first?.port
        self.state.withLock { $0.port = port ?? 0 }
        return uri
    }

    private func run(
        port: UInt16,
        said: AsyncStream<String>.Continuation,
        until ending: AsyncStream<Never>
    ) async throws {
        defer { said.finish() }
        var options = PlatformOptions()
        options.createSession = true
        options.teardownSequence = [.gracefulShutDown(allowedDurationToNextStep: .seconds(2))]
        let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path
        _ = try await Subprocess.run(
            .path(FilePath(program)),
            arguments: [EmbeddedBrokerProcess.name, "--port", String(port)],
            platformOptions: options,
            input: .inputWriter,
            output: .sequence,
            error: .currentStandardError
        ) { execution in
            let pid = Int32(execution.processIdentifier.value)
            self.state.withLock { $0.pid = pid }
            for try await line in execution.standardOutput.strings() {
                said.yield(line.trimmingCharacters(in: .whitespacesAndNewlines))
                break
            }
            said.finish()
            for await _ in ending {}
        }
        self.state.withLock { $0.pid = nil }
    }

    func control(_ command: String) async throws {
        let (pid, port) = self.state.withLock { ($0.pid, $0.port) }
        switch command {
        case "freeze": if let pid { kill(pid, SIGSTOP) }
        case "thaw": if let pid { kill(pid, SIGCONT) }
        case "kill":
            if let pid { kill(pid, SIGKILL) }
            await self.stop()
        default: _ = try await self.start(port: port)
        }
    }

    /// Ends it by ending its input, and waits for that.
    func stop() async {
        let (task, ending) = self.state.withLock { ($0.task, $0.ending) }
        ending?.finish()
        // How it ended is of no interest any more.
        _ = try? await task?.value
    }
}

/// The process of the embedded broker.
struct EmbeddedBrokerProcess: AsyncParsableCommand {
    static let name = "embedded-broker"
    static let configuration = CommandConfiguration(commandName: Self.name, shouldDisplay: false)

    @Option(help: "The port; 0 for a free one.") var port: UInt16 = 0

    func run() async throws {
        var options = InProcessBroker.Options()
        options.endpoints = [.loopback(port: self.port)]
        try await InProcessBroker.withBroker(options) { broker in
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
