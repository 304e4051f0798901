// SPDX-License-Identifier: Apache-2.0
// The code of the article "Logs, metrics and traces".

import AMQP091
import Logging

func connect() async throws {
    var logger = Logger(label: "orders")
    logger.logLevel = .debug
    // snippet.options
    var configuration = try AMQPClientConfiguration(uri: "amqp://localhost")
    configuration.connectionName = "orders"
    configuration.tracing.correlation = .parent
    configuration.tracing.destinationTemplate = "orders:order.{event}"
    // snippet.end
    try await AMQPConnection.withConnection(configuration, logger: logger) { connection in
        try await connection.withChannel { channel in
            try await channel.consume("orders") { deliveries in
                for try await delivery in deliveries {
                    // snippet.span
                    // In your own loop; `process` creates its span itself.
                    try await delivery.withSpan {
                        logger.info("order", metadata: ["amqp.routing_key": "\(delivery.routingKey)"])
                        try delivery.ack()
                    }
                    // snippet.end
                }
            }
        }
    }
}
