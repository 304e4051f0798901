// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Testing

// The link between a client and a node of RabbitMQ: it delays, is cut in the middle of a frame, is half closed, passes
// nothing on, stalls, and is reset a thousand times.

@Suite(
    "Faults of the link to a node",
    .enabled(if: FaultStage.scripts != nil, FaultStage.isMissing),
    .serialized,
    .timeLimit(.minutes(15))
)
struct NodeLinkFaultTests {
    private static func withProxy(
        _ name: String,
        _ body: (FaultProxy, AMQPClientConfiguration) async throws -> Void
    ) async throws {
        try await Node.withNode(name) { _, configuration in
            try await FaultProxy.withProxy(to: configuration.addresses[0].port) { proxy in
                var configuration = configuration
                configuration.addresses = [.host("127.0.0.1", port: proxy.port)]
                try await body(proxy, configuration)
            }
        }
    }

    /// The fault of the link, its duration, and the permitted stall of both sides.
    static let faults: [(String, FaultProxy.Fault, Duration)] = [
        ("delays of 50 ms", .delay(.milliseconds(50)), .seconds(4)),
        ("one octet at a time", .slice, .seconds(4)),
        ("cut in the middle of a frame", .cut(after: 1003, resets: false), .seconds(2)),
        ("cut in the middle of another", .cut(after: 1010, resets: false), .seconds(2)),
        ("reset in the middle of a frame", .cut(after: 1021, resets: true), .seconds(2)),
        ("half closed", .halfClose, .seconds(2)),
        ("nothing passed on", .swallow, .seconds(14)),
        ("nothing read", .stall, .seconds(14)),
    ]

    @Test("Whatever the link does, all that is published comes, and both sides work again when it ends")
    func link() async throws {
        try await Self.withProxy("link") { proxy, configuration in
            let ledger = try await FaultWorkload.run(
                "link",
                configuration,
                topology: NodeFaultTests.topology,
                outbox: .octets(8 << 20)
            ) { ledger, _ in
                while ledger.arrived < 100 { try await Task.sleep(for: .milliseconds(20)) }
                for (name, fault, duration) in Self.faults {
                    ledger.fault(name, limit: nil)
                    proxy.set(fault)
                    try await Task.sleep(for: duration)
                    ledger.fault("end of: \(name)", limit: .seconds(10))
                    proxy.set(.none)
                    try await Task.sleep(for: .seconds(7))
                }
                for round in 1...3 {
                    ledger.fault("reset \(round)", limit: .seconds(10))
                    proxy.resetAll()
                    try await Task.sleep(for: .seconds(2))
                }
            }
            ledger.check()
            #expect(ledger.arrived == ledger.confirmed)
        }
    }

    @Test("A thousand resets in a row leave nothing behind: no descriptor, no thread, no memory")
    func reconnects() async throws {
        try await Self.withProxy("reconnects") { proxy, original in
            var configuration = original
            configuration.recovery.initialDelay = .milliseconds(1)
            configuration.recovery.maximumDelay = .milliseconds(50)
            try await AMQPClient.withClient(configuration, topology: NodeFaultTests.topology) { client in
                let seen = SeenBodies()
                let consuming = Task {
                    try await client.consume(FaultWorkload.queue, prefetch: 10) { deliveries in
                        for try await delivery in deliveries {
                            seen.add(delivery.body.string)
                            try delivery.ack()
                        }
                    }
                }
                try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
                    func roundTrip(_ round: Int) async throws {
                        try await publisher.publish(AMQPMessage("\(round)"), to: .queue(FaultWorkload.queue))
                        while !seen.all.contains("\(round)") {
                            try await Task.sleep(for: .milliseconds(1))
                        }
                    }
                    try await roundTrip(0)
                    var usage: [ProcessUsage] = []
                    for round in 1...1000 {
                        var events = client.events.makeAsyncIterator()
                        #expect(proxy.resetAll() >= 2)
                        var recovered: Set<AMQPConnectionRole> = []
                        while recovered.count < 2, let event = await events.next(isolation: nil) {
                            if case .recovered = event.kind { recovered.insert(event.connection) }
                        }
                        try await roundTrip(round)
                        guard round.isMultiple(of: 100) else { continue }
                        seen.forget()
                        usage.append(ProcessUsage.now)
                        FaultStage.report("reconnects: \(round): \(ProcessUsage.now)")
                    }
                    let (first, last) = (usage[1], usage[9])
                    #expect(last.descriptors <= first.descriptors)
                    #expect(last.threads <= first.threads)
                    let perReconnect = Double(last.heap - first.heap) / 800
                    FaultStage.report("reconnects: heap grew by \(perReconnect) octets per round of two reconnects")
                    #expect(perReconnect < 256)
                    #expect(last.resident - first.resident < 800 * 1024)
                }
                consuming.cancel()
                _ = await consuming.result
            }
        }
    }
}
