// SPDX-License-Identifier: Apache-2.0
// Work-queue tutorial, part 2: takes one task at a time, works a second per dot, and acknowledges when it is done.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareQueue("task_queue")
        try await channel.setPrefetch(count: 1)
        print(" [*] Waiting for tasks. To exit press CTRL+C")
        fflush(nil)
        try await channel.consume("task_queue") { deliveries in
            for try await delivery in deliveries {
                let task = delivery.body.string
                print(" [x] Received '\(task)'\(delivery.redelivered ? " (redelivered)" : "")")
                fflush(nil)
                try await Task.sleep(for: .seconds(task.count { $0 == "." }))
                try delivery.ack()
                print(" [x] Done")
                fflush(nil)
            }
        }
    }
}
