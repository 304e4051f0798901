// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing

/// TransactionWorkload: groups of three messages in transactions: all of a group arrive, or none.
struct TransactionWorkload: Sendable {
    private enum Ending { case committed, rolledBack, unknown }

    @Sendable static func run(_ world: SimulatedWorld) async throws {
        var endings: [Int: Ending] = [:]
        let topology = AMQPTopology { $0.queue("ledger", as: .quorum()) }
        try await AMQPClient.withClient(world.configuration, topology: topology) { client in
            for group in 0..<15 {
                let wantsRollback = world.random(in: 0..<3) == 0
                do {
                    try await client.withChannel { channel in
                        try await channel.withTransaction { channel in
                            for number in 0..<3 {
                                try await channel.publish("\(group).\(number)", to: .queue("ledger"))
                                try await world.sleep(for: .milliseconds(world.random(in: 0..<200)))
                            }
                            if wantsRollback { throw CancellationError() }
                        }
                    }
                    endings[group] = .committed
                } catch is CancellationError {
                    endings[group] = .rolledBack
                } catch let error as AMQPError {
                    endings[group] = error.isSafeToRetry || wantsRollback ? .rolledBack : .unknown
                }
                try await world.sleep(for: .milliseconds(world.random(in: 0..<3000)))
            }
        }
        await world.calm()
        let arrived = try await Self.drain(world, topology)
        for (group, ending) in endings.sorted(by: { $0.key < $1.key }) {
            let count = (0..<3).count { arrived.contains("\(group).\($0)") }
            guard count == 0 || count == 3 else {
                throw Broken(description: "\(count) of 3 messages of group \(group) arrived")
            }
            if ending == .committed, count != 3 {
                throw Broken(description: "group \(group) was committed and is lost")
            }
            if ending == .rolledBack, count != 0 {
                throw Broken(description: "group \(group) was rolled back and arrived")
            }
        }
    }

    private static func drain(_ world: SimulatedWorld, _ topology: AMQPTopology) async throws -> Set<String> {
        try await AMQPClient.withClient(world.configuration, topology: topology) { client in
            try await client.withChannel { channel in
                var arrived: Set<String> = []
                while let delivery = try await channel.get("ledger", acknowledgement: .automatic) {
                    arrived.insert(delivery.body.string)
                }
                return arrived
            }
        }
    }
}
