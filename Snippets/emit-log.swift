// SPDX-License-Identifier: Apache-2.0
// Publish/subscribe tutorial: sends a line to everyone who listens, by way of a fanout exchange.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
let words = CommandLine.arguments.dropFirst()
let text = words.isEmpty ? "info: Hello World!" : words.joined(separator: " ")
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareExchange("logs", type: .fanout)
        try await channel.publish(AMQPMessage(text), to: .exchange("logs"))
    }
}
print(" [x] Sent '\(text)'")
