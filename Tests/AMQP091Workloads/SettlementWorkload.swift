// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Synchronization

/// SettlementWorkload: a calm world in which handlers settle in every way: the broker holds as unacknowledged what they have,
/// and gets exactly the settlements they make.
struct SettlementWorkload: Sendable {
    struct State {
        /// Deliveries that handlers have and have not settled.
        var held: Set<String> = []
        var acknowledged: Set<String> = []
        var rejected: Set<String> = []
        var requeued: [String: Int] = [:]
        var deliveries: [String: Int] = [:]
        var broken: [String] = []
    }

    final class Box: Sendable {
        let value = Mutex(State())
    }

    @Sendable static func run(_ world: SimulatedWorld) async throws {
        let state = Box()
        let topology = AMQPTopology {
            $0.exchange("dead", type: .fanout)
            $0.queue("graves", boundTo: "dead")
            $0.queue("work", as: .classic(deadLetter: .exchange("dead")))
        }
        let count = 60
        try await AMQPClient.withClient(world.configuration, topology: topology) { client in
            try await client.withPublisher { publisher in
                for number in 0..<count { try await publisher.send("\(number)", to: .queue("work")) }
            }
            let consumer = Task {
                try await client.consume("work", prefetch: UInt16(1 + world.random(in: 0..<20))) { deliveries in
                    await withTaskGroup(of: Void.self) { group in
                        do {
                            for try await delivery in deliveries {
                                state.value.withLock { $0.take(delivery.body.string) }
                                group.addTask { await Self.handle(delivery, world, state) }
                            }
                        } catch {}
                    }
                }
            }
            while state.value.withLock({ $0.acknowledged.count + $0.rejected.count < count && $0.broken.isEmpty }) {
                try await world.sleep(for: .milliseconds(world.random(in: 1..<50)))
                // Nothing is settled that no handler has settled.
                let held = state.value.withLock { $0.held }
                let unacknowledged = await world.broker.queue("work")?.unacknowledged ?? 0
                let stillHeld = state.value.withLock { $0.held.intersection(held).count }
                if unacknowledged < stillHeld {
                    state.value.withLock {
                        $0.broken.append("the broker holds \(unacknowledged), and handlers have \(stillHeld)")
                    }
                }
            }
            consumer.cancel()
            _ = await consumer.result
        }
        try Self.check(state, await world.broker.depth(of: "work"), await world.broker.depth(of: "graves"))
    }

    private static func handle(_ delivery: AMQPDelivery, _ world: SimulatedWorld, _ state: Box) async {
        try? await world.sleep(for: .milliseconds(world.random(in: 0..<300)))
        let name = delivery.body.string
        let choice = world.random(in: 0..<5)
        do {
            state.value.withLock { $0.settle(name, choice) }
            switch choice {
            case 0: try delivery.nack(requeue: true)
            case 1: try delivery.reject(requeue: false)
            default: try delivery.ack()
            }
        } catch {
            state.value.withLock { $0.broken.append("\(name) could not be settled: \(error)") }
        }
    }

    private static func check(_ state: Box, _ depth: Int?, _ dead: Int?) throws {
        let state = state.value.withLock { $0 }
        if let broken = state.broken.first { throw Broken(description: broken) }
        if depth != 0 { throw Broken(description: "\(depth ?? -1) messages are left, and all were settled") }
        if dead != state.rejected.count {
            throw Broken(description: "\(dead ?? -1) dead letters, and \(state.rejected.count) were rejected")
        }
        for (name, count) in state.deliveries where count != 1 + state.requeued[name, default: 0] {
            throw Broken(
                description: "\(name) was delivered \(count) times, and requeued \(state.requeued[name, default: 0])"
            )
        }
    }
}

extension SettlementWorkload.State {
    mutating func take(_ name: String) {
        self.deliveries[name, default: 0] += 1
        if !self.held.insert(name).inserted { self.broken.append("\(name) was delivered while a handler has it") }
    }

    mutating func settle(_ name: String, _ choice: Int) {
        self.held.remove(name)
        switch choice {
        case 0: self.requeued[name, default: 0] += 1
        case 1: self.rejected.insert(name)
        default: self.acknowledged.insert(name)
        }
    }
}
