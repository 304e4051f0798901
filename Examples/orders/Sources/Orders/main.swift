// SPDX-License-Identifier: Apache-2.0
// An HTTP service with Hummingbird: POST /orders publishes the order and answers when the broker has it; a worker in the
// same process consumes. On SIGTERM the server takes no more requests, the worker finishes, and the client goes last.

import AMQP091
import AMQP091Foundation
import Configuration
import Hummingbird
import Logging
import ServiceLifecycle

struct Order: Codable, Sendable {
    var id: Int
}

struct OrderWorker: Service {
    let client: AMQPClient
    let logger: Logger

    func run() async throws {
        try await self.client.consume("orders", prefetch: 64) { deliveries in
            try await deliveries.process(maxConcurrency: 16) { delivery in
                let order: Order = try delivery.decode()
                self.logger.info("order", metadata: ["id": "\(order.id)"])
            }
        }
    }
}

let logger = Logger(label: "orders")
// AMQP_URI, or AMQP_HOST, AMQP_USERNAME, AMQP_PASSWORD and so on; HTTP_PORT.
let config = ConfigReader(provider: EnvironmentVariablesProvider())
let client = AMQPClient(
    try AMQPClientConfiguration(config: config.scoped(to: "amqp")),
    topology: AMQPTopology { topology in
        topology.queue("orders", as: .quorum(deliveryLimit: 5, deadLetter: .queue("orders.dead")))
        topology.queue("orders.dead", as: .quorum())
    },
    logger: logger
)
// One publisher for all requests; it continues on the next connection after a loss.
let publisher = try client.openPublisher()

let router = Router()
router.post("orders") { request, context -> HTTPResponse.Status in
    let order = try await request.decode(as: Order.self, context: context)
    do {
        try await publisher.publish(AMQPMessage(json: order), to: .queue("orders"), mandatory: true)
    } catch let error as AMQPError {
        context.logger.error("not published", metadata: ["error": "\(error)"])
        throw HTTPError(.serviceUnavailable)
    }
    return .accepted
}

var app = Application(
    router: router,
    configuration: .init(address: .hostname("127.0.0.1", port: config.int(forKey: "http.port", default: 8080))),
    logger: logger
)
app.addServices(client, OrderWorker(client: client, logger: logger))
try await app.runService()
