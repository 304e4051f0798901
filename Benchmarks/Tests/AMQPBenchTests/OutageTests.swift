// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation
import Testing

@testable import AMQPBench

// OutageTests: runs with --reconnect and --fault-command. Two proxies in front of one broker are the nodes of a cluster, and
// closing one is its crash.

@Suite("Outages", .serialized, .timeLimit(.minutes(5)))
struct OutageTests {
    private static func run(_ options: RunOptions, uris: [String]) -> LoadRun {
        LoadRun(
            options: options,
            broker: BrokerUnderTest(uris: uris),
            id: "test",
            interruption: Interruption(),
            screen: Screen(usesStandardError: true, color: .never),
            detail: .nothing
        )
    }

    /// Does something once so many messages have been published, on a thread that does not wait for others.
    private static func after(_ count: Int, _ proxies: [TestProxy], _ body: @escaping @Sendable () -> Void) {
        Thread.detachNewThread {
            let deadline = ContinuousClock.now + .seconds(60)
            while proxies.reduce(0, { $0 + $1.publishes }) < count, ContinuousClock.now < deadline { usleep(2000) }
            body()
        }
    }

    @Test("Connections to a node that crashed continue on the other, each with its times, and nothing is lost")
    func failover() async throws {
        let result = try await Tool.withBroker { port in
            let (first, second) = (try TestProxy(to: port), try TestProxy(to: port))
            defer { second.close() }
            var options = InstrumentTests.options("both", rate: 500, time: 3)
            (options.producers, options.consumers, options.reconnects, options.drain) = (2, 2, true, 20)
            Self.after(200, [first, second]) { first.close() }
            let report = try await Self.run(options, uris: [first.uri, second.uri]).run()
            return (report, "127.0.0.1:\(first.port)", "127.0.0.1:\(second.port)")
        }
        let (found, from, to) = result
        #expect(found.ended == .completed, "\(found.failure ?? "")")
        #expect(found.lost == 0 && found.verify.duplicated == 0)
        let outages = try #require(found.outages)
        // The second of each is on the node that stays.
        #expect(outages.map(\.connection).sorted() == ["consumer 0", "producer 0"])
        for outage in outages {
            #expect(outage.from == from && outage.to == to)
            #expect(0...3 ~= outage.at)
            let (connected, resumed) = (try #require(outage.connected), try #require(outage.resumed))
            #expect(connected > 0 && connected <= resumed && resumed < 30)
        }
        let lines = RunText(style: .plain).summary(found)
        #expect(lines.contains { $0.contains("producer 0") && $0.contains("\(from) → \(to)") })
        let page = try HTMLReport(found).page()
        #expect(page.contains("consumer 0 was lost") && page.contains("producer 0 was lost"))
    }

    @Test("A connection is made again to the node behind the one that was lost, and not to that one while it is frozen")
    func nextNode() async throws {
        try await Tool.withBroker { port in
            let proxies = try (0..<3).map { _ in try TestProxy(to: port) }
            defer { for proxy in proxies { proxy.close() } }
            let connector = Connector(broker: BrokerUnderTest(uris: proxies.map(\.uri)), id: "test")
            for turn in [1, 2, 0, 1] {
                let connection = try await connector.connect("producer 1", number: 1, avoidsLast: true)
                #expect(connector.nodes["producer 1"] == "127.0.0.1:\(proxies[turn].port)")
                connection.abort()
            }
            // Connections that come and go take their turns.
            for number in [0, 0, 2] {
                let connection = try await connector.connect("churn", number: number)
                #expect(connector.nodes["churn"] == "127.0.0.1:\(proxies[number].port)")
                connection.abort()
            }
        }
    }

    @Test("A queue that is deleted under a consumer is made again, and what it held is counted as lost")
    func deletedQueue() async throws {
        try await Tool.withBroker { port in
            let proxy = try TestProxy(to: port)
            defer { proxy.close() }
            var options = InstrumentTests.options("both", rate: 500, time: 2)
            (options.reconnects, options.consumerWork) = (true, 0.001)
            async let running = Self.run(options, uris: [proxy.uri]).run()
            while proxy.publishes < 100 { try await Task.sleep(for: .milliseconds(5)) }
            let connection = try await AMQPConnection.connect(
                AMQPClientConfiguration(uri: "amqp://guest:guest@127.0.0.1:\(port)")
            )
            try await connection.withChannel { try await $0.deleteQueue("amqp-bench-test") }
            try await connection.close()
            let report = try await running
            #expect(report.ended == .completed, "\(report.failure ?? "")")
            #expect(report.outages == nil)
            #expect(report.wholeRun.published > 100)
            // At least the messages before the deletion and after it.
            #expect(report.wholeRun.consumed > 0 && report.verify.arrived > 100)
        }
    }

    @Test("Without --reconnect a lost connection ends the run")
    func withoutReconnect() async throws {
        try await Tool.withBroker { port in
            let proxy = try TestProxy(to: port)
            let options = InstrumentTests.options("both", rate: 500, time: 10)
            Self.after(50, [proxy]) { proxy.close() }
            let report = try await Self.run(options, uris: [proxy.uri]).run()
            #expect(report.ended == .failed && report.outages?.isEmpty != false)
        }
    }

    @Test("A command of the shell runs at its time, and its end is in the result")
    func command() async throws {
        try await Tool.withDirectory { directory in
            let result = try await Tool.bash(
                "$TOOL -r 200 --time 1s --warmup 200ms --json r.json --fault-command 'echo struck; exit 3'@300ms",
                in: directory
            )
            #expect(result.status == 0)
            #expect(result.output.contains("struck") && result.output.contains("no connection was lost"))
            guard case .run(let report) = try StoredResult.read(directory + "/r.json") else {
                Issue.record("no run")
                return
            }
            let command = try #require(report.faultCommand)
            #expect(command.status == 3 && command.at >= 0.29 && command.seconds > 0)
            #expect(report.options.reconnects == true)
            #expect(report.findings.contains { $0.name == "fault command" && $0.isBad && $0.text.contains("exit 3") })
        }
    }

    @Test("A command that a run did not get to is named")
    func commandTooLate() async {
        let stop = StopFlag()
        stop.set()
        let command = FaultCommand(command: "exit 1", start: 3600)
        #expect(await command.run(after: 0, until: stop) == nil)
        var report = Report.example()
        report.options.faultCommand = command
        #expect(RunText(style: .plain).outages(report) == ["  command    'exit 1' did not run: the run ended before"])
    }

    @Test(
        "A command ends at the last @",
        arguments: [
            ("docker kill rabbit2@5s", "docker kill rabbit2", 5.0),
            ("ssh root@host reboot@500ms", "ssh root@host reboot", 0.5),
        ]
    )
    func reads(_ text: String, _ command: String, _ start: Double) {
        #expect(FaultCommand(argument: text) == FaultCommand(command: command, start: start))
    }

    @Test(
        "A command without a time, or nothing to run, is refused",
        arguments: ["", "@5s", "kill x", "kill@", "a@b@c"]
    )
    func refuses(_ text: String) {
        #expect(FaultCommand(argument: text) == nil)
    }

    @Test("An outage that did not end says so")
    func endless() {
        let outage = Outage(lost: 3_000_000_000, from: "a:1")
        let report = Report.Outage(outage, connection: "producer 0", start: 1_000_000_000)
        #expect(
            RunText(style: .plain).outage(report)
                == "at 2.000 s   connected after never   first message after never   a:1"
        )
    }
}
