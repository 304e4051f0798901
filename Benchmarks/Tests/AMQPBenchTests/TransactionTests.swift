// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import ArgumentParser
import Testing

@testable import AMQPBench

// TransactionTests: producers and consumers that commit, on an in-process broker.

@Suite("Transactions of a run", .timeLimit(.minutes(1)))
struct TransactionTests {
    private static func run(_ options: RunOptions, _ uri: String) async throws -> Report {
        try await LoadRun(
            options: options,
            broker: BrokerUnderTest(uris: [uri]),
            id: "test",
            interruption: Interruption(),
            screen: Screen(usesStandardError: true, color: .never),
            detail: .nothing
        ).run()
    }

    @Test(
        "Every message is committed, timed and consumed, the rest that fills no transaction too",
        arguments: [[], ["-r", "2k"], ["-r", "2k", "-x", "10"]]
    )
    func commits(_ more: [String]) async throws {
        try await InProcessBroker.withBroker { broker in
            let options = try Both.parse(["-C", "205", "-m", "20", "-n", "30", "-A", "7", "--verify"] + more).options()
            let report = try await Self.run(options, broker.uri)
            #expect(report.ended == .completed && report.isSound)
            #expect(report.wholeRun.confirmed == 205 && report.wholeRun.consumed == 205)
            #expect(report.latency.confirm?.count == 205 && report.lost == 0)
        }
    }

    @Test("The first message of a transaction waits for the last: it counts from when it was due")
    func timed() async throws {
        try await InProcessBroker.withBroker { broker in
            let options = try Both.parse(["-C", "40", "-m", "20", "-r", "100"]).options()
            let report = try await Self.run(options, broker.uri)
            // Twenty messages, 10 ms from one to the next.
            #expect((report.latency.confirm?.max ?? 0) >= 185_000)
            #expect((report.latency.confirm?.p50 ?? 0) >= 80_000)
        }
    }

    @Test("What the consumers did not commit is in the queue again")
    func acknowledgements() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                try await connection.withChannel { channel in
                    try await channel.declareQueue("q")
                    for _ in 0..<50 { try await channel.publish("x", to: .queue("q")) }
                    let options = try Consume.parse(["--queue", "q", "-C", "50", "-n", "20", "-A", "6"]).options()
                    let report = try await Self.run(options, broker.uri)
                    #expect(report.wholeRun.consumed == 50)
                    #expect(try await channel.inspectQueue("q").messageCount == 0)
                }
            }
        }
    }
}
