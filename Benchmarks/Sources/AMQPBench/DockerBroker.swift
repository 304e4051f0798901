// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation
import Subprocess

// DockerBroker: RabbitMQ in a container of the official image, for a version that is not installed. The port is one of
// loopback; the container is removed however the run ends. What the broker costs is not known here: its processes are
// the engine's.

/// A broker in a container.
struct DockerBroker: Sendable {
    private static let patience = Duration.seconds(120)

    let container: String
    let port: UInt16

    /// Runs an operation with a broker in a container.
    ///
    /// - Parameters:
    ///   - tag: The tag of the image `rabbitmq`.
    ///   - say: Told what is going on before something slow begins.
    ///   - body: The operation.
    /// - Returns: What the operation returns.
    /// - Throws: ``BenchFailure``, or what the operation throws.
    static func with<Result: Sendable>(
        tag: String,
        say: (String) -> Void,
        _ body: (BrokerUnderTest) async throws -> Result
    ) async throws -> Result {
        try await Self.probe()
        say("Starting a container of rabbitmq:\(tag); the engine fetches the image where it does not have it …")
        let started = ContinuousClock.now
        let port = try Self.freePort()
        let run = try await Self.docker(["run", "-d", "-p", "127.0.0.1:\(port):5672", "rabbitmq:\(tag)"])
        guard run.isSuccess, let id = run.output.split(separator: "\n").last else {
            throw BenchFailure(
                description: "docker: the container did not start: \(run.lastLine)",
                status: ExitStatus.unavailable
            )
        }
        let broker = DockerBroker(container: String(id), port: port)
        let result: Swift.Result<Result, any Error>
        do {
            try await broker.waitUntilReady()
            let seconds = (ContinuousClock.now - started) / .seconds(1)
            let control: @Sendable (String) async throws -> Void = { try await broker.control($0) }
            result = .success(
                try await body(BrokerUnderTest(uris: [broker.uri], startSeconds: seconds, control: control))
            )
        } catch {
            result = .failure(error)
        }
        // In a task of its own: it must go even when this task has been cancelled.
        await Task { _ = try? await Self.docker(["rm", "-f", "-v", broker.container]) }.value
        return try result.get()
    }

    private var uri: String { "amqp://guest:guest@127.0.0.1:\(self.port)" }

    /// Says which half of Docker is missing.
    private static func probe() async throws {
        let info: Answer
        do {
            info = try await Self.docker(["info", "--format", "{{.ServerVersion}}"])
        } catch {
            try Task.checkCancellation()
            throw BenchFailure(
                description: "docker: the client is missing: there is no program docker in PATH. Install it "
                    + "(apt-get install docker.io), or use --broker rabbitmq, which needs no container.",
                status: ExitStatus.unavailable
            )
        }
        guard info.isSuccess else {
            throw BenchFailure(
                description: "docker: the client is there, but no engine answers it (\(info.lastLine)). Start one "
                    + "(systemctl start docker) or name it in DOCKER_HOST, or use --broker rabbitmq.",
                status: ExitStatus.unavailable
            )
        }
    }

    private func waitUntilReady() async throws {
        let deadline = ContinuousClock.now + Self.patience
        while true {
            do {
                try await AMQPConnection.connect(AMQPClientConfiguration(uri: self.uri)).close()
                return
            } catch {
                try Task.checkCancellation()
                guard ContinuousClock.now < deadline else {
                    throw BenchFailure(
                        description: "docker: RabbitMQ in the container did not answer within 120 s: \(error)",
                        status: ExitStatus.unavailable
                    )
                }
                try await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    private func control(_ command: String) async throws {
        let verbs = ["freeze": "pause", "thaw": "unpause", "kill": "kill", "restart": "start"]
        let answer = try await Self.docker([verbs[command] ?? command, self.container])
        guard answer.isSuccess else {
            throw BenchFailure(description: "docker: \(answer.lastLine)", status: ExitStatus.failed)
        }
        if command == "restart" { try await self.waitUntilReady() }
    }

    // MARK: - The client

    private struct Answer {
        var isSuccess: Bool
        var output: String
        var error: String
        var lastLine: String { self.error.split(separator: "\n").last.map(String.init) ?? "no reason given" }
    }

    /// In a session of its own: Ctrl-C on the terminal reaches this process alone.
    private static func docker(_ arguments: [String]) async throws -> Answer {
        var options = PlatformOptions()
        options.createSession = true
        let result = try await Subprocess.run(
            .name("docker"),
            arguments: Arguments(arguments),
            platformOptions: options,
            output: .string(limit: 65_536),
            error: .string(limit: 65_536)
        )
        return Answer(
            isSuccess: result.terminationStatus.isSuccess,
            output: result.standardOutput,
            error: result.standardError
        )
    }

    /// A port of loopback that nobody has now.
    private static func freePort() throws -> UInt16 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
            }
        }
        guard isBound else { throw BenchFailure(description: "no free port", status: ExitStatus.unavailable) }
        return UInt16(bigEndian: address.sin_port)
    }
}
