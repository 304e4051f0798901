// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation
import Testing

// DaemonTests: the program of Examples/daemon, told to end by SIGTERM in the middle of its work, against a real RabbitMQ.

@Suite(
    "The example of a daemon",
    .enabled(if: TestBroker.uri != nil, TestBroker.isMissing),
    .enabled(if: TestBroker.daemon != nil, "AMQP091_TEST_DAEMON is not set; scripts/test builds the example"),
    .timeLimit(.minutes(2))
)
struct DaemonTests {
    static let orders = 3000

    /// Acknowledgements that RabbitMQ may forget.
    ///
    /// The channel of a quorum queue keeps those that come while 32 commands are under way, and forgets them when it
    /// closes. A worker that left its work unsettled would come to 16.
    static let forgotten = 4

    /// Takes everything out of a queue; the message ids of what was there.
    static func drain(_ queue: String, on channel: AMQPChannel) async throws -> [String] {
        var ids: [String] = []
        while let delivery = try await channel.get(queue, acknowledgement: .automatic) {
            ids.append(try delivery.properties().messageID ?? "")
        }
        return ids
    }

    @Test("Told to end under load, it settles what it has begun: no order is lost, and none is invoiced twice")
    func terminated() async throws {
        try await TestBroker.withChannel { channel in
            for queue in ["orders", "invoices"] { try await channel.deleteQueue(queue) }
            try await channel.declareQueue("orders", as: .quorum(deliveryLimit: 5, deadLetter: .queue("orders.dead")))
            try await channel.enableConfirms()
            for number in 0..<Self.orders {
                let order = AMQPMessage(
                    "\(number)",
                    properties: BasicProperties(deliveryMode: 2, messageID: "\(number)")
                )
                try await channel.publish(order, to: .queue("orders"))
            }
            try await channel.waitForConfirms()
            let daemon = try Program(at: URL(fileURLWithPath: try #require(TestBroker.daemon)))
            defer { daemon.kill() }
            try await Program.wait {
                (try? await TestBroker.withConnection { try await $0.inspectQueue("invoices")?.messageCount ?? 0 }) ?? 0
                    >= 100
            }
            daemon.terminate()
            #expect(try await daemon.exitStatus(lastLine: nil) == 0)
            let left = try await Self.drain("orders", on: channel)
            let invoiced = try await Self.drain("invoices", on: channel)
            #expect(!left.isEmpty, "it was done before it was told to end")
            #expect(Set(left).count == left.count)
            #expect(Set(invoiced).count == invoiced.count)
            #expect(Set(left).union(invoiced).count == Self.orders)
            #expect(Set(left).intersection(invoiced).count <= Self.forgotten)
            for queue in ["orders", "invoices"] { try await channel.deleteQueue(queue) }
        }
    }
}
