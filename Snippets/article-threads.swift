// SPDX-License-Identifier: Apache-2.0
// The code of the article "Threads".

import AMQP091

func parse(_ octets: RawSpan) -> Int { octets.byteCount }

func share(_ publisher: AMQPPublisher, _ items: [String]) async throws {
    // snippet.share
    try await withThrowingTaskGroup { group in
        for item in items {
            group.addTask { try await publisher.publish(AMQPMessage(item), to: .queue("items")) }
        }
        try await group.waitForAll()
    }
    // snippet.end
}

func onTheLoop(_ connection: AMQPConnection) async throws {
    // snippet.loop
    // Short work per message: delivery, reply and acknowledgement without a thread switch.
    try await withTaskExecutorPreference(connection.taskExecutor) {
        try await connection.withChannel { channel in
            try await channel.setPrefetch(count: 64)
            try await channel.consume("pings") { deliveries in
                for try await delivery in deliveries {
                    try await channel.publish("pong", to: .queue("pongs"))
                    try delivery.ack()
                }
            }
        }
    }
    // snippet.end
}
