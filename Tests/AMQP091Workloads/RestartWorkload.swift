// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Synchronization

/// RestartWorkload: instances of an application that start and stop, in order or in the middle of their work, two at a time.
struct RestartWorkload: Sendable {
    let world: SimulatedWorld
    let account = Account()

    @Sendable static func run(_ world: SimulatedWorld) async throws {
        let workload = RestartWorkload(world: world)
        await withTaskGroup(of: Void.self) { group in
            for place in 0..<2 { group.addTask { await workload.runInstances(place) } }
        }
        await world.calm()
        try await workload.drain()
        try workload.account.check()
    }

    private func runInstances(_ place: Int) async {
        for number in 0..<4 {
            let instance = Task { try await self.runInstance("\(place)\(number)") }
            try? await self.world.sleep(for: .milliseconds(self.world.random(in: 0..<12_000)))
            // Some are told to end, some end by themselves.
            if self.world.random(in: 0..<2) == 0 { instance.cancel() }
            _ = await instance.result
        }
    }

    private func runInstance(_ name: String) async throws {
        try await AMQPClient.withClient(self.world.configuration, topology: ServiceWorkload.topology) { client in
            let consumer = Task { try await self.consume(client) }
            defer { consumer.cancel() }
            try await client.withPublisher(maxInFlight: 8) { publisher in
                for number in 0..<20 {
                    let message = "\(name)-\(number)"
                    do {
                        try await publisher.publish(AMQPMessage(AMQPBody(message)), to: .queue("orders"))
                        self.account.tell(message, .confirmed)
                    } catch let error as AMQPError {
                        self.account.tell(message, ServiceWorkload.outcome(error))
                        if error.code == .cancelled { throw error }
                    }
                    try await self.world.sleep(for: .milliseconds(self.world.random(in: 0..<500)))
                }
            }
            if self.world.random(in: 0..<2) == 0 { await client.shutdown() }
            consumer.cancel()
            _ = await consumer.result
        }
    }

    private func consume(_ client: AMQPClient) async throws {
        try await client.consume("orders", prefetch: 5) { deliveries in
            try await deliveries.process(maxConcurrency: 3) { delivery in
                try await self.world.sleep(for: .milliseconds(self.world.random(in: 0..<300)))
                // Handled when the handler returns, not before.
                self.account.arrive(delivery.body.string, isRedelivered: true)
            }
        }
    }

    private func drain() async throws {
        try await AMQPClient.withClient(self.world.configuration, topology: ServiceWorkload.topology) { client in
            let consumer = Task { try await self.consume(client) }
            let end = self.world.clock.now.advanced(by: .seconds(300))
            while self.account.isMissing, self.world.clock.now < end {
                try await self.world.sleep(for: .milliseconds(100))
            }
            consumer.cancel()
            _ = await consumer.result
        }
    }
}
