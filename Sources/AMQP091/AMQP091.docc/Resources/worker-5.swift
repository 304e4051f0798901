import AMQP091

let uri = "amqp://guest:guest@localhost"
let topology = AMQPTopology { topology in
    topology.queue("orders", as: .quorum(deliveryLimit: 5, deadLetter: .queue("orders.dead")))
    topology.queue("orders.dead", as: .quorum())
}
try await AMQPClient.withClient(uri, topology: topology) { client in
    try await client.withPublisher { publisher in
        try await publisher.publish("a chair", to: .queue("orders"), mandatory: true)
    }
    try await client.consume("orders", prefetch: 32) { deliveries in
        try await deliveries.process(maxConcurrency: 8) { delivery in
            print("working on", delivery.body.string)
        }
    }
}
