// SPDX-License-Identifier: Apache-2.0
// The code of the article "Performance": the plain loops are the fast ones.

import AMQP091

func handle(_ octets: RawSpan) {}

func work(_ channel: AMQPChannel, _ messages: [AMQPMessage], _ deliveries: AMQPDeliveries) async throws {
    for message in messages {
        try await channel.publish(message, to: .queue("orders"))
    }
    try await channel.waitForConfirms()

    for try await delivery in deliveries {
        handle(delivery.body.bytes)
        try delivery.ack()
    }
}
