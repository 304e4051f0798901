// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation
import Testing

// FaultStage: the brokers of the fault suite, controlled by scripts/broker and scripts/cluster, and what the suite takes
// from its environment. What is done to them, and must come of it, is in the tests.

enum FaultStage {
    /// The directory of the scripts; nil in an ordinary run of the tests.
    static let scripts = ProcessInfo.processInfo.environment["AMQP091_FAULT_SCRIPTS"]
    static let isMissing = Comment(
        rawValue: "AMQP091_FAULT_SCRIPTS is not set: the faults take long, and scripts/test --faults injects them"
    )
    /// How long the nodes of a cluster are killed, frozen and restarted, seconds.
    static let seconds = ProcessInfo.processInfo.environment["AMQP091_FAULT_SECONDS"].flatMap(Double.init) ?? 300

    /// A directory of its own for the brokers of one test.
    static func directory(_ name: String) -> String {
        "\(NSTemporaryDirectory())amqp091-fault-\(name)-\(UInt32.random(in: .min ... .max))"
    }

    /// Runs a script; returns what it printed.
    ///
    /// Not through Process: it would wait for the broker too, which the script leaves behind.
    static func run(_ script: String, _ variable: String, _ directory: String, _ arguments: String) async throws
        -> String
    {
        let scripts = try #require(Self.scripts)
        let output = "\(directory).out\(UInt32.random(in: .min ... .max))"
        // A node that does not find back is not waited for as long as a person would.
        let line =
            "AMQP091_CLUSTER_TIMEOUT=30 \(variable)=\(directory) '\(scripts)/\(script)' \(arguments) </dev/null >\(output) 2>\(output).err"
        let status = await withCheckedContinuation { (done: CheckedContinuation<Int32, Never>) in
            DispatchQueue.global().async { done.resume(returning: system(line)) }
        }
        func text(_ path: String) -> String {
            let text = (try? String(contentsOf: URL(fileURLWithPath: path), encoding: .utf8)) ?? ""
            try? FileManager.default.removeItem(atPath: path)
            return text.trimmingCharacters(in: .whitespacesAndNewlines)
        }
        let (printed, errors) = (text(output), text("\(output).err"))
        guard status == 0 else { throw ScriptFailed(text: "\(script) \(arguments) ended with \(status): \(errors)") }
        return printed
    }

    /// A script said no.
    struct ScriptFailed: Error, CustomStringConvertible {
        var text: String
        var description: String { self.text }
    }

    /// A line of the report.
    static func report(_ text: String) {
        print("fault: \(text)")
        fflush(nil)
    }

    /// Options that suit a broker that comes and goes.
    static func configuration(_ uris: [String]) throws -> AMQPClientConfiguration {
        var configuration = try AMQPClientConfiguration(uri: try #require(uris.first))
        configuration.addresses = try uris.flatMap { try AMQPClientConfiguration(uri: $0).addresses }
        configuration.heartbeat = .seconds(5)
        configuration.operationTimeout = .seconds(5)
        configuration.connectTimeout = .seconds(5)
        configuration.recovery.initialDelay = .milliseconds(50)
        configuration.recovery.maximumDelay = .seconds(1)
        configuration.recovery.attemptDelay = .milliseconds(500)
        configuration.recovery.confirmTimeout = .seconds(3)
        return configuration
    }
}

/// Several nodes.
struct Cluster: Sendable {
    let directory: String

    /// Runs `body` with a cluster of three nodes, and stops it.
    static func withCluster(_ name: String, _ body: (Cluster, AMQPClientConfiguration) async throws -> Void)
        async throws
    {
        let cluster = Cluster(directory: FaultStage.directory(name))
        do {
            let uris = try await cluster("start 3").split(separator: "\n").map(String.init)
            try await body(cluster, FaultStage.configuration(uris))
        } catch {
            _ = try? await cluster("stop")
            throw error
        }
        _ = try await cluster("stop")
    }

    @discardableResult
    func callAsFunction(_ arguments: String) async throws -> String {
        try await FaultStage.run("cluster", "AMQP091_CLUSTER_DIR", self.directory, arguments)
    }

    /// The node that leads a quorum queue, asked of `node`.
    func leader(of queue: String, asking node: String) async throws -> String {
        let lines = try await self("ctl \(node) --quiet list_queues name leader").split(separator: "\n")
        let line = try #require(lines.first { $0.hasPrefix("\(queue)\t") }, "\(lines)")
        return String(line.dropFirst(queue.count + 1).prefix { $0 != "@" })
    }
}

/// One node.
struct Node: Sendable {
    let directory: String

    /// Runs `body` with a node, and stops it.
    static func withNode(
        _ name: String,
        _ body: (Node, AMQPClientConfiguration) async throws -> Void
    ) async throws {
        let node = Node(directory: FaultStage.directory(name))
        do {
            let uri = try await node("start")
            try await body(node, FaultStage.configuration([uri]))
        } catch {
            _ = try? await node("stop")
            throw error
        }
        _ = try await node("stop")
    }

    @discardableResult
    func callAsFunction(_ arguments: String) async throws -> String {
        try await FaultStage.run("broker", "AMQP091_BROKER_DIR", self.directory, arguments)
    }
}
