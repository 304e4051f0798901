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

    /// Takes everything out of a queue; the message ids of what was there.
    static func drain(_ queue: String, on channel: AMQPChannel) async throws -> [String] {
        var ids: [String] = []
        while let delivery = try await channel.get(queue, acknowledgement: .automatic) {
            ids.append(try delivery.properties().messageID ?? "")
        }
        return ids
    }

    @Test("Told to end under load, it settles what it has begun: each order is invoiced once or still there")
    func terminated() async throws {
        try await TestBroker.withChannel { channel in
            for queue in ["orders", "invoices"] { try await channel.deleteQueue(queue) }
            try await channel.declareQueue("orders", as: .quorum(deliveryLimit: 5))
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
            #expect(Set(left).isDisjoint(with: invoiced))
            #expect(left.count + invoiced.count == Self.orders)
            for queue in ["orders", "invoices"] { try await channel.deleteQueue(queue) }
        }
    }
}
