// SPDX-License-Identifier: Apache-2.0
// The code of the article "Order".

import AMQP091

func handle(_ body: String) async throws {}

func one(_ client: AMQPClient) async throws {
    // snippet.one
    try await client.consume("ledger", prefetch: 32) { deliveries in
        // One at a time: the order of the queue. A failure comes again before the ones after it are processed only
        // if the prefetch is 1.
        try await deliveries.process(maxConcurrency: 1) { delivery in
            try await handle(delivery.body.string)
        }
    }
    // snippet.end
}

func single(_ channel: AMQPChannel) async throws {
    // snippet.single
    try await channel.declareQueue("ledger", as: .quorum(singleActiveConsumer: true))
    // snippet.end
}

func partitioned(_ channel: AMQPChannel) async throws {
    // snippet.partition
    // Messages of one customer have one routing key, so they are in one queue, in order.
    try await channel.declareExchange("orders", type: .consistentHash)
    for number in 0..<8 {
        try await channel.declareQueue("orders.\(number)", as: .quorum(singleActiveConsumer: true))
        try await channel.bindQueue("orders.\(number)", to: "orders", routingKey: "1")  // its weight
    }
    // snippet.end
}
