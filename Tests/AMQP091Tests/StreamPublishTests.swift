// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import EpollConcurrency
import EpollNetworking
import Testing

// StreamPublishTests: publish(stream:) whose sequence waits for what its outcomes bring about, for the publisher of a
// connection and that of a client.

@Suite("Publishing a stream", .timeLimit(.minutes(1)))
struct StreamPublishTests {
    enum Kind: CaseIterable { case connection, client }

    /// A publisher of each kind; the queues "in" and "out" are there.
    static func withPublisher(
        _ kind: Kind,
        _ body: (InProcessBroker, AMQPConnection, AMQPPublisher) async throws -> Void
    ) async throws {
        try await InProcessBroker.withBroker { broker in
            let connection = try await broker.connect()
            try await connection.withChannel { channel in
                for queue in ["in", "out"] { _ = try await channel.declareQueue(queue) }
            }
            switch kind {
            case .connection:
                try await connection.withPublisher { try await body(broker, connection, $0) }
            case .client:
                try await AMQPClient.withClient(AMQPClientTests.quick(broker)) { client in
                    try await client.withPublisher { try await body(broker, connection, $0) }
                }
            }
            try await connection.close()
        }
    }

    /// Read and unacknowledged messages; shared by a sequence and `onOutcome`, hence not sendable.
    final class Unacknowledged {
        var deliveries: [AMQPDelivery] = []
    }

    /// Yields the messages of a consumer and keeps their deliveries.
    struct Relay: AsyncSequence {
        let deliveries: AMQPDeliveries
        let unacknowledged: Unacknowledged
        let count: Int

        struct AsyncIterator: AsyncIteratorProtocol {
            var base: AMQPDeliveries.AsyncIterator
            let unacknowledged: Unacknowledged
            var left: Int

            mutating func next() async throws -> AMQPMessage? {
                guard self.left > 0, let delivery = try await self.base.next() else { return nil }
                self.left -= 1
                self.unacknowledged.deliveries.append(delivery)
                return AMQPMessage(delivery.body.copy())
            }
        }

        func makeAsyncIterator() -> AsyncIterator {
            AsyncIterator(
                base: self.deliveries.makeAsyncIterator(),
                unacknowledged: self.unacknowledged,
                left: self.count
            )
        }
    }

    @Test(
        "A relay that acknowledges with the outcome moves every message, whatever the prefetch and the window",
        arguments: Kind.allCases,
        [(1, nil), (1, 1), (100, nil), (100, 1), (7, 50), (50, 7)] as [(UInt16, Int?)]
    )
    func relay(_ kind: Kind, _ limits: (prefetch: UInt16, maxInFlight: Int?)) async throws {
        try await Self.withPublisher(kind) { broker, connection, publisher in
            let count = 500
            try await connection.withPublisher { own in
                for number in 0..<count { try await own.send("\(number)", to: .queue("in")) }
            }
            try await connection.withChannel { channel in
                try await channel.setPrefetch(count: limits.prefetch)
                try await channel.consume("in") { deliveries in
                    let unacknowledged = Unacknowledged()
                    let relay = Relay(deliveries: deliveries, unacknowledged: unacknowledged, count: count)
                    let summary = try await publisher.publish(
                        stream: relay,
                        to: .queue("out"),
                        maxInFlight: limits.maxInFlight
                    ) { outcome in
                        #expect(outcome.isConfirmed)
                        _ = try? unacknowledged.deliveries.removeFirst().ack()
                    }
                    #expect(summary.confirmed == count)
                    #expect(unacknowledged.deliveries.isEmpty)
                }
                #expect(await broker.depth(of: "in") == 0)
                #expect(await broker.depth(of: "out") == count)
            }
        }
    }

    @Test("An outcome is told while the sequence has nothing more to give", arguments: Kind.allCases)
    func toldAtOnce(_ kind: Kind) async throws {
        try await Self.withPublisher(kind) { _, _, publisher in
            let (feed, yield) = AsyncStream.makeStream(of: AMQPMessage.self)
            yield.yield("0")
            var told = 0
            let summary = try await publisher.publish(stream: feed, to: .queue("out"), maxInFlight: 50) { _ in
                told += 1
                if told < 100 { yield.yield("\(told)") } else { yield.finish() }
            }
            #expect(told == 100)
            #expect(summary.confirmed == 100)
        }
    }

    @Test("On an actor, its sequence and onOutcome run on it", arguments: Kind.allCases)
    @MainActor
    func onAnActor(_ kind: Kind) async throws {
        try await Self.withPublisher(kind) { _, _, publisher in
            try await Self.onMainActor(publisher)
        }
    }

    @MainActor
    private static func onMainActor(_ publisher: AMQPPublisher) async throws {
        let (feed, yield) = AsyncStream.makeStream(of: AMQPMessage.self)
        yield.yield("0")
        var told = 0
        _ = try await publisher.publish(stream: feed, to: .queue("out")) { _ in
            MainActor.preconditionIsolated()
            told += 1
            if told < 10 { yield.yield("\(told)") } else { yield.finish() }
        }
        #expect(told == 10)
    }

    @Test("Outcomes are told once each and in order, also of what cannot be encoded", arguments: Kind.allCases)
    func inOrder(_ kind: Kind) async throws {
        try await Self.withPublisher(kind) { _, _, publisher in
            let bad = AMQPMessage("", properties: BasicProperties(expiration: "soon"))
            let feed = AsyncStream<AMQPMessage> { yield in
                for number in 0..<300 { yield.yield(number.isMultiple(of: 10) ? bad : "\(number)") }
                yield.finish()
            }
            var outcomes: [AMQPPublishOutcome] = []
            let summary = try await publisher.publish(stream: feed, to: .queue("out")) { outcomes.append($0) }
            #expect(outcomes.count == 300)
            for (number, outcome) in outcomes.enumerated() {
                #expect(outcome.isConfirmed == !number.isMultiple(of: 10))
            }
            #expect(summary.notSent == 30)
            #expect(summary.confirmed == 270)
        }
    }

    @Test(
        "What is not confirmed in its time is unknown, and all of it together takes that time once",
        arguments: Kind.allCases
    )
    func oneDeadline(_ kind: Kind) async throws {
        try await Self.withPublisher(kind) { broker, _, publisher in
            // The connection is there before the time counts.
            try await publisher.publish("first", to: .queue("out"))
            await broker.confirm(.hold)
            let feed = AsyncStream<AMQPMessage> { yield in
                for number in 0..<100 { yield.yield("\(number)") }
                yield.finish()
            }
            let start = ContinuousClock.now
            var outcomes: [AMQPPublishOutcome] = []
            let summary = try? await publisher.publish(
                stream: feed,
                to: .queue("out"),
                timeout: .milliseconds(200)
            ) { outcomes.append($0) }
            #expect(outcomes.count == 100)
            for outcome in outcomes {
                guard case .unknown(let reason) = outcome else {
                    Issue.record("\(outcome)")
                    continue
                }
                #expect(reason.code == .timedOut)
            }
            // One after the other they would take 20 s.
            #expect(ContinuousClock.now - start < .seconds(15))
            #expect(kind == .connection || summary?.unknown == 100)
            await broker.confirm(.release)
            try await publisher.waitForConfirms()
        }
    }

    @Test("A cancelled task ends the stream, and every message taken is told of", arguments: Kind.allCases)
    func cancelled(_ kind: Kind) async throws {
        try await Self.withPublisher(kind) { broker, _, publisher in
            await broker.confirm(.hold)
            let told = Locked(0)
            let (taken, take) = AsyncStream.makeStream(of: Void.self)
            let task = Task {
                let (feed, yield) = AsyncStream.makeStream(of: AMQPMessage.self)
                for number in 0..<20 { yield.yield("\(number)") }
                let counted = feed.map { message in
                    take.yield()
                    return message
                }
                _ = try await publisher.publish(stream: counted, to: .queue("out"), maxInFlight: 5) { _ in
                    told.withLock { $0 += 1 }
                }
            }
            var iterator = taken.makeAsyncIterator()
            for _ in 0..<5 { await iterator.next() }
            task.cancel()
            _ = await task.result
            #expect(told.withLock { $0 } >= 5)
            await broker.confirm(.release)
            try await publisher.waitForConfirms()
        }
    }

    @Test("A stream over lost links has one outcome for each message, in order")
    func overLostLinks() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(AMQPClientTests.quick(broker), topology: AMQPClientTests.orders) { client in
                try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                    let feed = AsyncStream<AMQPMessage> { yield in
                        for number in 0..<300 { yield.yield("\(number)") }
                        yield.finish()
                    }
                    async let dropping: Void = { () async throws in
                        for depth in [50, 150] {
                            try await broker.waitUntil(queue: "orders") { $0?.ready ?? 0 >= depth }
                            await broker.dropConnections()
                        }
                    }()
                    var outcomes: [AMQPPublishOutcome] = []
                    let summary = try await publisher.publish(stream: feed, to: .queue("orders"), maxInFlight: 20) {
                        outcomes.append($0)
                    }
                    try await dropping
                    #expect(outcomes == Array(repeating: .confirmed, count: 300))
                    #expect(summary.confirmed == 300)
                }
            }
        }
    }
}
