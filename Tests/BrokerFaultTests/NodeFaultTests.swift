// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

// NodeFaultTests: one node of RabbitMQ that crashes, freezes, runs out of memory, closes connections, and deletes a queue
// under its consumer.

@Suite(
    "Faults of a node",
    .enabled(if: FaultStage.scripts != nil, FaultStage.isMissing),
    .serialized,
    .timeLimit(.minutes(10))
)
struct NodeFaultTests {
    static let topology = AMQPTopology { $0.queue(FaultWorkload.queue) }

    /// A workload over one node.
    private static func run(
        _ name: String,
        _ faults: (Node, FaultLedger, AMQPClient) async throws -> Void
    ) async throws {
        try await Node.withNode(name) { node, configuration in
            let ledger = try await FaultWorkload.run(
                name,
                configuration,
                topology: Self.topology,
                outbox: .octets(8 << 20)
            ) { ledger, client in
                while ledger.arrived < 100 { try await Task.sleep(for: .milliseconds(20)) }
                try await faults(node, ledger, client)
            }
            ledger.check()
            #expect(ledger.arrived == ledger.confirmed)
        }
    }

    @Test("A crash and a start on the same data, twice")
    func kill() async throws {
        try await Self.run("kill") { node, ledger, _ in
            // RabbitMQ writes the log of its database of queues late: one that was declared just now would be gone.
            try await node("ctl eval 'mnesia:sync_log().'")
            for round in 1...2 {
                ledger.fault("kill \(round)", limit: nil)
                try await node("kill")
                try await Task.sleep(for: .seconds(2))
                try await node("restart")
                ledger.fault("started \(round)", limit: .seconds(10))
                try await Task.sleep(for: .seconds(5))
            }
        }
    }

    @Test("A freeze that is longer than the heartbeats allow, and one that is shorter")
    func freeze() async throws {
        try await Self.run("freeze") { node, ledger, client in
            var events = client.events.makeAsyncIterator()
            // The shorter one is also shorter than a confirm may take.
            for seconds in [1, 14] {
                ledger.fault("freeze for \(seconds) s", limit: nil)
                try await node("freeze")
                try await Task.sleep(for: .seconds(seconds))
                ledger.fault("thaw after \(seconds) s", limit: .seconds(10))
                try await node("thaw")
                try await Task.sleep(for: .seconds(5))
            }
            // Only the longer one cost a connection.
            var losses: [AMQPConnectionRole: Int] = [:]
            var recoveries = 0
            while recoveries < 2, let event = await events.next(isolation: nil) {
                if case .disconnected = event.kind { losses[event.connection, default: 0] += 1 }
                if case .recovered = event.kind { recoveries += 1 }
            }
            #expect(losses == [.publishing: 1, .consuming: 1])
        }
    }

    @Test("A memory alarm blocks the publisher only; no connection is lost, and everything continues after it")
    func alarm() async throws {
        try await Self.run("alarm") { node, ledger, client in
            var events = client.events.makeAsyncIterator()
            ledger.fault("memory alarm", limit: nil)
            try await node("ctl set_vm_memory_high_watermark 0.00001")
            // Longer than a confirm may take otherwise.
            try await Task.sleep(for: .seconds(10))
            // A consumer's connection answers meanwhile.
            try await client.withChannel { _ = try await $0.inspectQueue(FaultWorkload.queue) }
            ledger.fault("end of the alarm", limit: .seconds(10))
            try await node("ctl set_vm_memory_high_watermark 0.4")
            var seen: [AMQPClientEvent.Kind] = []
            while seen.last != .unblocked, let event = await events.next(isolation: nil) { seen.append(event.kind) }
            #expect(seen == [.blocked("low on memory"), .unblocked])
            try await Task.sleep(for: .seconds(3))
        }
    }

    @Test("Connections that the management side closes are made again, and the reason is told")
    func closed() async throws {
        try await Self.run("close") { node, ledger, client in
            for round in 1...3 {
                var events = client.events.makeAsyncIterator()
                ledger.fault("close \(round)", limit: .seconds(10))
                try await node("ctl close_all_connections 'maintenance \(round)'")
                var reasons: [AMQPConnectionRole: AMQPError] = [:]
                var recovered: Set<AMQPConnectionRole> = []
                while recovered.count < 2, let event = await events.next(isolation: nil) {
                    if case .disconnected(let error) = event.kind { reasons[event.connection] = error }
                    if case .recovered = event.kind { recovered.insert(event.connection) }
                }
                #expect(reasons.count == 2)
                for reason in reasons.values {
                    #expect(reason.replyCode == .connectionForced)
                    #expect(reason.replyText.contains("maintenance \(round)"), "\(reason)")
                }
                try await Task.sleep(for: .seconds(1))
            }
        }
    }

    @Test("A queue of the topology that is deleted under its consumer is declared again, and the sequence continues")
    func queueDeleted() async throws {
        try await Node.withNode("deleted") { node, configuration in
            try await AMQPClient.withClient(configuration, topology: Self.topology) { client in
                let seen = SeenBodies()
                let consuming = Task {
                    try await client.consume(FaultWorkload.queue) { deliveries in
                        for try await delivery in deliveries {
                            seen.add(delivery.body.string)
                            try delivery.ack()
                        }
                    }
                }
                try await client.withPublisher { publisher in
                    try await publisher.publish("0", to: .queue(FaultWorkload.queue), mandatory: true)
                    while seen.all.isEmpty { try await Task.sleep(for: .milliseconds(10)) }
                    for round in 1...3 {
                        var events = client.events.makeAsyncIterator()
                        FaultStage.report("deleted: queue deleted, round \(round)")
                        try await node("ctl delete_queue \(FaultWorkload.queue)")
                        while let event = await events.next(isolation: nil) {
                            if case .consumerRecovered(FaultWorkload.queue) = event.kind { break }
                        }
                        try await publisher.publish("\(round)", to: .queue(FaultWorkload.queue), mandatory: true)
                        while seen.all.count <= round { try await Task.sleep(for: .milliseconds(10)) }
                    }
                }
                #expect(seen.all == ["0", "1", "2", "3"])
                consuming.cancel()
                _ = await consuming.result
            }
        }
    }
}
