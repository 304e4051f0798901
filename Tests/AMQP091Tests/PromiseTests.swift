// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollNetworking
import Glibc
import Testing

// PromiseTests: the client's first promise as a model: random publishes of every kind, good and bad, and a consumer, while
// the broker refuses, returns, nacks, closes channels and connections and drops links, octets are damaged, and parts of the
// topology are deleted. Whatever happens: what was accepted is confirmed, or reported, or still held; nothing confirmed is
// missing; nothing refused or not processed is there; nothing is reported twice; nothing comes twice as new; no call outlives
// its deadline; each end has a reason that was ordered. A failure prints its seed.
// AMQP091_PROMISE_RUNS runs, 1,000 by default; AMQP091_PROMISE_SEED runs one seed alone.
// A single run is in PromiseRun, its consumer in PromiseConsumer.

@Suite("Promise", .timeLimit(.minutes(240)))
struct PromiseTests {
    static func number(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }

    static let lanes = 4

    static let topology = AMQPTopology {
        $0.exchange("e", type: .topic)
        $0.exchange("inside", type: .fanout, isInternal: true)
        $0.queue("dead")
        $0.queue("q", as: .classic(deadLetter: .queue("dead")), boundTo: "e", routingKey: "#")
    }

    @Test("Accepted is confirmed, reported or held, through random endings", arguments: 0..<UInt64(lanes))
    func promise(lane: UInt64) async throws {
        if let seed = Self.number("AMQP091_PROMISE_SEED") {
            guard lane == seed % UInt64(Self.lanes) else { return }
            return try await Self.run([seed])
        }
        let runs = Self.number("AMQP091_PROMISE_RUNS") ?? 1000
        try await Self.run(stride(from: lane, to: runs, by: Self.lanes))
    }

    static func run(_ seeds: some Sequence<UInt64>) async throws {
        var options = InProcessBroker.Options()
        options.maximumMessageSize = 1000
        try await InProcessBroker.withBroker(options) { broker in
            let port = try #require(broker.port)
            try await FaultProxy.withProxy(to: port) { proxy in
                var direct = AMQPClientTests.quick(broker)
                direct.recovery.maximumDelay = .milliseconds(5)
                direct.maximumBodySize = 500
                var proxied = direct
                proxied.addresses = [.host("127.0.0.1", port: proxy.port)]
                let reader = try await broker.connect()
                try await AMQPClient.withClient(direct, topology: Self.topology) { direct in
                    try await AMQPClient.withClient(proxied, topology: Self.topology) { proxied in
                        for seed in seeds {
                            let channel = try await reader.openChannel()
                            // Every eighth run goes through the proxy, which damages octets.
                            let isProxied = seed % 8 == 7
                            var run = PromiseRun(
                                seed: seed,
                                broker: broker,
                                proxy: isProxied ? proxy : nil,
                                client: isProxied ? proxied : direct,
                                reader: channel
                            )
                            try await run.run()
                            try await channel.close()
                            if !run.isKept { break }
                        }
                    }
                }
                try await reader.close()
            }
        }
    }
}
