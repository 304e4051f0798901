// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// AMQPBench: the tool, and the run of a load that most of its commands share, from the options to the exit code.

/// Where the program begins.
@main
enum Main {
    static func main() async {
        let environment = ProcessInfo.processInfo.environment
        let arguments = Array(CommandLine.arguments.dropFirst())
        if let hint = CommandHint.text(
            for: arguments,
            commands: AMQPBench.commandNames,
            hidden: AMQPBench.hiddenCommandNames
        ) {
            Screen.write(Data("amqp-bench: \(hint)\n".utf8), to: STDERR_FILENO)
            exit(64)
        }
        if let hint = EnvironmentOptions.hint(for: environment) {
            Screen.write(Data("amqp-bench: \(hint)\n".utf8), to: STDERR_FILENO)
            exit(64)
        }
        await AMQPBench.main(EnvironmentOptions.merge(arguments, environment))
    }
}

/// The tool.
struct AMQPBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "amqp-bench",
        abstract: "Measures an AMQP 0-9-1 broker and this client.",
        discussion: """
            amqp-bench                                       publish and consume, with the embedded broker
            amqp-bench --broker rabbitmq                     publish and consume, RabbitMQ started for the run
            amqp-bench --uri amqp://user:secret@host/vhost   a broker that runs already
            amqp-bench publish --size 1k --json result.json  publish only, and keep the result
            amqp-bench sweep --over size=64,1k,16k           one option over a list

            Exit codes: 0 done, 1 the run failed, 3 a condition of --fail-if holds, 4 messages lost, doubled, out of order or
            corrupted, 64 wrong usage,
            69 no broker, 130 interrupted. Every option also comes from the environment: AMQP_BENCH_SIZE=1k is --size 1k.
            """,
        version: BuildFacts.version,
        subcommands: [
            Both.self, Publish.self, Consume.self, Latency.self, RPC.self, Churn.self, Sweep.self, Compare.self,
            MakeReport.self, KeepBroker.self, Doctor.self, EmbeddedBrokerProcess.self,
        ],
        defaultSubcommand: Both.self
    )

    /// The commands by name, and help.
    static let commandNames =
        Self.configuration.subcommands
        .map { $0.configuration.commandName ?? "\($0)".lowercased() } + ["help"]

    /// The commands that are not for people.
    static let hiddenCommandNames =
        Self.configuration.subcommands.filter { !$0.configuration.shouldDisplay }
        .map { $0.configuration.commandName ?? "\($0)".lowercased() }
}

/// One or more runs of the same load, from the options to the exit code.
struct Execution: Sendable {
    /// One run of what the options say.
    typealias Measure = @Sendable (Session, RunOptions, LoadRun.Detail, String) async throws -> Report

    let common: CommonOptions
    let options: RunOptions
    /// How to measure; a load of messages by default.
    var measure: Measure = { session, options, detail, suffix in
        try await session.load(options, detail: detail, suffix: suffix).run()
    }

    func run() async throws {
        let (common, options) = (self.common, self.options)
        if common.explain {
            for line in Explanation(options, common).lines { print(line) }
            return
        }
        try await Session.run(common) { session in
            var reports: [Report] = []
            for number in 0..<common.runs {
                guard session.interruption.signal == nil else { break }
                if number > 0 { try await Task.sleep(for: common.cooldown.duration) }
                let isOnly = common.runs == 1
                let report = try await self.measure(
                    session,
                    options,
                    Self.detail(number, isQuiet: common.quiet),
                    isOnly ? "" : "-\(number + 1)"
                )
                session.screen.show(RunText(style: session.screen.style).summary(report))
                reports.append(report)
                guard report.ended == .completed else { break }
            }
            return try Self.close(reports, session: session, common: common)
        }
    }

    /// The header once, and a line per interval unless that is not wanted.
    private static func detail(_ number: Int, isQuiet: Bool) -> LoadRun.Detail {
        if number == 0 { return isQuiet ? .header : .all }
        return isQuiet ? .nothing : .rows
    }

    /// Shows the end of the summary and writes the file, before the broker is stopped.
    private static func close(_ reports: [Report], session: Session, common: CommonOptions) throws -> Int32 {
        let text = RunText(style: session.screen.style)
        guard var report = Report.median(of: reports) else { return 0 }
        if reports.count > 1 { session.screen.show(text.spread(report)) }
        report.failures = common.failIf.compactMap { $0.violation(by: report) }
        // The result first: what fails in another form of it costs nothing then.
        let place = try Session.save(try report.json(), to: common.json)
        try Exports.write(report, common, on: session.screen)
        session.screen.show(text.closing(report, savedTo: place))
        let statuses = reports.map { $0.status(signal: session.interruption.signal) }
        if let status = statuses.first(where: { $0 != 0 }) { return status }
        return report.failures.isEmpty ? 0 : ExitStatus.thresholdFailed
    }
}
