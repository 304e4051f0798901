// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import ArgumentParser
import Foundation
import Testing

@testable import AMQPBench

// PublishingOptionsTests: what the options of a run make of its messages, exchanges and consumers, seen by another client.

@Suite("Options on the wire", .timeLimit(.minutes(1)))
struct PublishingOptionsTests {
    private static func run(_ options: RunOptions, on broker: InProcessBroker) async throws -> Report {
        try await LoadRun(
            options: options,
            broker: BrokerUnderTest(uris: [broker.uri]),
            id: "test",
            interruption: Interruption(),
            screen: Screen(usesStandardError: true, color: .never),
            detail: .nothing
        ).run()
    }

    @Test("Messages carry the properties that were given, through an exchange of the type that was given")
    func properties() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                try await connection.withChannel { channel in
                    try await channel.declareQueue("q")
                    let arguments = [
                        "--queue", "q", "-C", "3", "--exchange", "e", "--exchange-type", "topic", "--routing-key",
                        "a.b",
                        "--property", "contentType=text/plain", "--property", "priority=7", "--property", "app-id=x",
                        "--header", "k=1",
                    ]
                    let report = try await Self.run(try Publish.parse(arguments).options(), on: broker)
                    #expect(report.wholeRun.confirmed == 3)
                    let message = try #require(try await channel.get("q", acknowledgement: .automatic))
                    let properties = try message.properties()
                    #expect(message.routingKey == "a.b")
                    #expect(properties.contentType == "text/plain" && properties.appID == "x")
                    #expect(properties.priority == 7)
                    #expect(properties.headers?["k"] != nil)
                }
            }
        }
    }

    @Test("Producers and consumers have the channels that each was given")
    func channels() async throws {
        try await InProcessBroker.withBroker { broker in
            let report = try await Self.run(
                try Both.parse(["-C", "60", "-x", "2", "-X", "3", "-Y", "2", "--verify"]).options(),
                on: broker
            )
            #expect(report.wholeRun.consumed == 60 && report.isSound)
            #expect(report.verify.publishers?.count == 6 && report.verify.consumers?.count == 2)
        }
    }

    @Test("Polled queues are emptied, every message is accounted for, and the interval is kept")
    func polling() async throws {
        try await InProcessBroker.withBroker { broker in
            for arguments in [["--polling", "-y", "2"], ["--polling", "--auto-ack"]] {
                let report = try await Self.run(
                    try Both.parse(["-C", "300", "--verify", "--drain", "60s"] + arguments).options(),
                    on: broker
                )
                #expect(report.wholeRun.consumed == 300 && report.lost == 0 && report.isSound)
            }
            let paced = try await Self.run(
                try Both.parse(["-C", "10", "--polling", "--polling-interval", "40ms", "-r", "10k"]).options(),
                on: broker
            )
            // The last message waits for nine intervals at least.
            #expect(paced.wholeRun.consumed == 10 && (paced.latency.endToEnd?.max ?? 0) >= 350_000)
        }
    }

    @Test("Queues of a pattern and of a file are made, used in turn, and stay")
    func queuesWithNames() async throws {
        try await InProcessBroker.withBroker { broker in
            try await Tool.withDirectory { directory in
                try "perf-03\n\n perf-01 \nperf-02".write(
                    toFile: directory + "/queues",
                    atomically: true,
                    encoding: .utf8
                )
                let pattern = ["--queue-pattern", "perf-%02d", "--queue-from", "1", "--queue-to", "3"]
                let report = try await Self.run(
                    try Publish.parse(["-C", "90", "-x", "3", "-r", "1k"] + pattern).options(),
                    on: broker
                )
                #expect(report.wholeRun.confirmed == 90)
                try await AMQPConnection.withConnection(broker.configuration) { connection in
                    try await connection.withChannel { channel in
                        var counts: [Int] = []
                        for name in ["perf-01", "perf-02", "perf-03"] {
                            counts.append(try await channel.inspectQueue(name).messageCount)
                        }
                        #expect(counts.reduce(0, +) == 90)
                        let consume = ["-C", "90", "-y", "3", "--queue-file", directory + "/queues"]
                        let taken = try await Self.run(try Consume.parse(consume).options(), on: broker)
                        #expect(taken.wholeRun.consumed == 90 && taken.isSound)
                        for name in ["perf-01", "perf-02", "perf-03"] {
                            #expect(try await channel.inspectQueue(name).messageCount == 0)
                        }
                    }
                }
            }
        }
    }

    @Test("Late consumers find what has come, and its latency counts the wait")
    func lateConsumers() async throws {
        try await InProcessBroker.withBroker { broker in
            let arguments = ["-C", "100", "-r", "1k", "-y", "2", "--consumer-start-delay", "400ms"]
            let report = try await Self.run(try Both.parse(arguments).options(), on: broker)
            #expect(report.wholeRun.consumed == 100 && report.lost == 0 && report.isSound)
            // The last message was due 300 ms before anybody subscribed.
            #expect((report.latency.endToEnd?.p50 ?? 0) >= 300_000)
        }
    }

    @Test("Consumers subscribe one second apart, and nothing is missing at the end")
    func slowStart() async throws {
        try await InProcessBroker.withBroker { broker in
            let arguments = ["-C", "40", "-r", "1k", "-y", "2", "--queues", "2", "-X", "2", "-S"]
            let report = try await Self.run(try Both.parse(arguments).options(), on: broker)
            #expect(report.wholeRun.consumed == 40 && report.lost == 0 && report.isSound)
            // Half of the messages were due within 40 ms, and waited for the second consumer.
            #expect((report.latency.endToEnd?.max ?? 0) >= 900_000)
        }
    }

    @Test("A queue is not idle before somebody takes from it")
    func lateIdle() async throws {
        try await InProcessBroker.withBroker { broker in
            _ = try await Self.run(try Publish.parse(["-C", "10", "--queue", "q"]).options(), on: broker)
            let arguments = ["--queue", "q", "--exit-when", "idle", "--consumer-start-delay", "1500ms", "-z", "20s"]
            let report = try await Self.run(try Consume.parse(arguments).options(), on: broker)
            #expect(report.wholeRun.consumed == 10)
        }
    }

    @Test("Producers that start at random publish all")
    func randomStarts() async throws {
        try await InProcessBroker.withBroker { broker in
            let arguments = ["-C", "400", "-x", "4", "--producer-random-start-delay", "100ms"]
            let report = try await Self.run(try Both.parse(arguments).options(), on: broker)
            #expect(report.wholeRun.consumed == 400 && report.isSound)
        }
    }

    @Test("Exclusive queues are consumed on one connection, and queues that go with their consumers are gone")
    func exclusiveAndAutoDelete() async throws {
        try await InProcessBroker.withBroker { broker in
            for arguments in [
                ["-E", "-y", "2", "--queues", "2"], ["--auto-delete"], ["-E", "--auto-delete", "--polling"],
            ] {
                let report = try await Self.run(
                    try Both.parse(["-C", "200", "--verify", "-x", "2"] + arguments).options(),
                    on: broker
                )
                #expect(report.wholeRun.consumed == 200 && report.lost == 0 && report.isSound, "\(arguments)")
            }
            _ = try await Self.run(
                try Both.parse(["-C", "5", "--queue", "gone", "--auto-delete"]).options(),
                on: broker
            )
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                let isThere = try await connection.queueExists("gone")
                #expect(!isThere)
            }
        }
    }

    @Test("A message that comes back again and again is timed once")
    func redelivered() async throws {
        try await InProcessBroker.withBroker { broker in
            let report = try await Self.run(
                try Both.parse(["-C", "50", "-r", "500", "--nack", "--requeue", "-A", "5"]).options(),
                on: broker
            )
            #expect(report.wholeRun.redelivered > 0)
            #expect((report.latency.endToEnd?.count ?? 0) <= 50)
        }
    }

    @Test("Consumers have the arguments that were given: one of a higher priority gets all")
    func consumerArguments() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                try await connection.withChannel { channel in
                    try await channel.declareQueue("q")
                    // Without a priority of the other they would take turns.
                    let deliveries = try await channel.deliveries(from: "q")
                    let arguments = ["--queue", "q", "-C", "20", "--consumer-arg", "x-priority=10"]
                    let report = try await Self.run(try Both.parse(arguments).options(), on: broker)
                    #expect(report.wholeRun.consumed == 20)
                    try await channel.cancel(deliveries)
                }
            }
        }
    }
}
