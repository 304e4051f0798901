// SPDX-License-Identifier: Apache-2.0
// RPC tutorial: asks the server for a Fibonacci number, and prints it.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"
let n = CommandLine.arguments.dropFirst().first ?? "30"
print(" [x] Requesting fib(\(n))")
try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withRPCClient { rpc in
        let reply = try await rpc.call(AMQPMessage(n), to: .queue("rpc_queue"), timeout: .seconds(5))
        print(" [x] Got '\(reply.body.string)'")
    }
}
