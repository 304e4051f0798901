// SPDX-License-Identifier: Apache-2.0
// Work-queue tutorial, part 1: prints what comes to the queue "hello", until interrupted.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareQueue("hello")
        print(" [*] Waiting for messages. To exit press CTRL+C")
        fflush(nil)
        try await channel.consume("hello", acknowledgement: .automatic) { deliveries in
            for try await delivery in deliveries {
                print(" [x] Received '\(delivery.body.string)'")
                fflush(nil)
            }
        }
    }
}
