// SPDX-License-Identifier: Apache-2.0
// The code of the article "Streams".

import AMQP091

func load() async throws -> UInt64? { nil }
func store(_ offset: UInt64, _ body: String) async throws {}

func declare(_ channel: AMQPChannel) async throws {
    // snippet.declare
    try await channel.declareQueue("events", as: .stream(maximumAge: .seconds(7 * 86_400), maximumOctets: 50 << 30))
    // snippet.end
}

func read(_ client: AMQPClient) async throws {
    // snippet.read
    let offset = try await load().map { AMQPStreamOffset.offset($0 + 1) } ?? .first
    try await client.consume("events", prefetch: 500, arguments: .stream(from: offset)) { deliveries in
        for try await delivery in deliveries {
            let offset = try delivery.properties().streamOffset ?? 0
            try await store(offset, delivery.body.string)  // the result and the offset, in one transaction
            try delivery.ack()  // removes nothing; it asks for more
        }
    }
    // snippet.end
}

func filtered(_ client: AMQPClient) async throws {
    // snippet.filter
    var message = AMQPMessage("42")
    message.properties.streamFilterValue = "north"
    try await client.withPublisher { try await $0.publish(message, to: .queue("events")) }

    let north = FieldTable.stream(from: .ago(.seconds(3600)), filter: ["north"])
    try await client.consume("events", prefetch: 500, arguments: north) { deliveries in
        for try await delivery in deliveries {
            // A chunk is delivered whole: compare again.
            if try delivery.properties().streamFilterValue == "north" { print(delivery.body.string) }
            try delivery.ack()
        }
    }
    // snippet.end
}
