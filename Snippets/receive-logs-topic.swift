// SPDX-License-Identifier: Apache-2.0
// Topics tutorial: prints the lines whose keys match its patterns: * is one word, # any number. Until interrupted.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
let patterns = CommandLine.arguments.dropFirst()
guard !patterns.isEmpty else {
    print("Usage: receive-logs-topic [pattern]…")
    exit(1)
}
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareExchange("topic_logs", type: .topic)
        let queue = try await channel.declareQueue(exclusive: true)
        for pattern in patterns {
            try await channel.bindQueue(queue.name, to: "topic_logs", routingKey: pattern)
        }
        try await channel.consume(queue.name, acknowledgement: .automatic) { deliveries in
            print(" [*] Waiting for logs. To exit press CTRL+C")
            fflush(nil)
            for try await delivery in deliveries {
                print(" [x] '\(delivery.routingKey)':'\(delivery.body.string)'")
                fflush(nil)
            }
        }
    }
}
