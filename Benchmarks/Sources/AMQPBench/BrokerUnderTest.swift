// SPDX-License-Identifier: Apache-2.0
import Foundation
import Subprocess
import SystemPackage

// BrokerUnderTest: the broker of a run: one somebody else runs, or a private RabbitMQ that is started here through
// scripts/broker in a directory of its own and stopped, with everything it started, however the run ends.

/// The broker of a run.
struct BrokerUnderTest: Sendable {
    /// Where it listens, with the credentials; several for the nodes of a cluster.
    var uris: [String]
    /// How long the start took; nil for one that ran already.
    var startSeconds: Double?
    /// What it has used, when it was started here.
    var usage: BrokerUsage?
    /// Tells a broker that was started here to `freeze`, `thaw`, `kill` or `restart`.
    var control: (@Sendable (String) async throws -> Void)?

    /// Runs an operation with a broker.
    ///
    /// - Parameters:
    ///   - uris: A broker that runs; none to start one.
    ///   - choice: Which to start.
    ///   - interruption: Tells whether the private one must go at once.
    ///   - say: Told what is going on before something slow begins.
    ///   - body: The operation.
    /// - Returns: What the operation returns.
    /// - Throws: ``BenchFailure``, or what the operation throws.
    static func with<Result: Sendable>(
        uris: [String],
        choice: BrokerChoice,
        interruption: Interruption,
        say: (String) -> Void,
        _ body: (BrokerUnderTest) async throws -> Result
    ) async throws -> Result {
        guard uris.isEmpty else { return try await body(BrokerUnderTest(uris: uris)) }
        switch choice {
        case .embedded: return try await EmbeddedBroker.with(body)
        case .docker(let tag): return try await DockerBroker.with(tag: tag, say: say, body)
        case .rabbitmq(let release):
            return try await Self.withNode(of: release, interruption: interruption, say: say, body)
        }
    }

    /// Runs an operation with a private RabbitMQ.
    private static func withNode<Result: Sendable>(
        of release: String?,
        interruption: Interruption,
        say: (String) -> Void,
        _ body: (BrokerUnderTest) async throws -> Result
    ) async throws -> Result {
        let node = try PrivateNode()
        let result: Swift.Result<Result, any Error>
        do {
            let name = release.map { "RabbitMQ \($0)" } ?? "RabbitMQ"
            say("Starting a private \(name); where it is missing it is installed first …")
            let started = ContinuousClock.now
            let uri = try await node.start(release: release)
            let startSeconds = (ContinuousClock.now - started) / .seconds(1)
            if release == nil, let hint = ReleaseAge.hint(forVersion: await node.version) { say(hint) }
            let broker = BrokerUnderTest(
                uris: [uri],
                startSeconds: startSeconds,
                usage: node.usage,
                control: { try await node.control($0) }
            )
            result = .success(try await body(broker))
        } catch {
            result = .failure(error)
        }
        // In a task of its own: it must be stopped even when this task has been cancelled.
        await Task { await node.stop(atOnce: interruption.isUrgent) }.value
        return try result.get()
    }
}

/// A RabbitMQ node of this run, in a new directory under the temporary one.
private struct PrivateNode: Sendable {
    private let script: String
    private let directory: String

    /// Finds scripts/broker: named by the environment, or in the checkout this was built from.
    init() throws(BenchFailure) {
        let checkout = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../../../scripts/broker").standardizedFileURL.path
        let script = ProcessInfo.processInfo.environment["AMQP_BENCH_BROKER_SCRIPT"] ?? checkout
        guard FileManager.default.isExecutableFile(atPath: script) else {
            throw BenchFailure(
                description: "\(script), which starts the broker, is not there; run ./amqp-bench, or give --uri",
                status: ExitStatus.unavailable
            )
        }
        self.script = script
        self.directory =
            FileManager.default.temporaryDirectory
            .appendingPathComponent("amqp-bench-\(getpid())-\(UInt32.random(in: 0...UInt32.max))").path
    }

    /// Starts it, of a release of scripts/rabbitmq or as it is installed.
    func start(release: String?) async throws -> String {
        let result = try await self.run("start", release.map { ["--release", $0] } ?? [])
        let uri = (result.output ?? "").trimmingCharacters(in: .whitespacesAndNewlines)
        guard result.isSuccess, !uri.isEmpty else {
            try Task.checkCancellation()
            throw BenchFailure(
                description: "the private RabbitMQ did not start; the lines above say why. "
                    + "To measure a broker that runs already: --uri amqp://user:password@host",
                status: ExitStatus.unavailable
            )
        }
        return uri
    }

    /// The version of its programs; empty when the script cannot tell.
    var version: String {
        get async {
            let result = try? await self.run("version")
            return (result?.output ?? "").trimmingCharacters(in: .whitespacesAndNewlines)
        }
    }

    func control(_ command: String) async throws {
        guard try await self.run(command).isSuccess else {
            throw BenchFailure(description: "scripts/broker \(command) failed", status: ExitStatus.failed)
        }
    }

    func stop(atOnce: Bool) async {
        guard FileManager.default.fileExists(atPath: self.directory) else { return }
        if atOnce { _ = try? await self.run("kill") }
        let result = try? await self.run("stop")
        if result?.isSuccess != true {
            FileHandle.standardError.write(
                Data("amqp-bench: the broker in \(self.directory) could not be stopped\n".utf8)
            )
        }
        try? FileManager.default.removeItem(atPath: self.directory)
    }

    /// What the node's processes have used; their session changes when the node is started again.
    var usage: BrokerUsage {
        BrokerUsage { [directory = self.directory] in
            let pid = try? String(contentsOfFile: directory + "/node.pid", encoding: .utf8)
            let session = pid?.split(separator: " ").first.flatMap { Int32($0) }
            return session.map { BrokerCPU(session: $0) }
        }
    }

    /// Runs a command of the script in a session of its own: Ctrl-C on the terminal reaches this process alone.
    private func run(_ command: String, _ more: [String] = []) async throws -> (isSuccess: Bool, output: String?) {
        var options = PlatformOptions()
        options.createSession = true
        options.teardownSequence = [.gracefulShutDown(allowedDurationToNextStep: .seconds(20))]
        let result = try await Subprocess.run(
            .path(FilePath(self.script)),
            arguments: Arguments([command] + more),
            environment: .inherit.updating(["AMQP091_BROKER_DIR": self.directory]),
            platformOptions: options,
            output: .string(limit: 4096),
            error: .currentStandardError
        )
        return (result.terminationStatus.isSuccess, result.standardOutput)
    }
}
