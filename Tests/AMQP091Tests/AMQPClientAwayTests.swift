// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Testing

// AMQPClientAwayTests: how a client ends while its broker is away: at once without recovery, and in a shutdown whoever
// waits for a connection.

@Suite("Client, broker away", .timeLimit(.minutes(1)))
struct AMQPClientAwayTests {
    /// Waits until an attempt to connect has failed.
    private static func waitForFailedConnect(_ events: inout AMQPClientEvents.AsyncIterator) async {
        while let event = await events.next(isolation: nil) {
            if case .connectFailed = event.kind { return }
        }
    }

    @Test("With recovery turned off the first lost connection ends the client, and so does one that cannot be made")
    func withoutRecovery() async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.recovery.isEnabled = false
            let lost = await #expect(throws: AMQPError.self) {
                try await AMQPClient.withClient(configuration, topology: AMQPClientTests.orders) { client in
                    try await client.consume("orders") { deliveries in
                        await broker.dropConnections()
                        for try await _ in deliveries {}
                    }
                }
            }
            #expect(lost?.code == .connectionClosed || lost?.scope == .connection, "\(lost as Any)")
            configuration.addresses = [.unix(path: "/nowhere/broker.sock")]
            let unreachable = await #expect(throws: AMQPError.self) {
                try await AMQPClient.withClient(configuration) { client in
                    try await client.withPublisher { try await $0.publish("42", to: .queue("orders")) }
                }
            }
            #expect(unreachable?.code == .connectFailed, "\(unreachable as Any)")
        }
    }

    @Test(
        "A shutdown while the broker is away ends a reader that waits for a connection at once",
        arguments: [true, false]
    )
    func shutdownOfWaitingReader(hasConsumed: Bool) async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            // A wait for a deadline would exceed the time limit of this test.
            configuration.recovery.shutdownTimeout = .seconds(600)
            configuration.operationTimeout = .seconds(600)
            let client = AMQPClient(configuration, topology: AMQPClientTests.orders)
            var events = client.events.makeAsyncIterator()
            let running = Task { try await client.run() }
            if !hasConsumed { await broker.refuseConnections(true) }
            let reader = AMQPClientTests.reading("orders", with: client)
            if hasConsumed {
                try await broker.waitUntil(queue: "orders") { $0?.consumers == 1 }
                await broker.refuseConnections(true)
                await broker.dropConnections()
            }
            await Self.waitForFailedConnect(&events)
            await client.shutdown()
            let error = await reader.value
            // A sequence that had begun ends; one that had not has never been there.
            #expect(error?.code == (hasConsumed ? nil : .connectionClosed))
            #expect(error?.isSafeToRetry ?? true)
            try await running.value
        }
    }

    @Test(
        "A shutdown while the broker is away ends a publisher that waits for a connection at its deadline",
        arguments: [true, false]
    )
    func shutdownOfWaitingPublisher(hasOutbox: Bool) async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.recovery.shutdownTimeout = .milliseconds(50)
            configuration.operationTimeout = .seconds(600)
            let client = AMQPClient(configuration, topology: AMQPClientTests.orders)
            var events = client.events.makeAsyncIterator()
            let running = Task { try await client.run() }
            let publisher = try client.openPublisher(outbox: hasOutbox ? .octets(1 << 20) : .none)
            try await publisher.publish("1", to: .queue("orders"))
            await broker.confirm(.hold)
            let receipt = try await publisher.enqueue("2", to: .queue("orders"))
            try await broker.waitUntil(depthOf: "orders", is: 2)
            await broker.refuseConnections(true)
            await broker.dropConnections()
            await Self.waitForFailedConnect(&events)
            let waiting = Task { () -> AMQPError? in
                do {
                    try await publisher.publish("3", to: .queue("orders"))
                    return nil
                } catch {
                    return error as? AMQPError
                }
            }
            let scope = Task { try await client.withPublisher { try await $0.publish("4", to: .queue("orders")) } }
            let call = Task { try await client.withChannel { _ in } }
            let lost = Task { await receipt.outcome() }
            await client.shutdown()
            let error = await waiting.value
            let expected: [AMQPError.Code?] = [.connectionClosed, .channelClosed, .givenUp]
            #expect(expected.contains(error?.code), "\(String(describing: error))")
            #expect(error?.isSafeToRetry == true)
            await #expect(throws: AMQPError.self) { try await scope.value }
            await #expect(throws: AMQPError.self) { try await call.value }
            if case .unknown = await lost.value {} else { Issue.record("the receipt knows more than anybody can") }
            let ended = await OutboxTests.failure { try await running.value }
            #expect(ended?.code == (hasOutbox ? .givenUp : nil))
        }
    }
}
