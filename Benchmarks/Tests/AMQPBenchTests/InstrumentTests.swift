// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Foundation
import Testing

@testable import AMQPBench

// InstrumentTests: the tool is measured itself: a proxy does something to the stream, and the report must say so. Counts are
// exact; latencies are within 5 % of what the proxy saw, see ProxyTruth. What a wait takes is short here; the whole table,
// every fault at every rate, is made with AMQP_BENCH_PROXY_TABLE=1 in the environment, and printed.

@Suite("The instrument", .serialized, .timeLimit(.minutes(10)))
struct InstrumentTests {
    /// A load at a rate.
    static func options(_ command: String, rate: Double?, time: Double, warmup: Double = 0) -> RunOptions {
        var options = RunOptions(command: command, warmup: warmup, interval: 1)
        options.producers = 1
        options.consumers = command == "publish" ? 0 : 1
        options.time = time
        options.rate = rate
        options.isOpenLoop = command == "latency"
        options.confirms = 1024
        options.prefetch = 512
        options.ackEvery = 1
        options.size = 64
        options.verify = true
        return options
    }

    /// The result of a run through a proxy, beside the truth.
    struct Found: Sendable {
        var report: Report
        var truth: ProxyTruth
        var unrest: Unrest

        /// Latencies of the report that contradict the truth.
        var differences: [String] {
            self.truth.contradictions.prefix(3)
                + self.truth.differences("confirm", self.truth.confirm, self.report.latency.confirm, self.unrest)
                + self.truth.differences("end to end", self.truth.endToEnd, self.report.latency.endToEnd, self.unrest)
        }
    }

    /// One run through a proxy.
    static func run(
        _ options: RunOptions,
        actions: [Int: TestProxy.Action] = [:],
        publishActions: [Int: TestProxy.Action] = [:],
        delay: Duration = .zero,
        meanwhile: @escaping @Sendable (TestProxy) async throws -> Void = { _ in }
    ) async throws -> Report {
        try await Self.found(
            options,
            actions: actions,
            publishActions: publishActions,
            delay: delay,
            meanwhile: meanwhile
        ).report
    }

    /// The same, with the truth.
    static func found(
        _ options: RunOptions,
        actions: [Int: TestProxy.Action] = [:],
        publishActions: [Int: TestProxy.Action] = [:],
        delay: Duration = .zero,
        meanwhile: @escaping @Sendable (TestProxy) async throws -> Void = { _ in }
    ) async throws -> Found {
        try await Tool.withBroker { port in
            let proxy = try TestProxy(to: port, delay: delay, actions: actions, publishActions: publishActions)
            defer { proxy.close() }
            let run = LoadRun(
                options: options,
                broker: BrokerUnderTest(uris: [proxy.uri]),
                id: "test",
                interruption: Interruption(),
                screen: Screen(usesStandardError: true, color: .never),
                detail: .nothing
            )
            let unrest = Unrest()
            defer { unrest.end() }
            async let report = run.run()
            try await meanwhile(proxy)
            let found = try await report
            unrest.end()
            let seconds = options.time ?? 0
            return Found(
                report: found,
                truth: ProxyTruth(
                    proxy.log,
                    rate: options.rate,
                    seconds: seconds,
                    window: options.confirms ?? .max / 2,
                    backlog: options.backlog
                ),
                unrest: unrest
            )
        }
    }

    /// Runs `rpc` or `churn` through a proxy.
    static func operations(
        _ arguments: [String],
        meanwhile: @escaping @Sendable (TestProxy) async throws -> Void
    ) async throws -> Report {
        try await InProcessBroker.withBroker { broker in
            let port = try #require(broker.configuration.addresses.first?.port)
            let proxy = try TestProxy(to: port)
            defer { proxy.close() }
            async let report = OperationRunTests.report(arguments, uri: proxy.uri)
            try await meanwhile(proxy)
            return try await report
        }
    }

    /// Stalls the stream once messages flow.
    static func stall(after start: Double, for seconds: Double) -> @Sendable (TestProxy) async throws -> Void {
        { proxy in
            // Connecting may take long. Of `churn` no message comes.
            let deadline = ContinuousClock.now + .seconds(2)
            while proxy.publishes == 0, ContinuousClock.now < deadline {
                try await Task.sleep(for: .milliseconds(2))
            }
            try await Task.sleep(for: .seconds(start))
            proxy.stall(true)
            try await Task.sleep(for: .seconds(seconds))
            proxy.stall(false)
        }
    }

    static let commands = ["publish", "both", "latency"]

    @Test("A stall is in the latency of every message that was due in it, whether the window let it out or not")
    func confirmStall() async throws {
        // Side by side: a stall takes no processor.
        try await withThrowingDiscardingTaskGroup { group in
            for command in Self.commands {
                for window in [20, 1024] {
                    group.addTask { try await Self.stalled(command, window: window) }
                }
            }
        }
    }

    private static func stalled(_ command: String, window: Int) async throws {
        var options = Self.options(command, rate: 400, time: 4)
        options.confirms = window
        let found = try await Self.found(options, meanwhile: Self.stall(after: 1, for: 1))
        let what = Comment(rawValue: "\(command) with a window of \(window)")
        #expect(found.report.ended == .completed, what)
        for difference in found.differences where command != "publish" || difference.hasPrefix("confirm") {
            Issue.record(Comment(rawValue: "\(what): \(difference)"))
        }
        let latency = try #require(found.report.latency.confirm)
        #expect(latency.count == 1600 && latency.p99 > 0.5e6, what)
        // A full window holds the schedule up, and the lag says so.
        let lag = try #require(found.report.latency.lag)
        #expect(window > 400 || 0.5e6 < lag.max, "\(what): lag \(lag.max)")
    }

    @Test("--fail-if 'p99>1s' fails on a stall of 2 s in every command that has a latency")
    func failIf() async throws {
        let threshold = try #require(Threshold(argument: "p99>1s"))
        try await withThrowingDiscardingTaskGroup { group in
            for command in Self.commands {
                group.addTask {
                    let options = Self.options(command, rate: 200, time: 4)
                    let report = try await Self.run(options, meanwhile: Self.stall(after: 1, for: 2))
                    #expect(threshold.violation(by: report) != nil, Comment(rawValue: command))
                }
            }
            for command in [["rpc"], ["churn", "--what", "queue"], ["churn", "--what", "channel"]] {
                group.addTask {
                    let arguments = command + ["--rate", "100", "-z", "6s", "--warmup", "0s"]
                    let report = try await Self.operations(arguments, meanwhile: Self.stall(after: 1, for: 2))
                    #expect(threshold.violation(by: report) != nil, Comment(rawValue: "\(command)"))
                    // 2 s of 6 at 100/s: evenly from 2 s to nothing.
                    let latency = try #require(report.latency.operation)
                    #expect(590...602 ~= latency.count && 1.2e6...2.1e6 ~= latency.p90, "\(command): \(latency)")
                }
            }
        }
    }

    @Test("What arrives after the end counts, when it was due before it", arguments: [20, 1024])
    func stallAtTheEnd(_ window: Int) async throws {
        var options = Self.options("latency", rate: 400, time: 2)
        options.confirms = window
        let found = try await Self.found(options, meanwhile: Self.stall(after: 1.5, for: 1.5))
        let endToEnd = try #require(found.report.latency.endToEnd)
        // Those due from 1.5 to 2 s arrive at 3 s: a quarter of all waited for 1 to 1.5 s.
        #expect(endToEnd.p99 > 1.3e6, "p99 \(endToEnd.p99)")
        #expect(endToEnd.count == 800)
        #expect(found.report.lost == 0)
        for difference in found.differences { Issue.record(Comment(rawValue: difference)) }
    }

    @Test("Messages of the warm-up do not count, however late they arrive")
    func lateWarmup() async throws {
        let options = Self.options("latency", rate: 400, time: 2, warmup: 1)
        let report = try await Self.run(options, meanwhile: Self.stall(after: 0.2, for: 1))
        let endToEnd = try #require(report.latency.endToEnd)
        // The stall ends about 0.2 s into the measured time.
        #expect(endToEnd.max < 0.6e6, "max \(endToEnd.max)")
        #expect(try #require(report.latency.confirm).max < 0.6e6)
    }

    @Test("What the warm-up published and consumed is in the whole run, not in the measured time")
    func warmupCounts() async throws {
        let report = try await Self.run(Self.options("both", rate: 400, time: 0.4, warmup: 1.2))
        let (measured, whole) = (report.totals, report.wholeRun)
        #expect(whole.published > 400 && measured.published < whole.published * 3 / 4)
        #expect(whole.consumed > 400 && measured.consumed < whole.consumed * 3 / 4)
        #expect(report.intervals.first?.isWarmup == true)
    }

    @Test("A consumer acknowledges what is left over of its last step", arguments: [64, 7])
    func lastAcknowledgements(_ ackEvery: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                try await connection.withChannel { channel in
                    let body: [UInt8] = [1, 2, 3]
                    try await channel.declareQueue("q")
                    try await channel.enableConfirms()
                    for _ in 0..<100 { try await channel.publish(body.span.bytes, to: .queue("q")) }
                    try await channel.waitForConfirms()
                }
            }
            var options = Self.options("consume", rate: nil, time: 5)
            (options.producers, options.queue, options.count, options.ackEvery) = (0, "q", 100, ackEvery)
            let run = LoadRun(
                options: options,
                broker: BrokerUnderTest(uris: [broker.uri]),
                id: "test",
                interruption: Interruption(),
                screen: Screen(usesStandardError: true, color: .never),
                detail: .nothing
            )
            #expect(try await run.run().wholeRun.consumed == 100)
            try await broker.waitUntilAllHaveGone()
            #expect(await broker.depth(of: "q") == 0)
        }
    }

    @Test(
        "The wait for what has not arrived ends with --drain, and what is left is in the queue, not lost",
        arguments: [0.05, 60]
    )
    func drain(_ work: Double) async throws {
        var options = Self.options("both", rate: 400, time: 0.5)
        (options.consumerWork, options.drain, options.prefetch) = (work, 0.3, 10)
        let start = ContinuousClock.now
        let report = try await Self.run(options)
        // All would take ten seconds, or one of them a minute.
        #expect(ContinuousClock.now - start < .seconds(8))
        #expect(report.lost == 0 && report.wholeRun.consumed < 150)
        #expect(report.verify.inQueue ?? 0 > 50)
    }

    @Test("A rate goes without confirms too", arguments: commands)
    func noConfirms(_ command: String) async throws {
        var options = Self.options(command, rate: 500, time: 0.5)
        options.confirms = nil
        let report = try await Self.run(options)
        #expect(report.ended == .completed, "\(report.failure ?? "")")
        #expect(report.latency.confirm == nil)
        #expect(report.wholeRun.published > 200)
        #expect(report.isSound)
    }

    @Test("Several consumers share a count, lose nothing and end at once", arguments: [1, 4])
    func consumers(_ consumers: Int) async throws {
        var options = Self.options("consume", rate: nil, time: 1)
        (options.producers, options.consumers, options.time, options.count) = (0, consumers, nil, 3000)
        let report = try await Self.run(options)
        #expect(report.wholeRun.consumed == 3000)
        #expect(report.lost == 0)
        #expect(report.totals.seconds < 4)
    }

    @Test("Messages in a queue that nobody consumes are left there, not lost")
    func unconsumed() async throws {
        var options = Self.options("both", rate: 400, time: 0.5)
        (options.producers, options.queues) = (2, 2)
        let report = try await Self.run(options)
        #expect(report.lost == 0)
        let inQueue = report.verify.inQueue ?? 0
        #expect(inQueue > 50)
        #expect(report.verify.arrived + inQueue == report.wholeRun.published)
    }

    @Test("Where arguments of the queue may drop messages, what is missing is not accounted, with the reason")
    func dropping() async throws {
        var options = Self.options("publish", rate: 500, time: 0.4)
        options.queueArguments = ["x-max-length": "10"]
        let report = try await Self.run(options)
        #expect(report.lost == 0)
        #expect(report.verify.unaccounted ?? 0 > 100)
        #expect(report.verify.unaccountedReason?.contains("x-max-length") == true)
    }

    // MARK: - The table

    /// The fault that the proxy injects.
    enum Fault: String, CaseIterable, Sendable {
        case drop, duplicate, swap, corrupt
        case stallInTheMiddle = "stall in the middle"
        case stallAtTheEnd = "stall at the end"
        case delay = "50 ms more"

        var action: TestProxy.Action? {
            switch self {
            case .drop: .drop
            case .duplicate: .duplicate
            case .swap: .swapWithNext
            case .corrupt: .corrupt
            default: nil
            }
        }
    }

    /// Nil is as fast as the window allows.
    static let rates: [Double?] = [100, 1000, 5000, 20_000, nil]

    static func name(_ rate: Double?) -> String { rate.map { Text.rate($0) } ?? "saturated" }

    /// A run: the injected faults, and the statements of the report that are wrong.
    static func cell(_ fault: Fault?, _ rate: Double?, seconds: Double) async throws -> (row: String, wrong: [String]) {
        var options = Self.options(rate == nil ? "both" : "latency", rate: rate, time: seconds)
        // The proxy hands out delivery tags twice or not at all.
        (options.autoAck, options.ackEvery) = (true, nil)
        (options.backlog, options.drain) = (rate == nil ? 5000 : nil, fault == .drop ? 2 : 10)
        var actions: [Int: TestProxy.Action] = [:]
        if let action = fault?.action { for number in 1...8 { actions[number * 10] = action } }
        let stall: (after: Double, for: Double)? =
            switch fault {
            case .stallInTheMiddle: (seconds / 4, seconds / 4)
            case .stallAtTheEnd: (seconds * 3 / 4, seconds / 2)
            default: nil
            }
        let found = try await Self.found(
            options,
            actions: actions,
            delay: fault == .delay ? .milliseconds(50) : .zero,
            meanwhile: { proxy in
                if let stall { try await Self.stall(after: stall.after, for: stall.for)(proxy) }
            }
        )
        let report = found.report
        var wrong = report.ended == .completed ? [] : [report.failure ?? "\(report.ended)"]
        for (name, injected, reported) in [
            ("lost", fault == .drop ? 8 : 0, report.lost),
            ("duplicated", fault == .duplicate ? 8 : 0, report.verify.duplicated),
            ("reordered", fault == .swap ? 8 : 0, report.verify.reordered),
            ("corrupted", fault == .corrupt ? 8 : 0, report.verify.corrupted),
            ("unaccounted", 0, report.verify.unaccounted ?? 0),
        ] as [(String, UInt64, UInt64)] where injected != reported {
            wrong.append("\(name) is \(reported), and \(injected) were")
        }
        // Dropped and corrupted messages have no end-to-end latency, swapped ones have two.
        wrong += found.differences.filter { fault?.action == nil || !$0.hasPrefix("end to end") }
        let percentiles = [(0.5, \LatencySummary.p50), (0.99, \.p99), (0.999, \.p999)]
        func pair(_ bounds: ProxyTruth.Bounds, _ latency: LatencySummary?) -> String {
            percentiles.map { quantile, path in
                let truth = ProxyTruth.quantile(quantile, bounds.low)
                return "\(Text.milliseconds(truth)) → \(latency.map { Text.milliseconds($0[keyPath: path]) } ?? "–")"
            }.joined(separator: " | ")
        }
        let counts = [report.lost, report.verify.duplicated, report.verify.reordered, report.verify.corrupted]
        let row =
            "| \(fault?.rawValue ?? "nothing") | \(Self.name(rate)) | \(report.wholeRun.published) | "
            + counts.map(String.init).joined(separator: " | ")
            + " | \(pair(found.truth.confirm, report.latency.confirm)) | "
            + "\(pair(found.truth.endToEnd, report.latency.endToEnd)) |"
        return (row, wrong)
    }

    /// Every fault comes at some rate, and every rate with some fault.
    static let few: [(Fault?, Double?)] = [
        (nil, 1000), (.drop, 5000), (.duplicate, 1000), (.swap, 5000), (.corrupt, nil), (.duplicate, nil), (.drop, nil),
        (.stallInTheMiddle, 1000), (.stallAtTheEnd, 1000), (.stallInTheMiddle, nil), (.delay, 100), (.delay, nil),
    ]

    @Test("What was done to the stream is what the report says, exactly in counts, within 5 % in latencies")
    func fewCells() async throws {
        for (fault, rate) in Self.few {
            let seconds = fault?.action == nil ? 2 : 0.9
            var (_, wrong) = try await Self.cell(fault, rate, seconds: seconds)
            // The proxy's clock is late when its thread is not scheduled: a wrong report is wrong again.
            if !wrong.isEmpty { (_, wrong) = try await Self.cell(fault, rate, seconds: seconds) }
            for text in wrong { Issue.record("\(fault?.rawValue ?? "nothing") at \(Self.name(rate)): \(text)") }
        }
    }

    @Test(
        "The whole table of faults and rates",
        .enabled(if: ProcessInfo.processInfo.environment["AMQP_BENCH_PROXY_TABLE"] != nil)
    )
    func table() async throws {
        print(
            "| fault | rate | messages | lost | duplicated | reordered | corrupted | confirm p50, truth → report, ms | p99 | p99.9 | end to end p50 | p99 | p99.9 |"
        )
        print("| --- | ---: |" + String(repeating: " ---: |", count: 11))
        for fault in [nil] + Fault.allCases.map(Optional.init) {
            for rate in Self.rates {
                var (row, wrong) = try await Self.cell(fault, rate, seconds: 4)
                print(row)
                if !wrong.isEmpty {
                    // As above: a wrong report is wrong again.
                    print(wrong.joined(separator: "\n"))
                    (row, wrong) = try await Self.cell(fault, rate, seconds: 4)
                    print(row)
                }
                for text in wrong { Issue.record("\(fault?.rawValue ?? "nothing") at \(Self.name(rate)): \(text)") }
            }
        }
    }

    @Test("Publishes that never reached the broker are lost when there are no confirms to tell")
    func droppedPublishes() async throws {
        var options = Self.options("both", rate: 500, time: 0.5)
        (options.confirms, options.drain) = (nil, 2)
        let report = try await Self.run(options, publishActions: [3: .drop, 50: .drop, 51: .drop])
        #expect(report.lost == 3)
        #expect(report.verify.duplicated == 0 && report.verify.reordered == 0)
    }

    @Test(
        "Ten pairs find a slowdown of a tenth, and nothing between equal commands",
        .enabled(if: ProcessInfo.processInfo.environment["AMQP_BENCH_PROXY_TABLE"] != nil)
    )
    func pairs() async throws {
        func comparison(_ base: Duration, _ other: Duration) async throws -> Comparison {
            var reports: [[Report]] = [[], []]
            for side in try RunPairs(["a", "b"], pairs: 10).order {
                let options = Self.options("both", rate: 300, time: 1)
                reports[side].append(try await Self.run(options, delay: side == 0 ? base : other))
            }
            let (base, other) = (
                try #require(Report.median(of: reports[0])), try #require(Report.median(of: reports[1]))
            )
            return Comparison(base, other, tolerance: 2, isPaired: true)
        }
        let slower = try await comparison(.milliseconds(50), .milliseconds(55))
        print(ComparisonText(style: .plain, base: "50 ms", other: "55 ms").lines(slower).joined(separator: "\n"))
        #expect(slower.rows.contains { $0.name == "p50 confirm" && $0.verdict == .worse })
        #expect(slower.isRegression)
        let equal = try await comparison(.milliseconds(50), .milliseconds(50))
        print(ComparisonText(style: .plain, base: "50 ms", other: "50 ms").lines(equal).joined(separator: "\n"))
        #expect(!equal.rows.contains { [.better, .worse].contains($0.verdict) })
    }
}
