// SPDX-License-Identifier: Apache-2.0
// Stream tutorial: publishes to a stream and reads it from its first message; reading removes nothing.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
let count = 100
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareQueue("events", as: .stream(maximumAge: .seconds(3600), maximumOctets: 1 << 30))
        try await connection.withPublisher { publisher in
            for number in 0..<count { try await publisher.send("event \(number)", to: .queue("events")) }
        }
        print(" [x] Published \(count) events")
        // A stream is consumed with a prefetch, and settled like any queue.
        try await channel.setPrefetch(count: 50)
        try await channel.consume("events", arguments: .stream(from: .first)) { deliveries in
            for try await delivery in deliveries {
                let offset = try delivery.properties().streamOffset ?? 0
                try delivery.ack()
                if offset + 1 == UInt64(count) {
                    print(" [x] Read '\(delivery.body.string)' at offset \(offset)")
                    break
                }
            }
        }
    }
}
