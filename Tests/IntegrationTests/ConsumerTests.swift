// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Synchronization
import Testing

@Suite("Consumers", .enabled(if: TestBroker.uri != nil, TestBroker.isMissing), .timeLimit(.minutes(2)))
struct ConsumerTests {
    struct Failed: Error {}

    private static func withMessages(
        _ count: Int,
        _ body: (AMQPConnection, AMQPChannel, String) async throws -> Void
    ) async throws {
        try await TestBroker.withConnection { connection in
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue(exclusive: true)
                try await connection.withPublisher { publisher in
                    for number in 0..<count { try await publisher.send("\(number)", to: .queue(queue.name)) }
                }
                try await body(connection, channel, queue.name)
            }
        }
    }

    @Test("One handler at a time keeps the order and acknowledges everything")
    func inOrder() async throws {
        try await Self.withMessages(500) { connection, channel, queue in
            let seen = Mutex<[Int]>([])
            try await channel.setPrefetch(count: 50)
            let deliveries = try await channel.deliveries(from: queue)
            try await deliveries.process { delivery in
                let count = seen.withLock { seen in
                    seen.append(Int(delivery.body.string) ?? -1)
                    return seen.count
                }
                // Ends the consumer from inside: what was delivered until then is still processed.
                if count == 500 { try await channel.cancel(deliveries) }
            }
            #expect(seen.withLock { $0 } == Array(0..<500))
            #expect(try await channel.inspectQueue(queue).messageCount == 0)
        }
    }

    @Test("Many handlers at a time never exceed their number, and settle every delivery")
    func concurrent() async throws {
        try await Self.withMessages(400) { connection, channel, queue in
            struct Counts {
                var running = 0
                var peak = 0
                var done = 0
            }
            let counts = Mutex(Counts())
            try await channel.setPrefetch(count: 64)
            let deliveries = try await channel.deliveries(from: queue)
            try await deliveries.process(maxConcurrency: 8) { delivery in
                counts.withLock {
                    $0.running += 1
                    $0.peak = max($0.peak, $0.running)
                }
                for _ in 0..<3 { await Task.yield() }
                let done = counts.withLock {
                    $0.running -= 1
                    $0.done += 1
                    return $0.done
                }
                if done == 400 { try await channel.cancel(deliveries) }
            }
            #expect(counts.withLock { $0.running } == 0)
            #expect((2...8).contains(counts.withLock { $0.peak }))
            #expect(try await channel.inspectQueue(queue).messageCount == 0)
        }
    }

    @Test(
        "U20: a message whose handler throws comes again as the policy says",
        arguments: [
            (AMQPRequeuePolicy.always, 3), (AMQPRequeuePolicy.never, 1),
        ]
    )
    func policy(_ policy: AMQPRequeuePolicy, _ times: Int) async throws {
        try await TestBroker.withChannel { channel in
            let dead = try await channel.declareQueue(exclusive: true)
            let queue = try await channel.declareQueue(
                as: .classic(durable: false, exclusive: true, deadLetter: .queue(dead.name))
            )
            try await channel.publish("bad", to: .queue(queue.name))
            try await channel.publish("end", to: .queue(queue.name))
            let tries = Mutex(0)
            try await channel.setPrefetch(count: 1)
            let deliveries = try await channel.deliveries(from: queue.name)
            try await deliveries.process(requeue: policy) { delivery in
                if delivery.body.string == "end" { return try await channel.cancel(deliveries) }
                let count = tries.withLock {
                    $0 += 1
                    return $0
                }
                if count < 3 { throw Failed() }
            }
            #expect(tries.withLock { $0 } == times)
            #expect(try await TestBroker.settles(dead.name, on: channel, at: policy == .always ? 0 : 1))
        }
    }

    @Test("Cancelling the task waits for the handlers, and puts what they did not finish back", arguments: [1, 4])
    func cancelled(_ maxConcurrency: Int) async throws {
        try await Self.withMessages(50) { connection, channel, queue in
            try await channel.setPrefetch(count: 10)
            let (started, continuation) = AsyncStream.makeStream(of: Void.self)
            let running = Mutex(0)
            let task = Task {
                try await channel.consume(queue) { deliveries in
                    try await deliveries.process(maxConcurrency: maxConcurrency, requeue: .never) { _ in
                        running.withLock { $0 += 1 }
                        defer { running.withLock { $0 -= 1 } }
                        continuation.yield()
                        try await Task.sleep(for: .seconds(600))
                    }
                }
            }
            var starts = started.makeAsyncIterator()
            for _ in 0..<maxConcurrency { _ = await starts.next() }
            task.cancel()
            let error = await #expect(throws: AMQPError.self) { try await task.value }
            #expect(error?.code == .cancelled)
            #expect(running.withLock { $0 } == 0)
            #expect(channel.isOpen)
            try await connection.withChannel { other in
                // With the channel goes what its iterator had read ahead.
                try await channel.close()
                #expect(try await TestBroker.settles(queue, on: other, at: 50))
            }
        }
    }

    @Test("What a scope has not read goes back to the queue when it is left")
    func unread() async throws {
        try await Self.withMessages(20) { _, channel, queue in
            try await channel.setPrefetch(count: 20)
            try await channel.consume(queue) { _ in
                var waiting = true
                while waiting { waiting = try await channel.inspectQueue(queue).messageCount > 0 }
            }
            #expect(try await TestBroker.settles(queue, on: channel, at: 20))
        }
    }

    @Test("A scope left while its buffer is over its bounds ends at once", arguments: [1 << 10, 1 << 20])
    func leavesFullBuffer(_ size: Int) async throws {
        var configuration = try AMQPClientConfiguration(uri: #require(TestBroker.uri))
        configuration.consumerBufferSize = 16 << 10
        try await AMQPConnection.withConnection(configuration) { connection in
            try await connection.withChannel { channel in
                let queue = try await channel.declareQueue(exclusive: true).name
                let count = max(3, (4 << 20) / size)
                try await connection.withPublisher { publisher in
                    let message = AMQPMessage(AMQPBody([UInt8](repeating: 7, count: size)))
                    for _ in 0..<count { try await publisher.send(message, to: .queue(queue)) }
                }
                try await channel.consume(queue) { deliveries in
                    for try await delivery in deliveries {
                        try delivery.ack()
                        break
                    }
                }
                try await channel.close()
                try await connection.withChannel { other in
                    let isBack = try await TestBroker.settles(queue, on: other, at: count - 1)
                    #expect(isBack)
                }
            }
        }
    }

    @Test("A delivery that cannot be copied is settled by consuming it, and goes back when it is dropped")
    func owned() async throws {
        try await Self.withMessages(4) { _, channel, queue in
            try await channel.setPrefetch(count: 1)
            var seen: [String] = []
            await #expect(throws: Failed.self) {
                try await channel.consume(queue) { deliveries in
                    try await deliveries.forEach { delivery in
                        seen.append(delivery.body.string)
                        switch seen.count {
                        case 1: try delivery.ack()
                        case 2: try delivery.nack(requeue: false)
                        case 3: break  // dropped
                        default:
                            let redelivered = delivery.redelivered
                            #expect(redelivered)
                            throw Failed()
                        }
                    }
                }
            }
            #expect(seen == ["0", "1", "2", "2"])
            #expect(try await TestBroker.settles(queue, on: channel, at: 2))
            try await channel.consume(queue, acknowledgement: .automatic) { deliveries in
                var left = 2
                struct Enough: Error {}
                await #expect(throws: Enough.self) {
                    try await deliveries.forEach { delivery in
                        left -= 1
                        if left == 0 { throw Enough() }
                        try delivery.ack()
                    }
                }
            }
            #expect(channel.isOpen)
        }
    }

    @Test("U12: a consumer tag in use is refused before anything is sent; after its end it can be used again")
    func tags() async throws {
        try await Self.withMessages(0) { connection, channel, queue in
            let first = try await channel.deliveries(from: queue, consumerTag: "mine")
            #expect(first.consumerTag == "mine")
            for tag in ["mine", "", String(repeating: "x", count: 256)] {
                let error = await #expect(throws: AMQPError.self) {
                    try await channel.deliveries(from: queue, consumerTag: tag)
                }
                #expect(error?.code == .invalidArgument)
                #expect(error?.isSafeToRetry == true)
            }
            try await connection.withChannel { other in
                // The tag is the channel's, not the connection's.
                try await other.consume(queue, consumerTag: "mine") { _ in }
            }
            try await channel.cancel(first)
            try await channel.consume(queue, consumerTag: "mine") { _ in }
            #expect(channel.isOpen)
        }
    }

    enum Ending: String, CaseIterable, Sendable {
        case cancelledByApplication, queueDeleted, channelClosed, channelClosedByBroker, connectionClosed, aborted
        case taskCancelled
    }

    @Test("Every ending of a consumer has its reason", arguments: Ending.allCases)
    func endings(_ ending: Ending) async throws {
        let uri = try #require(TestBroker.uri)
        let connection = try await AMQPConnection.connect(AMQPClientConfiguration(uri: uri))
        let channel = try await connection.openChannel()
        let queue = try await channel.declareQueue(exclusive: true)
        let deliveries = try await channel.deliveries(from: queue.name)
        let consumer = Task { () async -> AMQPError? in
            do throws(AMQPError) {
                for try await _ in deliveries {}
                return nil
            } catch {
                return error
            }
        }
        switch ending {
        case .cancelledByApplication: try await channel.cancel(deliveries)
        case .queueDeleted: try await connection.withChannel { try await $0.deleteQueue(queue.name) }
        case .channelClosed: try await channel.close()
        case .channelClosedByBroker:
            await #expect(throws: AMQPError.self) { try await channel.inspectQueue("no such queue") }
        case .connectionClosed: try await connection.close()
        case .aborted: connection.abort()
        case .taskCancelled: consumer.cancel()
        }
        let reason = await consumer.value
        switch ending {
        case .cancelledByApplication: #expect(reason == nil)
        case .queueDeleted:
            #expect(reason?.code == .consumerCancelled)
            #expect(reason?.origin == .broker)
            #expect(channel.isOpen)
        case .channelClosed: #expect(reason?.code == .channelClosed)
        case .channelClosedByBroker:
            #expect(reason?.code == .channelClosed)
            #expect(reason?.replyCode == .notFound)
        case .connectionClosed, .aborted: #expect(reason?.code == .connectionClosed)
        case .taskCancelled:
            #expect(reason?.code == .cancelled)
            #expect(channel.isOpen)
        }
        try await connection.close()
    }
}
