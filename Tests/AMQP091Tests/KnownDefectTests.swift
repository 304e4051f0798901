// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import Testing

// KnownDefectTests: defects that other clients are known for in production.
// Here: publishing. Consuming, channels and the wire: KnownDefectTests+Consuming.

@Suite("Known defects of other clients", .timeLimit(.minutes(1)))
struct KnownDefectTests {
    /// A broker, a connection to it and a channel.
    static func withBroker(
        _ change: (inout AMQPClientConfiguration) -> Void = { _ in },
        _ body: (InProcessBroker, AMQPConnection, AMQPChannel) async throws -> Void
    ) async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = broker.configuration
            change(&configuration)
            let connection = try await AMQPConnection.connect(configuration)
            defer { connection.abort() }
            try await body(broker, connection, try await connection.openChannel())
        }
    }

    /// Polls until a condition holds, for conditions without an event.
    static func eventually(_ condition: () async -> Bool) async {
        while !(await condition()) { await Task.yield() }
    }

    @Test("F4: Frozen broker: a publish ends at its deadline, and as unknown when the link is lost")
    func publishWhenTheLinkDies() async throws {
        try await Self.withBroker { broker, connection, channel in
            try await channel.declareQueue("q")
            let publisher = try await connection.openPublisher(maxInFlight: 4)
            await broker.pause()
            var receipts: [AMQPPublishReceipt] = []
            for number in 0..<4 { receipts.append(try await publisher.enqueue("\(number)", to: .queue("q"))) }
            // The window is full: a waiting publisher has a deadline, and its publish was not sent.
            let late = await #expect(throws: AMQPError.self) {
                try await publisher.enqueue("late", to: .queue("q"), timeout: .milliseconds(30))
            }
            #expect(late?.code == .timedOut)
            #expect(late?.isSafeToRetry == true)
            let waiting = (0..<8).map { number in
                Task { try await publisher.publish("waiting \(number)", to: .queue("q"), timeout: .seconds(50)) }
            }
            await broker.dropConnections("crash")
            for task in waiting {
                let error = await #expect(throws: AMQPError.self) { try await task.value }
                #expect(error?.code == .connectionClosed)
                #expect(error?.isSafeToRetry == true)
            }
            // A lost link means unknown: neither confirmed nor refused.
            for receipt in receipts {
                guard case .unknown = await receipt.outcome() else {
                    Issue.record("not unknown: \(await receipt.outcome())")
                    continue
                }
            }
        }
    }

    @Test("Cancelled call: the channel stays usable, and sequence numbers stay right")
    func cancellation() async throws {
        try await Self.withBroker { broker, connection, channel in
            try await channel.declareQueue("q")
            let publisher = try await connection.openPublisher(maxInFlight: 1)
            for round in 0..<10 {
                await broker.pause()
                let first = try await publisher.enqueue("first \(round)", to: .queue("q"))
                let declaring = Task { try await channel.declareQueue("r") }
                let publishing = Task { try await publisher.publish("cancelled", to: .queue("q")) }
                declaring.cancel()
                publishing.cancel()
                let declared = await #expect(throws: AMQPError.self) { try await declaring.value }
                #expect(declared?.code == .cancelled)
                let published = await #expect(throws: AMQPError.self) { try await publishing.value }
                #expect(published?.code == .cancelled)
                await broker.resume()
                #expect(await first.outcome() == .confirmed)
                try await publisher.publish("second \(round)", to: .queue("q"))
                #expect(try await channel.inspectQueue("q").name == "q")
            }
            var found: [String] = []
            while let message = try await channel.get("q", acknowledgement: .automatic) {
                found.append(message.body.string)
            }
            #expect(found == (0..<10).flatMap { ["first \($0)", "second \($0)"] })
            #expect(publisher.counts.confirmed == 20)
        }
    }

    @Test("Unread confirms: they block neither the connection nor its close")
    func unreadConfirms() async throws {
        try await Self.withBroker { broker, connection, channel in
            try await channel.declareQueue("q")
            let publisher = try await connection.openPublisher(maxInFlight: 20_000)
            for number in 0..<10_000 { _ = try await publisher.enqueue("\(number)", to: .queue("q")) }
            // Other calls continue on the same connection while no outcome was requested.
            #expect(try await channel.inspectQueue("q").name == "q")
            try await connection.close()
            try await broker.waitUntil(depthOf: "q", is: 10_000)
        }
    }

    @Test("Return: it is matched to its publish among others that were not returned")
    func returned() async throws {
        try await Self.withBroker { _, connection, channel in
            try await channel.declareQueue("q")
            let publisher = try await connection.openPublisher()
            var receipts: [(AMQPPublishReceipt, Bool)] = []
            for number in 0..<200 {
                let isLost = number % 3 == 1
                let destination = AMQPDestination.queue(isLost ? "none" : "q")
                let message = AMQPMessage("number \(number)")
                receipts.append((try await publisher.enqueue(message, to: destination, mandatory: true), isLost))
            }
            for (receipt, isLost) in receipts {
                let outcome = await receipt.outcome()
                #expect(outcome == (isLost ? .returned(.noRoute, "NO_ROUTE") : .confirmed))
            }
        }
    }

    @Test("Pipelined publishes: they do not wait for each other's confirms, and one confirm settles them all")
    func pipelined() async throws {
        let count: UInt64 = 1000
        try await PublishDialogueTests.withConfirms { broker, _, channel in
            for number in 1...count { try await channel.publish("\(number)", to: .queue("q")) }
            // All publishes arrive before the broker sends a confirm.
            for _ in 1...count { _ = try await broker.expectPublish(on: 1) }
            #expect(channel.confirmCounts.unconfirmed == count)
            try broker.ack(count, multiple: true)
            try await channel.waitForConfirms()
            #expect(channel.confirmCounts.confirmed == count)
        }
    }

    @Test("Shared channel: tasks interleave no frames of bodies with several frames")
    func sharedChannel() async throws {
        try await Self.withBroker {
            $0.frameMax = 8192
        } _: { broker, _, channel in
            try await channel.declareQueue("q")
            try await channel.enableConfirms()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for task in 0..<8 {
                    group.addTask {
                        let body = String(repeating: "\(task)", count: 20_000)
                        for _ in 0..<50 { try await channel.publish(AMQPMessage(body), to: .queue("q")) }
                    }
                }
                try await group.waitForAll()
            }
            try await channel.waitForConfirms()
            #expect(await broker.depth(of: "q") == 400)
            var counts: [Character: Int] = [:]
            while let message = try await channel.get("q", acknowledgement: .automatic) {
                let body = message.body.string
                #expect(body.utf8.count == 20_000)
                #expect(Set(body).count == 1)
                counts[body.first ?? "?", default: 0] += 1
            }
            #expect(counts.count == 8)
            #expect(counts.values.allSatisfy { $0 == 50 })
        }
    }

    @Test("F9: Alarm: publishers wait and report the reason, other calls continue, and closing is bounded")
    func blocked() async throws {
        try await Self.withBroker { broker, publishing, channel in
            let consuming = try await AMQPConnection.connect(broker.configuration)
            defer { consuming.abort() }
            let consumer = try await consuming.openChannel()
            try await consumer.declareQueue("q")
            try await channel.enableConfirms()
            for number in 0..<10 { try await channel.publishAndConfirm("\(number)", to: .queue("q")) }
            await broker.setAlarm("low on memory")
            try await channel.publish("under the alarm", to: .queue("q"))
            var states = publishing.blockedStates.makeAsyncIterator()
            while let state = await states.next(isolation: nil), state == nil {}
            let error = await #expect(throws: AMQPError.self) {
                try await channel.publish("late", to: .queue("q"), timeout: .milliseconds(30))
            }
            #expect(error?.code == .timedOut)
            #expect(error?.replyText.contains("low on memory") == true)
            #expect(error?.isSafeToRetry == true)
            // A connection that only consumes is not affected.
            try await consumer.consume("q") { deliveries in
                var count = 0
                for try await delivery in deliveries {
                    try delivery.ack()
                    count += 1
                    if count == 10 { break }
                }
            }
            try await broker.waitUntil(queue: "q") { $0?.unacknowledged == 0 }
            // The broker does not read the close of a blocked connection; it ends at its deadline.
            let closing = await #expect(throws: AMQPError.self) {
                try await publishing.close(timeout: .milliseconds(50))
            }
            #expect(closing?.code == .timedOut)
            #expect(!publishing.isOpen)
        }
    }
}
