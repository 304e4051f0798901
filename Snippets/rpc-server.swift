// SPDX-License-Identifier: Apache-2.0
// RPC tutorial: answers requests for Fibonacci numbers, until interrupted.

import AMQP091
import Foundation

let uri = ProcessInfo.processInfo.environment["AMQP_URI"] ?? "amqp://guest:guest@localhost"

@Sendable func fibonacci(_ n: Int) -> Int {
    var (a, b) = (0, 1)
    for _ in 0..<n { (a, b) = (b, a &+ b) }
    return a
}

try await AMQPConnection.withConnection(uri) { connection in
    try await connection.withChannel { channel in
        try await channel.declareQueue("rpc_queue")
    }
    print(" [x] Awaiting RPC requests")
    fflush(nil)
    // Replies, then acknowledges; a request that is no number is dropped.
    try await connection.serveRPC("rpc_queue") { request in
        guard let n = Int(request.body.string), 0...90 ~= n else { throw CocoaError(.formatting) }
        print(" [.] fib(\(n))")
        fflush(nil)
        return AMQPMessage("\(fibonacci(n))")
    }
}
