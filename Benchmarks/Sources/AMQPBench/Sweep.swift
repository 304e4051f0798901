// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// Sweep: the command `sweep`: one run for each value of one option, all else the same, and one row for each.

/// What `--over` names.
struct SweptOption: ExpressibleByArgument, Hashable, Sendable {
    /// The option, without its dashes.
    var name: String
    var values: [String]

    init?(argument: String) {
        guard let place = argument.firstIndex(of: "=") else { return nil }
        self.name = String(argument[..<place])
        self.values = argument[argument.index(after: place)...].split(separator: ",", omittingEmptySubsequences: false)
            .map(String.init)
        guard !self.name.isEmpty, !self.values.contains("") else { return nil }
    }
}

/// The result of `sweep`.
struct SweepReport: Codable, Sendable {
    /// One value.
    struct Step: Codable, Sendable {
        var value: String
        var report: Report
    }

    var schema = 1
    var kind = "sweep"
    var id: String
    /// The option that was varied.
    var over: String
    var steps: [Step] = []
    /// The conditions of `--fail-if` that held.
    var failures: [String] = []

    /// The report as JSON text, keys in order.
    func json() throws -> Data { try JSONText.of(self) }
}

/// One option over a list.
struct Sweep: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure once for each value of one option.",
        discussion: """
            amqp-bench sweep --over size=64,1k,16k
            amqp-bench sweep --over producers=1,10,100 --broker rabbitmq --time 5s
            amqp-bench sweep --command publish --over confirms=1,64,1024 --html sweep.html
            amqp-bench sweep --command latency --over rate=1k,5k,10k
            amqp-bench sweep --command churn --over what=connection,channel,queue

            All other options are those of --command (amqp-bench help both).
            """
    )

    @Option(help: "The option and its values: size=64,1k,16k.") var over: SweptOption
    @Option(help: "What is run for each value: both, publish, consume, latency, rpc or churn.") var command =
        SweptCommand.both
    @Argument(parsing: .allUnrecognized, help: "Options of the command.") var options: [String] = []

    /// The commands that can be swept.
    enum SweptCommand: String, ExpressibleByArgument, CaseIterable { case both, publish, consume, latency, rpc, churn }

    /// One value, ready to run.
    struct Step: Sendable {
        var value: String
        var common: CommonOptions
        var options: RunOptions
    }

    /// The steps.
    ///
    /// - Throws: What parsing the options of the command throws.
    func steps() throws -> [Step] {
        try self.over.values.map { value in
            let arguments = self.options + ["--\(self.over.name)=\(value)"]
            switch self.command {
            case .both:
                let command = try Both.parse(arguments)
                return Step(value: value, common: command.common, options: try command.options())
            case .publish:
                let command = try Publish.parse(arguments)
                return Step(value: value, common: command.common, options: try command.options())
            case .consume:
                let command = try Consume.parse(arguments)
                return Step(value: value, common: command.common, options: try command.options())
            case .latency:
                let command = try Latency.parse(arguments)
                var options = try command.options()
                guard options.rate != nil else {
                    throw ValidationError("latency in a sweep needs --rate, or --over rate=1k,5k.")
                }
                options.isOpenLoop = true
                return Step(value: value, common: command.common, options: options)
            case .rpc:
                let command = try RPC.parse(arguments)
                return Step(value: value, common: command.common, options: command.options())
            case .churn:
                let command = try Churn.parse(arguments)
                return Step(value: value, common: command.common, options: command.options())
            }
        }
    }

    func validate() throws {
        do {
            let steps = try self.steps()
            guard let first = steps.first else { return }
            guard first.common.runs == 1, first.common.instances == 1 else {
                throw ValidationError("--runs and --instances are not for sweep.")
            }
            guard !["broker", "uri", "id"].contains(self.over.name) else {
                throw ValidationError("--over takes an option of the run, not \(self.over.name).")
            }
        } catch let error as ValidationError {
            throw error
        } catch {
            throw ValidationError(Both.message(for: error))
        }
    }

    func run() async throws {
        let (steps, name) = (try self.steps(), self.over.name)
        guard let common = steps.first?.common else { return }
        if common.explain {
            for step in steps {
                print("\(name) \(step.value)")
                for line in Explanation(step.options, common).lines { print("  " + line) }
            }
            return
        }
        try await Session.run(common) { session in
            let (report, status) = try await Self.measure(steps, over: name, session: session, common)
            let text = SweepText(style: session.screen.style)
            let place = try Session.save(try report.json(), to: common.json)
            try SweepExports.write(report, common, on: session.screen)
            session.screen.show(text.closing(report, savedTo: place))
            return status
        }
    }

    private static func measure(
        _ steps: [Step],
        over name: String,
        session: Session,
        _ common: CommonOptions
    ) async throws -> (SweepReport, Int32) {
        var report = SweepReport(id: session.id, over: name)
        let text = SweepText(style: session.screen.style)
        var status: Int32 = 0
        for (index, step) in steps.enumerated() {
            guard session.interruption.signal == nil else { break }
            if index > 0 { try await Task.sleep(for: common.cooldown.duration) }
            session.screen.showLive("  \(name) \(step.value) …")
            let detail: LoadRun.Detail = index == 0 ? .header : .nothing
            let isOperation = step.options.operation != nil
            let run =
                isOperation
                ? try await OperationRun.measure(session, step.options, detail, "-\(index)")
                : try await session.load(step.options, detail: detail, suffix: "-\(index)").run()
            if index == 0 { session.screen.show(["", text.columns(name, step.options)]) }
            session.screen.show(text.row(step.value, run))
            if run.ended == .failed { session.screen.show(session.screen.style.red("  failed  \(run.failure ?? "")")) }
            report.steps.append(.init(value: step.value, report: run))
            report.failures += common.failIf.compactMap { threshold in
                threshold.violation(by: run).map { "\($0) at \(name) \(step.value)" }
            }
            status = status == 0 ? run.status(signal: session.interruption.signal) : status
            guard run.ended == .completed else { break }
        }
        if status == 0, let signal = session.interruption.signal { status = ExitStatus.interrupted(by: signal) }
        if status == 0, !report.failures.isEmpty { status = ExitStatus.thresholdFailed }
        return (report, status)
    }
}

/// The text of `sweep`; pure.
struct SweepText: Sendable {
    var style: Style

    func columns(_ name: String, _ options: RunOptions) -> String {
        self.style.dim(self.grid(name, options).head)
    }

    private func grid(_ name: String, _ options: RunOptions) -> TextGrid {
        let columns = [
            TextColumn(name: "  " + name, width: 14, narrow: 12, weight: 0, isText: true),
            TextColumn(name: options.publishedName, width: 14, narrow: 12, weight: 8),
            TextColumn(name: "consumed", width: 14, narrow: 12, weight: 5),
            TextColumn(name: "MB/s", width: 10, narrow: 8, weight: 2),
            TextColumn(name: "p50", width: 10, narrow: 8, weight: 6),
            TextColumn(name: "p99", width: 10, narrow: 8, weight: 7),
            TextColumn(name: "max", width: 13, narrow: 9, weight: 3),
            TextColumn(name: "client", width: 12, narrow: 10, weight: 4),
            TextColumn(name: "broker", width: 9, narrow: 7, weight: 1),
            TextColumn(name: "lost", width: 7, narrow: 6, weight: 9),
        ]
        return TextGrid(columns, width: self.style.width)
    }

    func row(_ value: String, _ report: Report) -> String {
        let (totals, options) = (report.totals, report.options)
        let hasConsumed = options.consumers > 0 && options.operation == nil
        let latency = report.mainLatency
        let octets = options.producers > 0 ? totals.publishedOctetsPerSecond : totals.consumedOctetsPerSecond
        let grid = self.grid("", options)
        let text = grid.row([
            "  " + value, options.producers > 0 ? Text.rate(totals.publishedPerSecond) : "–",
            hasConsumed ? Text.rate(totals.consumedPerSecond) : "–", Text.decimal(octets / 1e6, places: 1),
            Text.milliseconds(latency?.known(0.5)), Text.milliseconds(latency?.known(0.99)),
            latency.map { Text.milliseconds($0.max) + (grid.isNarrow ? "" : " ms") } ?? "–",
            Text.decimal(report.client.cpuMicrosecondsPerMessage, places: 2) + " µs",
            report.broker.cpuPercent.map { Text.percent($0) } ?? "–", Text.count(report.lost),
        ])
        return report.isSound ? text : self.style.red(text)
    }

    /// What failed, what to distrust, and where the result is.
    func closing(_ report: SweepReport, savedTo file: String?) -> [String] {
        var lines = [""]
        lines += report.failures.map { self.style.red("  FAIL  \($0)") }
        lines += Array(Set(report.steps.flatMap(\.report.warnings))).sorted().map { "  ! \($0)" }
        let isFile = file?.hasSuffix(".json") == true
        lines.append(
            file.map { "  saved  \($0)" + (isFile ? "    next:  amqp-bench report \($0)" : "") }
                ?? "  next:  --json FILE keeps the result, --html FILE draws it"
        )
        return lines
    }
}

extension Report {
    /// The latency that one row has room for.
    var mainLatency: LatencySummary? {
        if self.options.isOpenLoop { return self.latency.endToEnd }
        return self.latency.operation ?? self.latency.confirm ?? self.latency.endToEnd
    }
}

/// A result of `sweep` in other forms; pure, but for writing the files.
enum SweepExports {
    /// One line for each value, with a line of names.
    static func csv(_ report: SweepReport) -> String {
        var lines = [
            "\(report.over),published,consumed,p50_us,p99_us,max_us,client_us_per_message,broker_cpu_percent,lost"
        ]
        for step in report.steps {
            let (run, totals) = (step.report, step.report.totals)
            let latency = run.mainLatency
            let figures = [
                totals.publishedPerSecond, totals.consumedPerSecond, latency?.known(0.5), latency?.known(0.99),
                latency?.max,
            ]
            var fields = [step.value] + figures.map { $0.map { Text.decimal($0, places: 1) } ?? "" }
            fields.append(Text.decimal(run.client.cpuMicrosecondsPerMessage, places: 3))
            fields += [run.broker.cpuPercent.map { Text.decimal($0, places: 1) } ?? "", String(run.lost)]
            lines.append(fields.joined(separator: ","))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    static func write(_ report: SweepReport, _ common: CommonOptions, on screen: Screen) throws {
        if let file = common.csv { try FileOutput.write(Self.csv(report), to: file) }
        if let file = common.html {
            try FileOutput.write(SeriesHTML(sweep: report).page(), to: file)
        }
        guard common.markdown else { return }
        let rows = Self.csv(report).split(separator: "\n").map { line in
            "| " + line.split(separator: ",", omittingEmptySubsequences: false).joined(separator: " | ") + " |"
        }
        let bar = "|" + String(repeating: " ---: |", count: 9)
        screen.show(["", ([rows[0], bar] + rows.dropFirst()).joined(separator: "\n")])
    }
}
