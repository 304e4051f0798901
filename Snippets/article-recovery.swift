// SPDX-License-Identifier: Apache-2.0
// The code of the article "Recovery": a client that lasts as long as its service.

import AMQP091

func serve() async throws {
    // snippet.client
    var configuration = AMQPClientConfiguration(addresses: [.host("rabbit-1"), .host("rabbit-2")])
    configuration.heartbeat = .seconds(10)
    let topology = AMQPTopology { topology in
        topology.exchange("orders", type: .topic)
        topology.queue("billing", as: .quorum(deliveryLimit: 5), boundTo: "orders", routingKey: "order.*")
    }
    try await AMQPClient.withClient(configuration, topology: topology) { client in
        try await client.consume("billing", prefetch: 64) { deliveries in
            try await deliveries.process(maxConcurrency: 16) { delivery in
                print(delivery.routingKey)
            }
        }
    }
    // snippet.end
}

func publish(_ client: AMQPClient) async throws {
    // snippet.outbox
    try await client.withPublisher(outbox: .octets(64 << 20)) { publisher in
        try await publisher.publish("42", to: .exchange("orders", routingKey: "order.placed"))
    }
    // snippet.end
}

func watch(_ client: AMQPClient) async {
    // snippet.events
    for await event in client.events { print(event) }
    // snippet.end
}
