// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Testing
import EpollConcurrency
import Testing

@Suite("Broadcast", .timeLimit(.minutes(1)))
struct BroadcastTests {
    @Test("Nothing is lost between the subscription and the first next()")
    func buffered() async {
        let hub = Broadcast<Int>(limit: 3)
        let source = Broadcast.Source(hub)
        for number in 0..<5 { hub.emit(number) }
        let first = source.subscription()
        let second = source.subscription()
        hub.emit(5)
        hub.finish()
        hub.emit(6)
        var seen: [Int] = []
        while let number = await first.next() { seen.append(number) }
        #expect(seen == [3, 4, 5])
        #expect(await second.next() == 5)
        #expect(await second.next() == nil)
        #expect(await source.subscription().next() == nil)
    }

    @Test("With a latest element a subscription begins with it")
    func latest() async {
        let hub = Broadcast<String?>(limit: 1, latest: .some(nil))
        let before = hub.subscribe()
        #expect(await before.next() == .some(nil))
        hub.emit("low on memory")
        hub.emit(nil)
        hub.emit("low on disk")
        #expect(await before.next() == "low on disk")
        #expect(await hub.subscribe().next() == "low on disk")
    }

    @Test("A waiting subscription ends with its task, and with the hub")
    func ends() async {
        let hub = Broadcast<Int>(limit: 1)
        let subscription = hub.subscribe()
        let waiting = Task { await subscription.next() }
        waiting.cancel()
        #expect(await waiting.value == nil)
        let other = Task { await hub.subscribe().next() }
        hub.finish()
        #expect(await other.value == nil)
    }

    @Test("Events between `events` and the first iterator are seen")
    func events() async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPClient.withClient(broker.configuration) { client in
                let events = client.events
                try await client.withChannel { _ in }
                let first = await events.first { _ in true }
                #expect(first?.kind == .connected(broker.configuration.addresses[0]))
            }
        }
    }
}
