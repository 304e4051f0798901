// SPDX-License-Identifier: Apache-2.0
// Routing tutorial: prints the lines of the severities it is given, until interrupted.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
let severities = CommandLine.arguments.dropFirst()
guard !severities.isEmpty else {
    print("Usage: receive-logs-direct [info] [warning] [error]")
    exit(1)
}
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareExchange("direct_logs", type: .direct)
        let queue = try await channel.declareQueue(exclusive: true)
        for severity in severities {
            try await channel.bindQueue(queue.name, to: "direct_logs", routingKey: severity)
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
