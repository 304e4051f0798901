// SPDX-License-Identifier: Apache-2.0
// The code of the article "In production".

import AMQP091
import Logging

func isReady(_ client: AMQPClient) async -> Bool {
    // snippet.health
    do throws(AMQPError) {
        // Waits for a connection that is being made; throws at once when the client has ended.
        for role in [AMQPConnectionRole.publishing, .consuming] {
            _ = try await client.connection(role, timeout: .seconds(1))
        }
        return true
    } catch {
        return false
    }
    // snippet.end
}

func watch(_ client: AMQPClient, _ logger: Logger) async {
    // snippet.events
    for await event in client.events {
        switch event.kind {
        case .disconnected, .blocked, .topologyIncomplete, .publishesGivenUp, .publishRefused:
            logger.warning("amqp", metadata: ["event": "\(event)"])
        default:
            logger.info("amqp", metadata: ["event": "\(event)"])
        }
    }
    // snippet.end
}

func tune() -> AMQPClientConfiguration {
    // snippet.tune
    var configuration = AMQPClientConfiguration(addresses: [.host("rabbit-1"), .host("rabbit-2"), .host("rabbit-3")])
    configuration.connectionName = "orders-7f9c"  // shown by the management plugin
    configuration.heartbeat = .seconds(10)  // a frozen node is noticed after 15.5 s
    configuration.consumerBufferSize = 8 << 20  // octets of deliveries a consumer may hold
    configuration.maximumBodySize = 4 << 20  // a larger body rejects its own message only
    configuration.socketSendBufferSize = nil  // the kernel's choice, for round trips above 1 ms
    configuration.recovery.shutdownTimeout = .seconds(20)  // below the grace period of the supervisor
    // snippet.end
    return configuration
}
