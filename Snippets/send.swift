// SPDX-License-Identifier: Apache-2.0
// Work-queue tutorial, part 1: sends one message to the queue "hello". The broker's URI is in AMQP_URI.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareQueue("hello")
        try await channel.publish("Hello World!", to: .queue("hello"))
    }
}
print(" [x] Sent 'Hello World!'")
