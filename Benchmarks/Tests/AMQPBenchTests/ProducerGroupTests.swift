// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Synchronization
import Testing

@testable import AMQPBench

// ProducerGroupTests: many producers on one schedule over an in-process broker, told by what they counted.

@Suite("Producers on a schedule", .timeLimit(.minutes(1)))
struct ProducerGroupTests {
    static func options(producers: Int, count: Int, rate: Double, confirms: Int = 100) -> RunOptions {
        var options = RunOptions(command: "latency", warmup: 0, interval: 1)
        options.producers = producers
        options.connections = 3
        options.count = count
        options.rate = rate
        options.isOpenLoop = true
        options.confirms = confirms
        options.size = 64
        options.verify = true
        return options
    }

    static func load(_ options: RunOptions, _ broker: InProcessBroker) async throws -> Load {
        try await AMQPConnection.withConnection(broker.configuration) { connection in
            try await connection.withChannel { _ = try await $0.declareQueue("q") }
        }
        var load = Load(options: options, mark: 7)
        try await load.prepare(queues: ["q"]) { _ in try await AMQPConnection.connect(broker.configuration) }
        return load
    }

    static func publish(_ load: Load) async throws {
        try await withThrowingDiscardingTaskGroup { group in
            for publish in load.publishing { group.addTask { try await publish(MonotonicClock.now) } }
        }
    }

    @Test("Few producers have a task each; many share one for each loop", arguments: [1, 7, 8, 200])
    func tasks(_ producers: Int) async throws {
        try await InProcessBroker.withBroker { broker in
            // Windows that are never full: a producer that waits falls behind its share.
            let options = Self.options(producers: producers, count: 1000, rate: 50_000, confirms: 1000)
            let load = try await Self.load(options, broker)
            #expect((load.publishing.count == producers) == (producers < ProducerGroup.smallest))
            try await Self.publish(load)
            #expect(load.meters.published.sum == 1000)
            #expect(load.snapshot(broker: nil).counts.confirmed == 1000)
            #expect(await broker.depth(of: "q") == 1000)
            // Those of a group take turns: none publishes much more than its share.
            for producer in load.producers where producers >= ProducerGroup.smallest {
                #expect(producer.published.current <= UInt64(1000 / producers + 2))
            }
            load.abort()
        }
    }

    @Test("Producers whose windows are full catch up when confirms come, and all is published once")
    func catchUp() async throws {
        try await InProcessBroker.withBroker { broker in
            await broker.confirm(.hold)
            let options = Self.options(producers: 20, count: 400, rate: 100_000, confirms: 2)
            let load = try await Self.load(options, broker)
            async let publishing: Void = Self.publish(load)
            try await broker.waitUntil(depthOf: "q", is: 40)
            await broker.confirm(.release)
            try await publishing
            #expect(load.meters.published.sum == 400)
            #expect(await broker.depth(of: "q") == 400)
            load.abort()
        }
    }

    @Test("A stopped run ends, also while producers wait for the broker")
    func stop() async throws {
        try await InProcessBroker.withBroker { broker in
            var options = Self.options(producers: 20, count: 1, rate: 100_000, confirms: 2)
            options.count = nil
            await broker.confirm(.hold)
            let load = try await Self.load(options, broker)
            async let publishing: Void = Self.publish(load)
            try await broker.waitUntil(depthOf: "q", is: 40)
            load.stop.set()
            await broker.confirm(.release)
            try await publishing
            #expect(load.snapshot(broker: nil).inFlight == 0)
            #expect(load.meters.published.sum == UInt64(await broker.depth(of: "q") ?? 0))
            load.abort()
        }
    }
}
