// SPDX-License-Identifier: Apache-2.0
// The code of the article "Consuming": handlers, loops of one's own, and what becomes of a message.

import AMQP091

func resize(_ url: String) async throws {}

struct File {
    static func create(named: String, size: Int) async throws -> File { File() }
    func append(_ octets: AMQPBody) async throws {}
}

func work(_ connection: AMQPConnection) async throws {
    try await connection.withChannel { channel in
        // snippet.limit
        try await channel.declareQueue("resize.dead", as: .quorum())
        try await channel.declareQueue("resize", as: .quorum(deliveryLimit: 5, deadLetter: .queue("resize.dead")))
        // snippet.end
        try await channel.setPrefetch(count: 32)

        // snippet.handlers
        // Up to eight at a time; acknowledged when the handler returns, rejected when it throws.
        try await channel.consume("resize") { deliveries in
            try await deliveries.process(maxConcurrency: 8) { delivery in
                try await resize(delivery.body.string)
            }
        }
        // snippet.end
    }

    try await connection.withChannel { channel in
        // snippet.loop
        // One after the other, settled explicitly.
        try await channel.consume("resize") { deliveries in
            for try await delivery in deliveries {
                do {
                    try await resize(delivery.body.string)
                    try delivery.ack()
                } catch {
                    try delivery.reject()
                }
            }
        }
        // snippet.end

        // snippet.once
        // Settling twice does not compile; an unsettled delivery is requeued.
        try await channel.consume("resize") { deliveries in
            try await deliveries.forEach { delivery in
                try await resize(delivery.body.string)
                try delivery.ack()
            }
        }
        // snippet.end

        // snippet.streamed
        // A body is read while it arrives, and never held as a whole.
        try await channel.consume("videos") { deliveries in
            for try await delivery in deliveries.streamed {
                let file = try await File.create(named: delivery.routingKey, size: delivery.body.count)
                for try await piece in delivery.body { try await file.append(piece.copy()) }
                try delivery.ack()
            }
        }
        // snippet.end

        // One message now, if there is one.
        if let delivery = try await channel.get("resize") { try delivery.ack() }
    }
}
