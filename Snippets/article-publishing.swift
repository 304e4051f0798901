// SPDX-License-Identifier: Apache-2.0
// The code of the article "Publishing": every way to publish, and what each tells.

import AMQP091

func work(_ connection: AMQPConnection, _ orders: AsyncStream<AMQPMessage>) async throws {
    let destination = AMQPDestination.exchange("orders", routingKey: "order.placed")

    // snippet.ways
    try await connection.withPublisher(maxInFlight: 1024) { publisher in
        // Returns when the broker has confirmed it; throws .nacked, .returned or another outcome.
        try await publisher.publish("42", to: destination, mandatory: true)

        // Returns as soon as there is room; waitForConfirms and the end of the closure throw failures.
        try await publisher.send("43", to: destination)

        // One wait for many, and one outcome for each, in their order.
        let outcomes = await publisher.publish(contentsOf: ["44", "45"], to: destination)
        for case .unknown(let reason) in outcomes { print("sent, and not confirmed:", reason) }

        // The outcome is awaited later.
        let receipt = try await publisher.enqueue("46", to: destination)
        print(await receipt.outcome())

        // Pulled from a sequence, with at most the window unconfirmed.
        let summary = try await publisher.publish(stream: orders, to: destination)
        print("\(summary.confirmed) of \(summary.total)")
    }
    // snippet.end

    // snippet.properties
    var message = AMQPMessage("42")
    message.properties.isPersistent = true
    message.properties.messageID = "order-42"
    message.properties.headers = ["tenant": "north"]
    // snippet.end
    try await connection.withChannel { channel in
        // Without confirms: back-pressure only.
        try await channel.publish(message, to: destination)
    }
}
