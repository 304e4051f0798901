// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// AMQPBench: the commands of the tool and what they share: one run from the options to the exit code.

/// The tool.
@main
struct AMQPBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "amqp-bench",
        abstract: "Measures an AMQP 0-9-1 broker and this client.",
        discussion: """
            amqp-bench --broker rabbitmq                     publish and consume, RabbitMQ started for the run
            amqp-bench --uri amqp://user:secret@host/vhost   a broker that runs already
            amqp-bench publish --size 1k --json result.json  publish only, and keep the result

            Exit codes: 0 done, 1 the run failed, 4 messages lost, doubled or out of order, 64 wrong usage,
            69 no broker, 130 interrupted.
            """,
        version: BuildFacts.version,
        subcommands: [Both.self, Publish.self, Consume.self],
        defaultSubcommand: Both.self
    )
}

/// Publish and consume.
struct Both: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Publish and consume as fast as the windows allow (the default)."
    )
    @OptionGroup(title: "Run") var common: CommonOptions
    @OptionGroup(title: "Publishing") var publishing: PublishOptions
    @OptionGroup(title: "Consuming") var consuming: ConsumeOptions

    func run() async throws {
        let options = RunOptions(
            command: "both",
            common: self.common,
            publish: self.publishing,
            consume: self.consuming
        )
        try await Execution(common: self.common, options: options).run()
    }
}

/// Publish only.
struct Publish: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Publish only.")
    @OptionGroup(title: "Run") var common: CommonOptions
    @OptionGroup(title: "Publishing") var publishing: PublishOptions

    func run() async throws {
        let options = RunOptions(command: "publish", common: self.common, publish: self.publishing, consume: nil)
        try await Execution(common: self.common, options: options).run()
    }
}

/// Consume only.
struct Consume: AsyncParsableCommand {
    /// Messages put into a generated queue when no count is given.
    static let defaultCount = 500_000

    static let configuration = CommandConfiguration(
        abstract: "Drain a queue.",
        discussion: """
            Without --queue, a queue is made and filled with --count messages (\(Self.defaultCount) by default) before the
            measuring begins.
            """
    )
    @OptionGroup(title: "Run") var common: CommonOptions
    @OptionGroup(title: "Consuming") var consuming: ConsumeOptions

    @Option(name: .shortAndLong, help: "Octets of a body in a queue that is filled here: 256, 1k, 1m.")
    var size = Size(octets: 256)

    func run() async throws {
        var options = RunOptions(command: "consume", common: self.common, publish: nil, consume: self.consuming)
        if options.queue == nil {
            options.size = self.size.octets
            options.count = options.count ?? Self.defaultCount
            options.time = nil
            options.warmup = 0
        }
        try await Execution(common: self.common, options: options).run()
    }
}

/// One run, from the options to the exit code.
struct Execution: Sendable {
    let common: CommonOptions
    let options: RunOptions

    func run() async throws {
        let screen = Screen(usesStandardError: self.common.json == "-", color: self.common.color)
        guard !BuildFacts.isDebug || self.common.allowDebug else {
            throw ValidationError(
                "This is a debug build, whose numbers mean nothing. Start ./amqp-bench, or add --allow-debug."
            )
        }
        if let file = self.common.json, file != "-" { try Self.checkWritable(file) }
        let interruption = Interruption()
        interruption.install()
        do {
            let report = try await interruption.cancellable {
                try await BrokerUnderTest.with(
                    uri: self.common.uri,
                    interruption: interruption,
                    say: { Screen.write(Data(($0 + "\n").utf8), to: STDERR_FILENO) },
                    {
                        let run = LoadRun(
                            options: self.options,
                            broker: $0,
                            id: self.common.id ?? Self.newID(),
                            interruption: interruption,
                            screen: screen,
                            isQuiet: self.common.quiet
                        )
                        let report = try await run.run()
                        try self.show(report, on: screen)
                        return report
                    }
                )
            }
            let status = report.status(signal: interruption.signal)
            guard status == 0 else { throw ExitCode(status) }
        } catch let failure as BenchFailure {
            screen.show(screen.style.red("amqp-bench: \(failure)"))
            throw ExitCode(failure.status)
        } catch let code as ExitCode {
            throw code
        } catch {
            guard let signal = interruption.signal else {
                screen.show(screen.style.red("amqp-bench: \(error)"))
                throw ExitCode(ExitStatus.failed)
            }
            screen.show("amqp-bench: stopped; nothing is left running")
            throw ExitCode(ExitStatus.interrupted(by: signal))
        }
    }

    /// Shows the summary and writes the file, before the broker is stopped.
    private func show(_ report: Report, on screen: Screen) throws {
        let text = RunText(style: screen.style)
        screen.show(text.summary(report))
        let file = self.common.json
        if file == "-" { Screen.write(try report.json(), to: STDOUT_FILENO) }
        if let file, file != "-" { try report.json().write(to: URL(fileURLWithPath: file)) }
        screen.show(text.closing(report, savedTo: file == "-" ? "standard output" : file))
    }

    /// Better found out before the run than after it.
    private static func checkWritable(_ file: String) throws {
        let url = URL(fileURLWithPath: file)
        let exists = access(file, F_OK) == 0
        guard access(exists ? file : url.deletingLastPathComponent().path, W_OK) == 0, !file.hasSuffix("/") else {
            throw ValidationError("--json: \(file) cannot be written.")
        }
    }

    /// A short name that is unlikely to come twice in a day's work.
    private static func newID() -> String {
        let letters = Array("abcdefghijkmnpqrstuvwxyz23456789")
        return String((0..<6).map { _ in letters[Int.random(in: 0..<letters.count)] })
    }
}
