// SPDX-License-Identifier: Apache-2.0
// A worker as a daemon: takes orders from the queue `orders`, 16 at a time, and puts an invoice for each into the queue
// `invoices`. An order is acknowledged when its invoice is confirmed. On SIGTERM it takes no more, finishes and settles what
// it has begun, and exits.

import AMQP091
import Configuration
import Logging
import ServiceLifecycle
import UnixSignals

struct OrderWorker: Service {
    let client: AMQPClient
    let logger: Logger

    func run() async throws {
        try await self.client.withPublisher { publisher in
            try await self.client.consume("orders", prefetch: 32) { deliveries in
                try await deliveries.process(maxConcurrency: 16) { delivery in
                    let id = try delivery.properties().messageID ?? ""
                    let invoice = AMQPMessage(
                        "invoice for \(delivery.body.string)",
                        properties: BasicProperties(deliveryMode: 2, messageID: id)
                    )
                    try await publisher.publish(invoice, to: .queue("invoices"), mandatory: true)
                    self.logger.info("invoiced", metadata: ["id": "\(id)"])
                }
            }
        }
    }
}

let logger = Logger(label: "orders")
// AMQP_URI, or AMQP_HOST, AMQP_USERNAME, AMQP_PASSWORD and so on.
let config = ConfigReader(provider: EnvironmentVariablesProvider())
let client = AMQPClient(
    try AMQPClientConfiguration(config: config.scoped(to: "amqp")),
    topology: AMQPTopology { topology in
        topology.queue("orders", as: .quorum(deliveryLimit: 5, deadLetter: .queue("orders.dead")))
        topology.queue("orders.dead", as: .quorum())
        topology.queue("invoices", as: .quorum())
    },
    logger: logger
)
// Services are stopped in the reverse order: first the worker, then the client it uses.
let group = ServiceGroup(
    services: [client, OrderWorker(client: client, logger: logger)],
    gracefulShutdownSignals: [.sigterm, .sigint],
    logger: logger
)
try await group.run()
