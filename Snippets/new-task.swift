// SPDX-License-Identifier: Apache-2.0
// Work-queue tutorial, part 2: sends a persistent task; each dot in its text is a second of work.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
let words = CommandLine.arguments.dropFirst()
let text = words.isEmpty ? "Hello World!" : words.joined(separator: " ")
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareQueue("task_queue")
        try await channel.enableConfirms()
        let task = AMQPMessage(text, properties: BasicProperties(deliveryMode: 2))
        try await channel.publishAndConfirm(task, to: .queue("task_queue"))
    }
}
print(" [x] Sent '\(text)'")
