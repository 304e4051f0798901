// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import ArgumentParser
import Testing

@testable import AMQPBench

// OperationRunTests: runs of `rpc` and `churn` against an in-process broker, told by what they counted.

@Suite("Runs of operations", .timeLimit(.minutes(1)))
struct OperationRunTests {
    static func report(_ arguments: [String], on broker: InProcessBroker) async throws -> Report {
        try await self.report(arguments, uri: broker.uri)
    }

    static func report(_ arguments: [String], uri: String) async throws -> Report {
        let options: RunOptions
        if arguments[0] == "rpc" {
            options = try RPC.parse(Array(arguments.dropFirst())).options()
        } else {
            options = try Churn.parse(Array(arguments.dropFirst())).options()
        }
        let session = Session(
            broker: BrokerUnderTest(uris: [uri]),
            interruption: Interruption(),
            screen: Screen(usesStandardError: false, color: .never),
            id: "t"
        )
        return try await OperationRun(options, session: session, id: "t", detail: .nothing).run()
    }

    @Test(
        "So many are done as were asked for, and nothing stays behind",
        arguments: [
            ["rpc", "-C", "100"], ["rpc", "-C", "100", "-x", "3", "-y", "2", "-c", "8"],
            ["rpc", "-C", "50", "--rate", "5k"], ["churn", "-C", "20"],
            ["churn", "-C", "50", "--what", "channel", "-x", "3"],
            ["churn", "-C", "50", "--what", "queue"], ["churn", "-C", "20", "--what", "queue", "-r", "2k", "-x", "2"],
        ]
    )
    func counts(_ arguments: [String]) async throws {
        try await InProcessBroker.withBroker { broker in
            let report = try await Self.report(arguments, on: broker)
            #expect(report.ended == .completed)
            #expect(report.failure == nil)
            #expect(report.wholeRun.published == UInt64(arguments[2]) ?? 0)
            #expect(report.verify.corrupted == 0)
            try await broker.waitUntilAllHaveGone()
            #expect(await broker.queues().isEmpty)
        }
    }

    @Test("A run whose broker goes away is reported as failed, with what it counted")
    func lost() async throws {
        try await InProcessBroker.withBroker { broker in
            async let report = Self.report(["rpc", "-z", "1h"], on: broker)
            try await broker.waitUntil(queue: "amqp-bench-t") { ($0?.unacknowledged ?? 0) > 0 }
            await broker.dropConnections("a cut cable")
            let found = try await report
            #expect(found.ended == .failed)
            #expect(found.failure?.isEmpty == false)
        }
    }
}
