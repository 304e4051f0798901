// SPDX-License-Identifier: Apache-2.0
// Topics tutorial: sends a line with a key of words, such as kern.critical, which a topic exchange matches.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
let arguments = CommandLine.arguments.dropFirst()
let key = arguments.first ?? "anonymous.info"
let text = arguments.count > 1 ? arguments.dropFirst().joined(separator: " ") : "Hello World!"
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareExchange("topic_logs", type: .topic)
        try await channel.publish(AMQPMessage(text), to: .exchange("topic_logs", routingKey: key))
    }
}
print(" [x] Sent '\(key)':'\(text)'")
