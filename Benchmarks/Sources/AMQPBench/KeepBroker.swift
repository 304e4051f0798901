// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// KeepBroker: the command `broker`, which keeps one running.

/// Keep a broker running.
struct KeepBroker: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "broker",
        abstract: "Start a broker, print its URI, and stop it on Ctrl-C."
    )

    @Option(help: "Which broker: embedded, rabbitmq[:RELEASE] or docker[:TAG].")
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
