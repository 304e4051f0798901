// SPDX-License-Identifier: Apache-2.0
// The code of AMQP091Foundation's page: values as JSON bodies.

import AMQP091
import AMQP091Foundation

struct OrderPlaced: Codable, Sendable {
    var id: Int
}

// snippet.json
func work(_ connection: AMQPConnection) async throws {
    try await connection.withPublisher { publisher in
        try await publisher.publish(AMQPMessage(json: OrderPlaced(id: 42)), to: .queue("orders"))
    }
    try await connection.withChannel { channel in
        try await channel.consume("orders") { deliveries in
            try await deliveries.process(maxConcurrency: 4, requeue: .never) { delivery in
                let order: OrderPlaced = try delivery.decode()
                print(order.id)
            }
        }
    }
}
// snippet.end
