// SPDX-License-Identifier: Apache-2.0
// The code of the articles on migrating: what other clients call otherwise.

import AMQP091

func work(_ connection: AMQPConnection) async throws {
    // snippet.swift
    // basicPublish, basicConsume and basicAck of RabbitMQNIO; publish, consume and ack of BunnySwift.
    try await connection.withChannel { channel in
        try await channel.declareExchange("orders", type: .topic)
        try await channel.declareQueue("billing")
        try await channel.bindQueue("billing", to: "orders", routingKey: "order.*")
        try await channel.setPrefetch(count: 64)
        try await channel.consume("billing") { deliveries in
            for try await delivery in deliveries {
                print(delivery.routingKey, delivery.body.count)
                try delivery.ack()
            }
        }
    }
    // snippet.end

    // snippet.confirms
    // channel.confirm_delivery() and basic_publish(..., mandatory=True) of pika.
    try await connection.withPublisher { publisher in
        let message = AMQPMessage("42", properties: BasicProperties(contentType: "text/plain", deliveryMode: 2))
        try await publisher.publish(message, to: .exchange("orders", routingKey: "order.placed"), mandatory: true)
    }
    // snippet.end

    // snippet.get
    // basic_get of pika.
    try await connection.withChannel { channel in
        while let delivery = try await channel.get("billing") { try delivery.ack() }
    }
    // snippet.end
}
