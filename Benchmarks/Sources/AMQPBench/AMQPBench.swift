// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// AMQPBench: the commands of the tool and what they share: one run from the options to the exit code.

/// Where the program begins.
@main
enum Main {
    static func main() async {
        let environment = ProcessInfo.processInfo.environment
        await AMQPBench.main(EnvironmentOptions.merge(Array(CommandLine.arguments.dropFirst()), environment))
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

            Exit codes: 0 done, 1 the run failed, 3 a condition of --fail-if holds, 4 messages lost, doubled or out of order, 64 wrong usage,
            69 no broker, 130 interrupted. Every option also comes from the environment: AMQP_BENCH_SIZE=1k is --size 1k.
            """,
        version: BuildFacts.version,
        subcommands: [
            Both.self, Publish.self, Consume.self, Latency.self, Compare.self, MakeReport.self, KeepBroker.self,
            Doctor.self, EmbeddedBrokerProcess.self,
        ],
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

/// Latency at fixed rates.
struct Latency: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Publish on a fixed schedule and measure latency from the scheduled time.",
        discussion: """
            Without --rate, the capacity is looked for first, and 50 %, 80 % and 95 % of it are measured, each for --time.
            """
    )
    @OptionGroup(title: "Run") var common: CommonOptions
    @OptionGroup(title: "Publishing") var publishing: PublishOptions
    @OptionGroup(title: "Consuming") var consuming: ConsumeOptions

    func validate() throws {
        guard self.publishing.size.octets >= MessageHeader.sizeWithTimes else {
            throw ValidationError(
                "--size takes at least \(MessageHeader.sizeWithTimes) here: a message carries its times."
            )
        }
    }

    func run() async throws {
        let options = RunOptions(
            command: "latency",
            common: self.common,
            publish: self.publishing,
            consume: self.consuming
        )
        let common = self.common
        try await Session.run(common) { session in
            let (report, status) = try await LatencyRun(
                session: session,
                options: options,
                thresholds: common.failIf
            ).run()
            let text = LatencyText(style: session.screen.style)
            session.screen.show(text.closing(report, savedTo: try Session.save(try report.json(), to: common.json)))
            return status
        }
    }
}

/// One or more runs of the same load, from the options to the exit code.
struct Execution: Sendable {
    let common: CommonOptions
    let options: RunOptions

    func run() async throws {
        let (common, options) = (self.common, self.options)
        try await Session.run(common) { session in
            var reports: [Report] = []
            for number in 0..<common.runs {
                if number > 0 { try await Task.sleep(for: common.cooldown.duration) }
                let isOnly = common.runs == 1
                let report = try await session.load(
                    options,
                    detail: common.quiet || number > 0 ? (number > 0 && !common.quiet ? .rows : .header) : .all,
                    suffix: isOnly ? "" : "-\(number + 1)"
                ).run()
                session.screen.show(RunText(style: session.screen.style).summary(report))
                reports.append(report)
                guard report.ended == .completed else { break }
            }
            return try Self.close(reports, session: session, common: common)
        }
    }

    /// Shows the end of the summary and writes the file, before the broker is stopped.
    private static func close(_ reports: [Report], session: Session, common: CommonOptions) throws -> Int32 {
        let text = RunText(style: session.screen.style)
        guard var report = Report.median(of: reports) else { return 0 }
        if reports.count > 1 { session.screen.show(text.spread(report)) }
        report.failures = common.failIf.compactMap { $0.violation(by: report) }
        try Exports.write(report, common, on: session.screen)
        let place = try Session.save(try report.json(), to: common.json)
        session.screen.show(text.closing(report, savedTo: place))
        let statuses = reports.map { $0.status(signal: session.interruption.signal) }
        if let status = statuses.first(where: { $0 != 0 }) { return status }
        return report.failures.isEmpty ? 0 : ExitStatus.thresholdFailed
    }
}
