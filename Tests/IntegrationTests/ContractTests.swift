// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation
import Synchronization
import Testing

// Contracts under load: cancellation everywhere, a broker under a memory alarm, a consumer that sleeps.
// Serialized, because an alarm concerns every publisher of the broker.

@Suite(
    "Contracts under pressure",
    .enabled(if: TestBroker.uri != nil, TestBroker.isMissing),
    .serialized,
    .timeLimit(.minutes(20))
)
struct ContractTests {
    enum End: Hashable, Sendable { case confirmed, notSent, unknown }

    final class Ends: Sendable {
        private let values = Mutex<[String: End]>([:])
        var all: [String: End] { self.values.withLock { $0 } }

        func add(_ name: String, _ end: End) {
            let isFirst = self.values.withLock { $0.updateValue(end, forKey: name) == nil }
            if !isFirst { Issue.record("\(name) ended twice") }
        }
    }

    @Test(
        "F30: a thousand tasks publish on one channel and are cancelled at random: each publish has one outcome, and the queue agrees"
    )
    func cancelledAtRandom() async throws {
        try await TestBroker.withConnection { connection in
            let channel = try await connection.openChannel()
            let queue = try await channel.declareQueue(exclusive: true).name
            try await channel.enableConfirms(window: 64)
            let ends = Ends()
            let perTask = 5
            await withTaskGroup(of: Void.self) { group in
                for number in 0..<1000 {
                    group.addTask {
                        let publisher = Task {
                            for round in 0..<perTask {
                                let name = "\(number)-\(round)"
                                let end: End
                                do throws(AMQPError) {
                                    try await channel.publishAndConfirm(AMQPMessage(name), to: .queue(queue))
                                    end = .confirmed
                                } catch {
                                    end = error.isSafeToRetry ? .notSent : .unknown
                                    if !error.isSafeToRetry, error.code != .unknownOutcome { Issue.record("\(error)") }
                                }
                                ends.add(name, end)
                            }
                        }
                        for _ in 0..<Int.random(in: 0...40) { await Task.yield() }
                        if Bool.random() { publisher.cancel() }
                        await publisher.value
                    }
                }
            }
            let outcomes = ends.all
            #expect(outcomes.count == 1000 * perTask)
            try await channel.waitForConfirms()
            #expect(channel.isOpen)
            // The window was respected, and nothing was renumbered: the next publish is confirmed as itself.
            try await channel.publishAndConfirm("last", to: .queue(queue))
            let counts = channel.confirmCounts
            let sent = outcomes.values.filter { $0 != .notSent }.count
            #expect(counts.published == UInt64(sent) + 1)
            #expect(counts.confirmed == UInt64(sent) + 1)

            var found: Set<String> = []
            let expected = try await channel.inspectQueue(queue).messageCount
            try await channel.consume(queue, acknowledgement: .automatic) { deliveries in
                for try await delivery in deliveries {
                    #expect(found.insert(delivery.body.string).inserted)
                    if found.count == expected { break }
                }
            }
            found.remove("last")
            let confirmed = Set(outcomes.filter { $0.value == .confirmed }.keys)
            let unknown = Set(outcomes.filter { $0.value == .unknown }.keys)
            #expect(confirmed.isSubset(of: found))
            #expect(found.subtracting(confirmed).isSubset(of: unknown))
            try await channel.close()
        }
    }

    @Test(
        "F9: under a memory alarm publishers wait and time out with the reason, consumers go on, and close works; afterwards publishing goes on",
        .enabled(if: TestBroker.script != nil, "AMQP091_TEST_BROKER names no script that can raise an alarm")
    )
    func memoryAlarm() async throws {
        try await TestBroker.withConnection { consuming in
            let channel = try await consuming.openChannel()
            let queue = try await channel.declareQueue(exclusive: true).name
            for number in 0..<10 { try await channel.publish("\(number)", to: .queue(queue)) }
            _ = try await channel.inspectQueue(queue)

            let publishing = try await AMQPConnection.connect(AMQPClientConfiguration(uri: #require(TestBroker.uri)))
            let publisher = try await publishing.openPublisher()
            var states = publishing.blockedStates.makeAsyncIterator()
            #expect(await states.next(isolation: nil) == .some(nil))

            try await TestBroker.control("set_vm_memory_high_watermark", "0.00001")
            let alarm: AMQPError?
            do {
                // A publish makes the broker say that it blocks; the first ones may come before the alarm has reached its
                // reader, and are confirmed.
                var stuck = try await publisher.enqueue("stuck", to: .queue("nowhere"))
                while publishing.blockedReason == nil {
                    guard await stuck.outcome(timeout: .milliseconds(50)) == .confirmed else { continue }
                    guard let next = try publisher.tryEnqueue("stuck", to: .queue("nowhere")) else { break }
                    stuck = next
                }
                let reason = await states.next(isolation: nil)
                #expect(reason??.contains("memory") == true)
                #expect(publishing.blockedReason == reason ?? nil)
                alarm = await #expect(throws: AMQPError.self) {
                    try await publisher.publish("x", to: .queue("nowhere"), timeout: .milliseconds(100))
                }
                let wait = await #expect(throws: AMQPError.self) {
                    try await publishing.waitUntilUnblocked(timeout: .milliseconds(100))
                }
                #expect(wait?.code == .timedOut)
                #expect(stuck.knownOutcome == nil)
                #expect(try publisher.tryEnqueue("x", to: .queue("nowhere")) == nil)

                // Another connection, which has not published since: it consumes and acknowledges as before.
                try await channel.consume(queue) { deliveries in
                    var left = 10
                    for try await delivery in deliveries {
                        try delivery.ack()
                        left -= 1
                        if left == 0 { break }
                    }
                }
                #expect(try await TestBroker.settles(queue, on: channel, at: 0))

                // A blocked connection closes within its deadline, though the broker does not read it.
                let closing = try await AMQPConnection.connect(AMQPClientConfiguration(uri: #require(TestBroker.uri)))
                let lone = try await closing.openChannel()
                try await lone.publish("x", to: .queue("nowhere"))
                var blocked = closing.blockedStates.makeAsyncIterator()
                while let state = await blocked.next(isolation: nil), state == nil {}
                let end = await #expect(throws: AMQPError.self) { try await closing.close(timeout: .milliseconds(300)) }
                #expect(end?.code == .timedOut)
                #expect(!closing.isOpen)

                try await TestBroker.control("set_vm_memory_high_watermark", "0.4")
                #expect(await stuck.outcome() == .confirmed)
            } catch {
                try await TestBroker.control("set_vm_memory_high_watermark", "0.4")
                throw error
            }
            #expect(alarm?.code == .timedOut)
            #expect(alarm?.isSafeToRetry == true)
            #expect(alarm?.replyText.contains("memory") == true, "\(String(describing: alarm))")
            try await publishing.waitUntilUnblocked()
            #expect(await states.next(isolation: nil) == .some(nil))
            try await publisher.publish("goes on", to: .queue("nowhere"))
            try await publisher.close()
            try await publishing.close()
        }
    }

    /// Resident memory of this process, octets.
    private static func residentMemory() throws -> Int {
        let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        let pages = text.split(separator: " ").dropFirst().first.flatMap { Int($0) }
        return try #require(pages) * 4096
    }

    /// `AMQP091_TEST_SLOW_MESSAGES=5000000` makes it the full measurement; it needs memory at the broker.
    static let slowMessages =
        ProcessInfo.processInfo.environment["AMQP091_TEST_SLOW_MESSAGES"].flatMap { Int($0) } ?? 200_000

    @Test("F12: a consumer with automatic acknowledgement that sleeps keeps memory bounded, and then gets everything")
    func slowConsumer() async throws {
        let count = Self.slowMessages
        try await TestBroker.withConnection { connection in
            let channel = try await connection.openChannel()
            // On disk, as far as the broker still knows the mode: millions must not fill its memory.
            let queue = try await channel.declareQueue(
                TopologyTests.unique("slow"),
                autoDelete: true,
                arguments: ["x-queue-mode": "lazy"]
            ).name
            try await connection.withPublisher(maxInFlight: 4096) { publisher in
                let body = AMQPMessage(AMQPBody([UInt8](repeating: 7, count: 64)))
                for _ in 0..<count { try await publisher.send(body, to: .queue(queue), timeout: .seconds(120)) }
            }
            try await TestBroker.withConnection { consuming in
                let reader = try await consuming.openChannel()
                let idle = try Self.residentMemory()
                try await reader.consume(queue, acknowledgement: .automatic) { deliveries in
                    // Nothing is read until what the broker holds no longer falls: the client has stopped reading.
                    var held = count
                    var quiet = 0
                    while quiet < 20 {
                        let now = try await channel.inspectQueue(queue).messageCount
                        quiet = now == held ? quiet + 1 : 0
                        held = now
                        try await Task.sleep(for: .milliseconds(50))
                    }
                    let growth = try Self.residentMemory() - idle
                    print(
                        "slow consumer: \(count) messages, \(held) still at the broker, \(growth >> 10) KiB above idle"
                    )
                    #expect(growth < 64 << 20)
                    var seen = 0
                    for try await _ in deliveries {
                        seen += 1
                        if seen == count { break }
                    }
                    #expect(seen == count)
                }
            }
        }
    }
}
