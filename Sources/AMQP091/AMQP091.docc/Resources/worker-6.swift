import AMQP091
import ServiceLifecycle

struct OrderWorker: Service {
    let client: AMQPClient

    func run() async throws {
        try await self.client.consume("orders", prefetch: 32) { deliveries in
            try await deliveries.process(maxConcurrency: 8, requeue: .once) { delivery in
                print("working on", delivery.body.string)
            }
        }
    }
}

let uri = "amqp://guest:guest@localhost"
let topology = AMQPTopology { topology in
    topology.queue("orders", as: .quorum(deliveryLimit: 5))
}
