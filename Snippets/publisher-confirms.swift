// SPDX-License-Identifier: Apache-2.0
// Publisher confirms tutorial: publishes one by one, in a batch, and pipelined, and knows what became of each.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
let count = 500
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        let destination = AMQPDestination.queue(try await channel.declareQueue(exclusive: true).name)
        try await connection.withPublisher(maxInFlight: 100) { publisher in
            // One by one: throws unless the broker has taken it.
            for number in 0..<count { try await publisher.publish("\(number)", to: destination) }
            print(" [x] Confirmed \(count) one by one")

            // A batch: one wait, one outcome per message.
            let batch = (0..<count).map { AMQPMessage("\($0)") }
            let outcomes = await publisher.publish(contentsOf: batch, to: destination)
            print(" [x] Confirmed \(outcomes.count { $0.isConfirmed }) in a batch")

            // Pipelined: the receipts are asked later.
            var receipts: [AMQPPublishReceipt] = []
            for number in 0..<count { receipts.append(try await publisher.enqueue("\(number)", to: destination)) }
            var confirmed = 0
            for receipt in receipts where await receipt.outcome().isConfirmed { confirmed += 1 }
            print(" [x] Confirmed \(confirmed) by receipts")
        }
    }
}
