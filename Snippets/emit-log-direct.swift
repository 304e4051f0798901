// SPDX-License-Identifier: Apache-2.0
// Routing tutorial: sends a line with a severity, which a direct exchange routes by.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
let arguments = CommandLine.arguments.dropFirst()
let severity = arguments.first ?? "info"
let text = arguments.count > 1 ? arguments.dropFirst().joined(separator: " ") : "Hello World!"
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareExchange("direct_logs", type: .direct)
        try await channel.publish(AMQPMessage(text), to: .exchange("direct_logs", routingKey: severity))
    }
}
print(" [x] Sent '\(severity)':'\(text)'")
