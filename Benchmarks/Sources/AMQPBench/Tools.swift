// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// Tools: the commands that measure nothing: `broker` keeps one running, `doctor` looks for what would spoil a run.

/// Keep a broker running.
struct KeepBroker: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "broker",
        abstract: "Start a broker, print its URI, and stop it on Ctrl-C."
    )

    @Option(help: "Which broker: embedded, rabbitmq or docker[:TAG].")
    var broker = BrokerChoice.embedded

    func run() async throws {
        let interruption = Interruption()
        interruption.install()
        do {
            try await interruption.cancellable { [choice = self.broker] in
                try await BrokerUnderTest.with(
                    uris: [],
                    choice: choice,
                    interruption: interruption,
                    say: { Screen.write(Data(($0 + "\n").utf8), to: STDERR_FILENO) },
                    { broker in
                        Screen.write(Data((broker.uris[0] + "\n").utf8), to: STDOUT_FILENO)
                        // For ever: a signal cancels it.
                        while true { try await Task.sleep(for: .seconds(3600)) }
                    }
                )
            }
        } catch let failure as BenchFailure {
            Screen.write(Data("amqp-bench: \(failure)\n".utf8), to: STDERR_FILENO)
            throw ExitCode(failure.status)
        } catch {
            throw ExitCode(interruption.signal.map { ExitStatus.interrupted(by: $0) } ?? ExitStatus.failed)
        }
    }
}

/// Look for what would spoil a run.
struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say what about this machine would spoil a run; exit 1 if there is something."
    )

    func run() throws {
        let findings = Self.findings()
        let machine = MachineFacts.here
        print("\(machine.model), \(machine.cores) cores, kernel \(machine.kernel)")
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
}
