// SPDX-License-Identifier: Apache-2.0
// The code of the article "Retries and dead letters".

import AMQP091

struct CardDeclined: Error {}
func charge(_ order: String) async throws {}

func topology() -> AMQPTopology {
    // snippet.topology
    let topology = AMQPTopology { topology in
        topology.queue("orders", as: .quorum(deliveryLimit: 5, deadLetter: .queue("orders.dead")))
        topology.queue("orders.dead", as: .quorum())
    }
    // snippet.end
    return topology
}

func work(_ client: AMQPClient) async throws {
    // snippet.handler
    try await client.consume("orders", prefetch: 64) { deliveries in
        try await deliveries.process(maxConcurrency: 16) { delivery in
            do {
                try await charge(delivery.body.string)
            } catch is CardDeclined {
                // Permanent: to the dead letters at once.
                try delivery.reject(requeue: false)
            }
            // Any other error rejects with requeue: it is delivered again, at most five times.
        }
    }
    // snippet.end
}

func laterTopology() -> AMQPTopology {
    // snippet.later
    let topology = AMQPTopology { topology in
        // Failed orders wait here for 30 s; then the queue dead-letters them back to "orders".
        topology.queue(
            "orders.retry",
            as: .quorum(messageTimeToLive: .seconds(30), deadLetter: .queue("orders"))
        )
        topology.queue("orders", as: .quorum(deadLetter: .queue("orders.retry")))
        topology.queue("orders.dead", as: .quorum())
    }
    // snippet.end
    return topology
}

func workLater(_ client: AMQPClient) async throws {
    // snippet.count
    try await client.withPublisher { publisher in
        try await client.consume("orders", prefetch: 64) { deliveries in
            try await deliveries.process(maxConcurrency: 16, requeue: .never) { delivery in
                let properties = try delivery.properties()
                let failures = properties.deaths.first { $0.queue == "orders" }?.count ?? 0
                guard failures < 5 else {
                    // Confirmed in its new queue before it is acknowledged in the old one.
                    let message = AMQPMessage(delivery.body.copy(), properties: properties)
                    return try await publisher.publish(message, to: .queue("orders.dead"), mandatory: true)
                }
                try await charge(delivery.body.string)
            }
        }
    }
    // snippet.end
}

func delayedRetry(_ channel: AMQPChannel) async throws {
    // snippet.delayed
    try await channel.declareQueue(
        "orders",
        as: .quorum(
            deliveryLimit: 5,
            deadLetter: .queue("orders.dead"),
            delayedRetry: .init(.failed, minimum: .seconds(10), maximum: .seconds(60))
        )
    )
    // snippet.end
}
