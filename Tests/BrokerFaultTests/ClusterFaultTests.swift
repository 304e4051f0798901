// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

// ClusterFaultTests: three nodes of RabbitMQ and a quorum queue, while the nodes are killed, frozen, restarted and cut off
// one after the other. Never two at a time: a quorum queue needs two of three.

@Suite(
    "Faults of a cluster",
    .enabled(if: FaultStage.scripts != nil, FaultStage.isMissing),
    .serialized,
    .timeLimit(.minutes(30))
)
struct ClusterFaultTests {
    static let topology = AMQPTopology { $0.queue(FaultWorkload.queue, as: .quorum()) }
    /// Time in which both sides work again after a fault.
    static let limit = Duration.seconds(10)

    @Test("With an outbox every message comes, in order but for what is delivered again, whatever becomes of a node")
    func outbox() async throws {
        try await Cluster.withCluster("outbox") { cluster, configuration in
            let ledger = try await FaultWorkload.run(
                "outbox",
                configuration,
                topology: Self.topology,
                outbox: .octets(8 << 20)
            ) { ledger, _ in try await Self.disturb(cluster, ledger) }
            ledger.check()
            #expect(ledger.arrived == ledger.confirmed)
            try #require(ledger.confirmed > Int(FaultStage.seconds) * 10)
        }
    }

    @Test("Without an outbox all that is confirmed comes, and what does not come was reported")
    func noOutbox() async throws {
        try await Cluster.withCluster("no-outbox") { cluster, configuration in
            let ledger = try await FaultWorkload.run(
                "no outbox",
                configuration,
                topology: Self.topology,
                outbox: .none
            ) { ledger, _ in try await Self.disturb(cluster, ledger) }
            ledger.check()
            try #require(ledger.confirmed > Int(FaultStage.seconds) * 10)
        }
    }

    @Test("A node that is cut off from the others, and comes back")
    func partitions() async throws {
        try await Cluster.withCluster("partition") { cluster, configuration in
            let ledger = try await FaultWorkload.run(
                "partition",
                configuration,
                topology: Self.topology,
                outbox: .octets(8 << 20)
            ) { ledger, client in
                try await Self.settle(cluster)
                // RabbitMQ 4 leaves a node that is cut off its clients: a consumer alone cannot tell it from an empty queue, and
                // follows a publisher only where both are at that node. RabbitMQ 3 closes their connections.
                let version = try await client.connection(.consuming).serverProperties["version"]?.stringValue
                let keepsClients = version.map { !$0.hasPrefix("3.") } ?? true
                for node in ["n1", "n2", "n3"] {
                    ledger.fault("cut off \(node)", limit: Self.limit, holdsConsumer: keepsClients)
                    try await cluster("partition \(node)")
                    try await Task.sleep(for: .seconds(12))
                    ledger.fault("heal \(node)", limit: Self.limit)
                    try await cluster("heal")
                    try await Self.bringBack(node, cluster, ledger)
                }
                // RabbitMQ makes a whole partition of a partial one, and then no side may have a majority: how long that
                // takes is not tested; nothing may be lost, and everything must continue afterwards.
                ledger.fault("cut between n1 and n2", limit: nil)
                try await cluster("partition n1 n2")
                try await Task.sleep(for: .seconds(12))
                ledger.fault("heal n1 and n2", limit: nil)
                try await cluster("heal")
                try await Self.bringBack("n1", cluster, ledger)
                ledger.fault("whole again", limit: Self.limit)
                try await Self.settle(cluster)
            }
            // Nor is the order kept: of what a node took while it was cut off a part can get through later, and the outbox
            // publishes all of it once more.
            ledger.check(isOrdered: false)
            #expect(ledger.arrived == ledger.confirmed)
        }
    }

    private enum Kind: CaseIterable { case kill, freeze, restart }

    /// Kills, freezes and restarts one node after the other.
    private static func disturb(_ cluster: Cluster, _ ledger: FaultLedger) async throws {
        try await Self.settle(cluster)
        let end = ContinuousClock.now + .seconds(FaultStage.seconds)
        var round = 0
        while ContinuousClock.now < end {
            let node = "n\(round % 3 + 1)"
            let other = "n\((round + 1) % 3 + 1)"
            let leader = (try? await cluster.leader(of: FaultWorkload.queue, asking: other)) ?? "?"
            // Every kind meets every node within nine rounds.
            switch Kind.allCases[(round + round / 3) % 3] {
            case .kill:
                ledger.fault("kill \(node), leader is \(leader)", limit: Self.limit)
                try await cluster("kill \(node)")
                try await Task.sleep(for: .seconds(8))
                ledger.fault("start \(node)", limit: Self.limit)
                try await cluster("restart \(node)")
            case .freeze:
                ledger.fault("freeze \(node), leader is \(leader)", limit: Self.limit)
                try await cluster("freeze \(node)")
                try await Task.sleep(for: .seconds(16))
                ledger.fault("thaw \(node)", limit: Self.limit)
                try await cluster("thaw \(node)")
                try await Task.sleep(for: .seconds(8))
            case .restart:
                ledger.fault("restart \(node), leader is \(leader)", limit: Self.limit)
                try await cluster("restart \(node)")
            }
            try await Self.bringBack(node, cluster, ledger)
            round += 1
        }
    }

    /// Waits until the cluster is whole; a node that does not find back is killed and started, as an operator does.
    private static func bringBack(_ node: String, _ cluster: Cluster, _ ledger: FaultLedger) async throws {
        do {
            try await cluster("wait")
        } catch {
            ledger.fault("kill and start \(node), which did not find back", limit: Self.limit)
            try await cluster("kill \(node)")
            try await cluster("restart \(node)")
            try await cluster("wait")
        }
        try await Self.settle(cluster)
    }

    /// Gives the queue's members time to catch up, and both sides a while without a fault.
    private static func settle(_ cluster: Cluster) async throws { try await Task.sleep(for: .seconds(4)) }
}
