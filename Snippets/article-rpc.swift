// SPDX-License-Identifier: Apache-2.0
// The code of the article "RPC".

import AMQP091

func price(of item: String) async throws -> Int { 42 }

func serve(_ client: AMQPClient) async throws {
    // snippet.server
    try await client.serveRPC("prices", maxConcurrency: 8) { request in
        AMQPMessage("\(try await price(of: request.body.string))")
    }
    // snippet.end
}

func ask(_ client: AMQPClient) async throws {
    // snippet.client
    try await client.withRPCClient { rpc in
        let reply = try await rpc.call("apple", to: .queue("prices"), timeout: .seconds(2))
        print(reply.body.string)
    }
    // snippet.end
}

func askMany(_ client: AMQPClient, _ items: [String]) async throws {
    // snippet.many
    try await client.withRPCClient { rpc in
        try await withThrowingTaskGroup(of: String.self) { group in
            for item in items {
                group.addTask {
                    try await rpc.call(AMQPMessage(item), to: .queue("prices"), timeout: .seconds(2)).body.string
                }
            }
            for try await price in group { print(price) }
        }
    }
    // snippet.end
}

func askCarefully(_ rpc: AMQPRPCClient) async throws {
    // snippet.errors
    do throws(AMQPError) {
        _ = try await rpc.call("apple", to: .queue("prices"), timeout: .seconds(2))
    } catch {
        switch error.code {
        case .returned: print("no queue 'prices': nobody serves it")
        case .timedOut: print("no reply in 2 s; the request may still be processed")
        default: print(error.isSafeToRetry ? "not sent: \(error)" : "\(error)")
        }
    }
    // snippet.end
}

func answerErrors(_ client: AMQPClient) async throws {
    // snippet.failure
    try await client.serveRPC("prices") { request in
        do {
            return AMQPMessage("\(try await price(of: request.body.string))")
        } catch {
            // Thrown errors send no reply; a header tells the caller at once.
            return AMQPMessage("\(error)", properties: BasicProperties(headers: ["error": true]))
        }
    }
    // snippet.end
}
