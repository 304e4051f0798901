// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Testing

@testable import AMQPBench

// InstrumentTests: the tool is measured itself: a proxy does something to the stream, and the report must say so.
// A stall of s seconds in T seconds of a steady rate delays the part s / T of all messages, evenly by 0 to s: the
// quantile q is s - (1 - q) T where that is positive.

@Suite("The instrument", .serialized, .timeLimit(.minutes(2)))
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

    /// One run through a proxy.
    static func run(
        _ options: RunOptions,
        actions: [Int: TestProxy.Action] = [:],
        delay: Duration = .zero,
        meanwhile: @escaping @Sendable (TestProxy) async throws -> Void = { _ in }
    ) async throws -> Report {
        try await InProcessBroker.withBroker { broker in
            let port = try #require(broker.configuration.addresses.first?.port)
            let proxy = try TestProxy(to: port, delay: delay, actions: actions)
            defer { proxy.close() }
            let run = LoadRun(
                options: options,
                broker: BrokerUnderTest(uris: [proxy.uri]),
                id: "test",
                interruption: Interruption(),
                screen: Screen(usesStandardError: true, color: .never),
                detail: .nothing
            )
            async let report = run.run()
            try await meanwhile(proxy)
            return try await report
        }
    }

    /// One run of `rpc` or `churn` through a proxy.
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
        let report = try await Self.run(options, meanwhile: Self.stall(after: 1, for: 1))
        #expect(report.ended == .completed)
        for (name, latency) in [("confirm", report.latency.confirm), ("end to end", report.latency.endToEnd)] {
            if name == "end to end", options.consumers == 0 { continue }
            let latency = try #require(latency)
            let what = Comment(rawValue: "\(command) with a window of \(window), \(name): \(latency)")
            #expect(1590...1602 ~= latency.count, what)
            // 1 - 0.01 * 4 and 1 - 0.1 * 4 seconds, in microseconds.
            #expect(0.9e6...1.15e6 ~= latency.p99, what)
            #expect(0.5e6...0.75e6 ~= latency.p90, what)
            #expect(latency.max < 1.3e6, what)
        }
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
                    let arguments = command + ["--rate", "100", "-z", "4s", "--warmup", "0s"]
                    let report = try await Self.operations(arguments, meanwhile: Self.stall(after: 1, for: 2))
                    #expect(threshold.violation(by: report) != nil, Comment(rawValue: "\(command)"))
                    // 2 s of 4 at 100/s: evenly from 2 s to nothing.
                    let latency = try #require(report.latency.operation)
                    #expect(390...402 ~= latency.count && 1.5e6...1.9e6 ~= latency.p90, "\(command): \(latency)")
                }
            }
        }
    }

    @Test("What arrives after the end counts, when it was due before it", arguments: [20, 1024])
    func stallAtTheEnd(_ window: Int) async throws {
        var options = Self.options("latency", rate: 400, time: 2)
        options.confirms = window
        let report = try await Self.run(options, meanwhile: Self.stall(after: 1.5, for: 1.5))
        let endToEnd = try #require(report.latency.endToEnd)
        // Those due from 1.5 to 2 s arrive at 3 s: a quarter of all waited for 1 to 1.5 s.
        #expect(endToEnd.p99 > 1.3e6, "p99 \(endToEnd.p99)")
        #expect(endToEnd.p90 > 1.1e6, "p90 \(endToEnd.p90)")
        #expect(endToEnd.p50 < 0.2e6, "p50 \(endToEnd.p50)")
        #expect(endToEnd.count >= 780 && endToEnd.count <= 802, "\(endToEnd.count) samples")
        #expect(report.lost == 0)
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

    @Test("A delay of 50 ms is in both latencies, and in none of the counts")
    func delay() async throws {
        let report = try await Self.run(Self.options("both", rate: 200, time: 2), delay: .milliseconds(50))
        // There and back again.
        for latency in [report.latency.confirm, report.latency.endToEnd] {
            #expect(0.1e6...0.13e6 ~= (latency?.p50 ?? 0), "p50 \(latency?.p50 ?? 0)")
        }
        #expect(report.isSound)
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

    /// What is done to deliveries, and what the report must say.
    struct Row: CustomTestStringConvertible {
        var testDescription: String
        var actions: [Int: TestProxy.Action]
        var lost: UInt64 = 0
        var duplicated: UInt64 = 0
        var reordered: UInt64 = 0
        var corrupted: UInt64 = 0
    }

    static let rows = [
        Row(testDescription: "nothing", actions: [:]),
        Row(testDescription: "3 dropped", actions: [5: .drop, 6: .drop, 40: .drop], lost: 3),
        Row(testDescription: "2 duplicated", actions: [7: .duplicate, 30: .duplicate], duplicated: 2),
        Row(testDescription: "2 swapped", actions: [9: .swapWithNext, 31: .swapWithNext], reordered: 2),
        Row(testDescription: "2 corrupted", actions: [3: .corrupt, 44: .corrupt], corrupted: 2),
        Row(
            testDescription: "one of each",
            actions: [4: .drop, 8: .duplicate, 12: .swapWithNext, 16: .corrupt],
            lost: 1,
            duplicated: 1,
            reordered: 1,
            corrupted: 1
        ),
    ]

    @Test("What was done to deliveries is what the report says", arguments: rows, [100.0, 5000.0])
    func injected(_ row: Row, _ rate: Double) async throws {
        var options = Self.options("both", rate: rate, time: 0.7)
        // The proxy hands out delivery tags twice or not at all.
        (options.autoAck, options.ackEvery) = (true, nil)
        let report = try await Self.run(options, actions: row.actions)
        #expect(report.lost == row.lost)
        #expect(report.verify.duplicated == row.duplicated)
        #expect(report.verify.reordered == row.reordered)
        #expect(report.verify.corrupted == row.corrupted)
    }
}
