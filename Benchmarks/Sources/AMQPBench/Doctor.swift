// SPDX-License-Identifier: Apache-2.0
import AMQP091
import ArgumentParser
import Foundation
import Histogram

// Doctor: the command `doctor`, which looks for what about this machine, and about a broker, would spoil a run.

/// Look for what would spoil a run.
struct Doctor: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say what about this machine or a broker would spoil a run; exit 1 if there is something."
    )

    @Option(name: .letter("H"), help: "Look at this broker too.") var uri: String?

    func run() async throws {
        let machine = MachineFacts.here
        print("\(machine.model), \(machine.cores) cores, kernel \(machine.kernel)")
        var findings = Self.findings()
        if let uri { findings += try await Self.examine(uri) }
        for finding in findings { print("  ! \(finding)") }
        guard findings.isEmpty else { throw ExitCode(ExitStatus.failed) }
        print("  nothing found that would spoil a run")
    }

    private static func findings() -> [String] {
        var findings = Warnings.machine()
        if BuildFacts.isDebug { findings.append("this is a debug build; start ./amqp-bench") }
        let machine = MachineFacts.here
        if machine.cores < 2 { findings.append("one core: client and broker take it from each other") }
        var load = [0.0, 0.0, 0.0]
        if getloadavg(&load, 3) == 3, load[0] > 0.3 * Double(machine.cores) {
            findings.append("other programs use the processor (load \(Text.decimal(load[0], places: 2)))")
        }
        if FileLimit.highest < 4096 { findings.append("at most \(FileLimit.highest) open files (ulimit -Hn)") }
        return findings
    }

    // MARK: - The broker

    private static let trips = 50

    /// Connects, asks a few times, and says what is unusual.
    private static func examine(_ uri: String) async throws -> [String] {
        let connection: AMQPConnection
        do {
            connection = try await Connector(broker: BrokerUnderTest(uris: [uri]), id: "doctor").connect("doctor")
        } catch let failure as BenchFailure {
            Screen.write(Data("amqp-bench: \(failure)\n".utf8), to: STDERR_FILENO)
            throw ExitCode(failure.status)
        }
        defer { connection.abort() }
        var times = LatencyMeter.emptyHistogram
        let channel = try await connection.openChannel()
        let queue = try await channel.declareQueue(exclusive: true)
        for _ in 0..<Self.trips {
            let start = MonotonicClock.now
            _ = try await channel.inspectQueue(queue.name)
            times.record(MonotonicClock.now - start)
        }
        // A broker under an alarm says so when the first message comes.
        try await channel.publish("", to: .queue(queue.name))
        try await Task.sleep(for: .milliseconds(200))
        let blocked = connection.blockedReason
        let properties = connection.serverProperties
        let name = [properties["product"]?.stringValue, properties["version"]?.stringValue].compactMap { $0 }
        let median = Double(times.valueAtPercentile(50)) / 1000
        print("\(name.joined(separator: " ")), a question and its answer take \(Text.milliseconds(median)) ms")
        var findings: [String] = []
        if let blocked { findings.append("the broker blocks publishers: \(blocked)") }
        if median > 2000 { findings.append("the broker is far away or busy: a round trip takes over 2 ms") }
        if (try? AMQPClientConfiguration(uri: uri))?.tls != nil {
            findings.append("TLS: what it costs is part of every figure")
        }
        return findings
    }
}
