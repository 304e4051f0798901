// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Synchronization
import Testing

// StreamConsumerTests: a client's consumer of a stream whose links are reset, at any moment and as often as it likes.
// Checks that the application got every message of the stream from where the consumer began.

@Suite("Consumers of streams", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(3)))
struct StreamConsumerTests {
    private static func withStream(
        _ body: (FaultProxy, AMQPClientConfiguration, AMQPPublisher, String) async throws -> Void
    ) async throws {
        let uri = try #require(TestBroker.uri)
        let name = TopologyTests.unique("stream")
        try await FaultProxy.withProxy(to: try AMQPURI(uri).port) { proxy in
            var configuration = try AMQPClientConfiguration(uri: uri)
            configuration.addresses = [.host("127.0.0.1", port: proxy.port)]
            configuration.recovery.initialDelay = .milliseconds(1)
            configuration.recovery.maximumDelay = .milliseconds(50)
            try await TestBroker.withConnection { connection in
                try await connection.withChannel { _ = try await $0.declareQueue(name, as: .stream()) }
                try await connection.withPublisher { publisher in
                    try await body(proxy, configuration, publisher, name)
                }
                try await connection.withChannel { _ = try await $0.deleteQueue(name) }
            }
        }
    }

    private static func publish(_ numbers: Range<Int>, _ publisher: AMQPPublisher, to stream: String) async throws {
        for number in numbers { try await publisher.send("\(number)", to: .queue(stream)) }
        try await publisher.waitForConfirms()
    }

    /// Publishes to a stream that is being made again: until then a message is returned.
    private static func publishMandatory(
        _ numbers: Range<Int>,
        _ publisher: AMQPPublisher,
        to stream: String
    ) async throws {
        for number in numbers {
            while true {
                do throws(AMQPError) {
                    try await publisher.publish("\(number)", to: .queue(stream), mandatory: true)
                    break
                } catch {
                    guard error.code == .returned else { throw error }
                    await Task.yield()
                }
            }
        }
    }

    @Test(
        "A stream of the topology that is deleted and made again is read from its first message",
        .enabled(if: TestBroker.isAlone, "a busy RabbitMQ 3.10 closes connections while a stream is deleted or made"),
        arguments: ["first", "next"],
        [false, true]
    )
    func madeAgain(start: String, isBusy: Bool) async throws {
        try await Self.withStream { proxy, configuration, publisher, stream in
            let topology = AMQPTopology { $0.queue(stream, as: .stream()) }
            try await Self.publish(0..<100, publisher, to: stream)
            try await AMQPClient.withClient(configuration, topology: topology) { client in
                let arguments: FieldTable = ["x-stream-offset": .string(start)]
                try await client.consume(stream, arguments: arguments) { deliveries in
                    var iterator = deliveries.makeAsyncIterator()
                    func read(through last: Int) async throws -> [Int] {
                        var numbers: [Int] = []
                        while numbers.last != last, let delivery = try await iterator.next() {
                            numbers.append(try #require(Int(delivery.body.string)))
                            try delivery.ack()
                        }
                        return numbers
                    }
                    try await Self.publish(100..<200, publisher, to: stream)
                    #expect(try await read(through: 199) == Array((start == "first" ? 0 : 100)..<200))
                    let events = client.events
                    let again = Task {
                        for await event in events {
                            // RabbitMQ 3.10 closes a connection that consumes from a stream while it is deleted.
                            switch event.kind {
                            case .topologyDeclaredAgain, .recovered: return
                            default: continue
                            }
                        }
                    }
                    if isBusy {
                        try await TestBroker.withConnection { other in
                            try await other.withChannel { _ = try await $0.deleteQueue(stream) }
                        }
                        await again.value
                        try await Self.publishMandatory(200..<250, publisher, to: stream)
                        #expect(try await read(through: 249) == Array(200..<250))
                    } else {
                        async let deletion: Void = TestBroker.withConnection { other in
                            try await other.withChannel { _ = try await $0.deleteQueue(stream) }
                            await again.value
                            try await Self.publishMandatory(200..<250, publisher, to: stream)
                        }
                        #expect(try await read(through: 249) == Array(200..<250))
                        try await deletion
                    }
                }
            }
        }
    }

    /// Numbers given to the application, and when to reset the links.
    private final class Seen: Sendable {
        private let state = Mutex<[Int]>([])
        private let resets: Set<Int>
        private let proxy: FaultProxy

        init(_ proxy: FaultProxy, resets: Set<Int>) {
            self.proxy = proxy
            self.resets = resets
        }

        var numbers: [Int] { self.state.withLock { $0 } }

        /// Counts one; answers how many different ones there are.
        func add(_ number: Int) -> Int {
            let (count, distinct) = self.state.withLock { state in
                state.append(number)
                return (state.count, Set(state).count)
            }
            if self.resets.contains(count) { self.proxy.resetAll() }
            return distinct
        }
    }

    @Test(
        "Handlers get every message of a stream over resets of the link",
        arguments: [1, 4, 32],
        [[50], [1, 2, 130], [20, 97, 98, 250, 299]]
    )
    func process(_ maxConcurrency: Int, _ resets: [Int]) async throws {
        try await Self.withStream { proxy, configuration, publisher, stream in
            try await Self.publish(0..<300, publisher, to: stream)
            let seen = Seen(proxy, resets: Set(resets))
            try await AMQPClient.withClient(configuration) { client in
                try await client.consume(stream, prefetch: 100, arguments: .stream(from: .first)) { deliveries in
                    try await deliveries.process(maxConcurrency: maxConcurrency) { delivery in
                        // Others of the batch wait for their turn meanwhile.
                        if maxConcurrency > 1 { await Task.yield() }
                        if seen.add(Int(delivery.body.string) ?? -1) == 300 { client.beginShutdown() }
                    }
                }
            }
            #expect(Set(seen.numbers) == Set(0..<300))
            if maxConcurrency == 1 { #expect(seen.numbers == Array(0..<300)) }
        }
    }

    @Test("A loop gets every message of a stream once over resets of the link", arguments: [[50], [1, 2, 130, 299]])
    func loop(_ resets: [Int]) async throws {
        try await Self.withStream { proxy, configuration, publisher, stream in
            try await Self.publish(0..<300, publisher, to: stream)
            let seen = Seen(proxy, resets: Set(resets))
            try await AMQPClient.withClient(configuration) { client in
                try await client.consume(stream, prefetch: 100, arguments: .stream(from: .first)) { deliveries in
                    // Left and begun again: the second loop continues after the first.
                    for try await delivery in deliveries {
                        try delivery.ack()
                        if seen.add(Int(delivery.body.string) ?? -1) == 100 { break }
                    }
                    for try await delivery in deliveries {
                        try delivery.ack()
                        let number = Int(delivery.body.string) ?? -1
                        _ = seen.add(number)
                        if number == 299 { break }
                    }
                }
            }
            #expect(seen.numbers == Array(0..<300))
        }
    }

    enum Start: CaseIterable {
        case unspecified, inTopology, next, last, ago
    }

    @Test("A consumer that is reset before its first delivery resumes where it began", arguments: Start.allCases)
    func beforeTheFirst(_ start: Start) async throws {
        try await Self.withStream { proxy, configuration, publisher, stream in
            try await Self.publish(0..<20, publisher, to: stream)
            if start == .unspecified {
                // Only the time of the start is known then, and some seconds before it are read again.
                try await Task.sleep(for: .seconds(4))
            }
            let topology = AMQPTopology { if start == .inTopology { $0.queue(stream, as: .stream()) } }
            let arguments: FieldTable =
                switch start {
                case .unspecified, .inTopology: [:]
                case .next: .stream(from: .next)
                case .last: .stream(from: .last)
                case .ago: .stream(from: .ago(.seconds(600)))
                }
            let seen = Seen(proxy, resets: [])
            try await AMQPClient.withClient(configuration, topology: topology) { client in
                try await client.consume(stream, prefetch: 10, arguments: arguments) { deliveries in
                    if start == .last || start == .ago {
                        // Where it began there is a delivery, which nobody has read.
                        try await Self.publish(20..<25, publisher, to: stream)
                    }
                    proxy.resetAll()
                    try await Self.publish(25..<30, publisher, to: stream)
                    proxy.resetAll()
                    for try await delivery in deliveries {
                        try delivery.ack()
                        let number = Int(delivery.body.string) ?? -1
                        _ = seen.add(number)
                        if number == 29 { break }
                    }
                }
            }
            switch start {
            case .unspecified, .inTopology, .next: #expect(seen.numbers == Array(25..<30))
            case .last:
                #expect(seen.numbers.first.map { $0 < 20 } == true)
                #expect(seen.numbers == Array((seen.numbers.first ?? 0)..<30))
            case .ago: #expect(seen.numbers == Array(0..<30))
            }
        }
    }

    @Test("A consumer of an empty stream that is reset before its first delivery misses nothing")
    func empty() async throws {
        try await Self.withStream { proxy, configuration, publisher, stream in
            let seen = Seen(proxy, resets: [])
            try await AMQPClient.withClient(configuration) { client in
                try await client.consume(stream, prefetch: 10, arguments: .stream(from: .next)) { deliveries in
                    proxy.resetAll()
                    try await Self.publish(0..<5, publisher, to: stream)
                    for try await delivery in deliveries {
                        try delivery.ack()
                        if seen.add(Int(delivery.body.string) ?? -1) == 5 { break }
                    }
                }
            }
            #expect(seen.numbers == Array(0..<5))
        }
    }

    @Test(
        "A queue that is no stream is resumed as before, also with messages forwarded from a stream",
        arguments: [true, false]
    )
    func noStream(_ isQuorum: Bool) async throws {
        try await Self.withStream { proxy, configuration, publisher, _ in
            let queue = TopologyTests.unique("forwarded")
            try await TestBroker.withChannel { channel in
                if isQuorum {
                    _ = try await channel.declareQueue(queue, as: .quorum())
                } else {
                    _ = try await channel.declareQueue(queue, as: .classic())
                }
            }
            var properties = BasicProperties()
            try await AMQPClient.withClient(configuration) { client in
                try await client.consume(queue, prefetch: 10) { deliveries in
                    // Before the first delivery nobody knows that it is no stream.
                    proxy.resetAll()
                    var numbers: Set<Int> = []
                    var count = 0
                    for number in 0..<10 {
                        properties.headers = ["x-stream-offset": .int64(Int64(1000 + number))]
                        try await publisher.publish(AMQPMessage("\(number)", properties: properties), to: .queue(queue))
                    }
                    for try await delivery in deliveries {
                        try delivery.ack()
                        numbers.insert(Int(delivery.body.string) ?? -1)
                        count += 1
                        // Deliveries that were not settled before the loss are delivered again.
                        if count == 5 { proxy.resetAll() }
                        if numbers == Set(0..<10) { break }
                    }
                    #expect(numbers == Set(0..<10))
                }
            }
            try await TestBroker.withChannel { _ = try await $0.deleteQueue(queue) }
        }
    }
}
