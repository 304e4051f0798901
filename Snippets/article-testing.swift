// SPDX-License-Identifier: Apache-2.0
// The code of the article "Testing your service".

import AMQP091
import AMQP091Testing

// snippet.fixture
func ordersComeBackAfterACrash() async throws {
    try await InProcessBroker.withBroker { broker in
        try await AMQPConnection.withConnection(broker.configuration) { connection in
            try await connection.withPublisher { publisher in
                try await connection.withChannel { try await $0.declareQueue("orders") }
                try await publisher.publish("42", to: .queue("orders"))
            }
        }
        try await broker.waitUntil(depthOf: "orders", is: 1)

        let connection = try await AMQPConnection.connect(broker.configuration)
        let channel = try await connection.openChannel()
        _ = try await channel.get("orders")
        await broker.dropConnections("a cut cable")  // before the message was settled
        try await broker.waitUntil(depthOf: "orders", is: 1)
    }
}
// snippet.end

// snippet.releases
func ordersWorkOnBothReleases() async throws {
    for version in [InProcessBroker.RabbitMQVersion.v3_10, .v4_3] {
        try await InProcessBroker.withBroker(.rabbitMQ(version)) { broker in
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                try await connection.withChannel { try await $0.declareQueue("orders", durable: true) }
            }
        }
    }
}
// snippet.end

// snippet.faults
func refusedPublishThrows() async throws {
    try await InProcessBroker.withBroker { broker in
        await broker.confirm(.nackNext(1))
        try await AMQPConnection.withConnection(broker.configuration) { connection in
            try await connection.withPublisher { publisher in
                do throws(AMQPError) {
                    try await publisher.publish("42", to: .queue("orders"))
                } catch {
                    print(error.code == .nacked)
                }
            }
        }
    }
}
// snippet.end

// snippet.steps
func aLinkThatDropsInTheMiddleOfAnAnswer() async throws {
    try await InProcessBroker.withBroker { broker in
        try await AMQPConnection.withConnection(broker.configuration) { connection in
            let channel = try await connection.openChannel()
            await broker.onNext(.queueDeclare, .loseAnswer, .drop(.during))
            do throws(AMQPError) {
                try await channel.declareQueue("orders", timeout: .milliseconds(50))
            } catch {
                print(error.code == .timedOut)  // the queue is there all the same
            }
            do throws(AMQPError) {
                try await channel.declareQueue("bills")
            } catch {
                print(error.code == .connectionClosed)
            }
        }
    }
}
// snippet.end
