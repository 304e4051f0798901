// SPDX-License-Identifier: Apache-2.0
// Publish/subscribe tutorial: prints every line that is sent while it listens, until interrupted.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareExchange("logs", type: .fanout)
        // A private queue with a name chosen by the broker; it is deleted with this connection.
        let queue = try await channel.declareQueue(exclusive: true)
        try await channel.bindQueue(queue.name, to: "logs")
        try await channel.consume(queue.name, acknowledgement: .automatic) { deliveries in
            print(" [*] Waiting for logs. To exit press CTRL+C")
            fflush(nil)
            for try await delivery in deliveries {
                print(" [x] \(delivery.body.string)")
                fflush(nil)
            }
        }
    }
}
