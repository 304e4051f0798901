// SPDX-License-Identifier: Apache-2.0
// The code of the article "Getting started": a first message there and back.

import AMQP091

try await AMQPConnection.withConnection("amqp://guest:guest@localhost") { connection in
    try await connection.withChannel { channel in
        let queue = try await channel.declareQueue("hello")
        try await channel.publish("Hello, World!", to: .queue(queue.name))

        try await channel.consume(queue.name, acknowledgement: .automatic) { deliveries in
            for try await delivery in deliveries {
                print("received:", delivery.body.string)
                break  // leaving the closure cancels the consumer
            }
        }
    }
}
