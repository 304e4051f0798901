// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Testing

// The service of the article "Simulating your service": it charges twice after a reconnect, until it remembers what it charged.

/// Counts the charges of each order; its answer takes a while.
actor Bank {
    private(set) var charges: [String: Int] = [:]
    private let clock: any Clock<Duration>

    init(clock: any Clock<Duration>) { self.clock = clock }

    func charge(_ order: String) async throws {
        self.charges[order, default: 0] += 1
        try await self.clock.sleep(for: .milliseconds(100))
    }
}

/// Remembers which orders were charged.
actor Charged {
    private var orders: Set<String> = []

    func insert(_ order: String) -> Bool { self.orders.insert(order).inserted }
}

let topology = AMQPTopology { $0.queue("orders", as: .quorum()) }

/// The service: charges each order, then acknowledges it.
func serve(_ client: AMQPClient, _ bank: Bank) async throws {
    try await client.consume("orders", prefetch: 10) { deliveries in
        try await deliveries.process { delivery in
            try await bank.charge(delivery.body.string)
        }
    }
}

/// The same, for orders that may be delivered again.
func serveOnce(_ client: AMQPClient, _ bank: Bank, _ charged: Charged) async throws {
    try await client.consume("orders", prefetch: 10) { deliveries in
        try await deliveries.process { delivery in
            guard await charged.insert(delivery.body.string) else { return }
            try await bank.charge(delivery.body.string)
        }
    }
}

struct ChargedTwice: Error {
    let orders: [String]
}

/// Sends ten orders to a service in a world with disturbances, and checks what it has charged.
@Sendable
func checkCharges(
    _ world: SimulatedWorld,
    _ service: @escaping @Sendable (AMQPClient, Bank) async throws -> Void
) async throws {
    let bank = Bank(clock: world.clock)
    try await AMQPClient.withClient(world.configuration, topology: topology) { client in
        let serving = Task { try await service(client, bank) }
        try await client.withPublisher(outbox: .octets(1 << 20)) { publisher in
            for number in 1...10 {
                try await publisher.send("order \(number)", to: .queue("orders"))
                try await world.sleep(for: .milliseconds(500))
            }
        }
        await world.calm()
        while await bank.charges.count < 10 { try await world.sleep(for: .milliseconds(100)) }
        serving.cancel()
        _ = await serving.result
    }
    let twice = await bank.charges.filter { $0.value > 1 }.keys.sorted()
    if !twice.isEmpty { throw ChargedTwice(orders: twice) }
}

var disturbedOptions: SimulatedWorld.Options {
    var options = SimulatedWorld.Options(nodes: 3, disturbances: 5)
    options.disturbedTime = .seconds(10)
    options.keeps = { $0 == .restart || $0 == .closeConnections }
    return options
}

@Suite("A service that charges twice", .timeLimit(.minutes(2)))
struct DoubleChargeTests {
    @Test("The double charge is found, with the disturbance that causes it")
    func found() async throws {
        do {
            try await SimulatedWorld.explore(seeds: 1...200, disturbedOptions) { world in
                try await checkCharges(world, serve)
            }
            Issue.record("the double charge was not found in 200 worlds")
        } catch let failure as SimulationFailure {
            #expect(failure.underlying is ChargedTwice, "\(failure)")
            #expect(failure.disturbances.count == 1)
        }
    }

    @Test("A service that remembers what it charged does not charge twice")
    func repaired() async throws {
        try await SimulatedWorld.explore(seeds: 1...50, disturbedOptions) { world in
            let charged = Charged()
            try await checkCharges(world) { client, bank in try await serveOnce(client, bank, charged) }
        }
    }
}
