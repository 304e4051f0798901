// SPDX-License-Identifier: Apache-2.0
// ReadmeExample: the test that README.md shows, as it stands there.
import AMQP091
import AMQP091Testing
import Testing

@Test func ordersAreKept() async throws {
    try await InProcessBroker.withBroker { broker in
        try await AMQPConnection.withConnection(broker.configuration) { connection in
            try await connection.withChannel { channel in
                try await channel.declareQueue("orders")
                try await channel.publish("42", to: .queue("orders"))
                try await broker.waitUntil(depthOf: "orders", is: 1)
            }
        }
    }
}
