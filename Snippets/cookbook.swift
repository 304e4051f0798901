// SPDX-License-Identifier: Apache-2.0
// The code of the article "Cookbook".

import AMQP091

func charge(_ order: String) async throws {}

func delayed(_ channel: AMQPChannel, _ publisher: AMQPPublisher) async throws {
    // snippet.delay
    // Without a plugin: one queue per delay, which dead-letters into the queue of work.
    let delay = AMQPQuorumQueue.quorum(messageTimeToLive: .seconds(60), deadLetter: .queue("mails"))
    try await channel.declareQueue("mails.in-60s", as: delay)
    try await publisher.publish("remind Ann", to: .queue("mails.in-60s"), mandatory: true)

    // With the plugin rabbitmq_delayed_message_exchange: any delay for each message.
    try await channel.declareExchange("later", type: .delayedMessage, arguments: .delayed(.direct))
    try await channel.bindQueue("mails", to: "later", routingKey: "mails")
    var message = AMQPMessage("remind Ann")
    message.properties.headers = ["x-delay": 60_000]
    try await publisher.publish(message, to: .exchange("later", routingKey: "mails"))
    // snippet.end
}

func priority(_ channel: AMQPChannel, _ publisher: AMQPPublisher) async throws {
    // snippet.priority
    // Quorum queues since RabbitMQ 4.0 need no option; classic queues say how many levels they keep apart.
    try await channel.declareQueue("tasks", as: .classic(maximumPriority: 5))
    var urgent = AMQPMessage("now")
    urgent.properties.priority = 5
    try await publisher.publish(urgent, to: .queue("tasks"))
    // snippet.end
}

func oneAtATime(_ client: AMQPClient) async throws {
    // snippet.one
    try await client.consume("reports", prefetch: 1) { deliveries in
        try await deliveries.process(maxConcurrency: 1) { try await charge($0.body.string) }
    }
    // snippet.end
}

func oneWorker(_ client: AMQPClient) async throws {
    // snippet.worker
    try await client.withChannel { channel in
        try await channel.declareQueue("scheduler", as: .quorum(singleActiveConsumer: true))
    }
    // Run it in every instance: one is active, the next takes over when it ends.
    try await client.consume("scheduler", prefetch: 16) { deliveries in
        try await deliveries.process { try await charge($0.body.string) }
    }
    // snippet.end
}

func deadline(_ rpc: AMQPRPCClient) async throws {
    // snippet.deadline
    // The request expires in the queue when its caller no longer waits.
    var request = AMQPMessage("apple")
    request.properties.timeToLive = .seconds(2)
    let reply = try await rpc.call(request, to: .queue("prices"), timeout: .seconds(2))
    // snippet.end
    print(reply.body.string)
}

func drain(_ client: AMQPClient) async {
    // snippet.drain
    // On SIGTERM: consumers are cancelled, handlers finish, confirms arrive, connections close.
    // Bounded by configuration.recovery.shutdownTimeout.
    await client.shutdown()
    // snippet.end
}

func replay(_ client: AMQPClient) async throws {
    // snippet.replay
    let yesterday = FieldTable.stream(from: .ago(.seconds(86_400)))
    try await client.consume("events", prefetch: 500, arguments: yesterday) { deliveries in
        for try await delivery in deliveries {
            print(try delivery.properties().streamOffset ?? 0, delivery.body.string)
            try delivery.ack()
        }
    }
    // snippet.end
}

func moveDeadLetters(_ client: AMQPClient) async throws {
    // snippet.move
    try await client.withPublisher { publisher in
        try await client.withChannel { channel in
            while let delivery = try await channel.get("orders.dead") {
                var properties = try delivery.properties()
                properties.headers?["x-death"] = nil  // the count of deaths begins anew
                let message = AMQPMessage(delivery.body.copy(), properties: properties)
                // Confirmed there before it is acknowledged here: a crash in between leaves two copies, never none.
                try await publisher.publish(message, to: .queue("orders"), mandatory: true)
                try delivery.ack()
            }
        }
    }
    // snippet.end
}

func certificateName() -> AMQPClientConfiguration {
    // snippet.mtls
    var configuration = AMQPClientConfiguration(addresses: [.host("rabbit.internal", port: 5671)])
    // The name in the management plugin; the user name comes from the certificate.
    configuration.connectionName = "orders-7f9c"
    configuration.authentication = .external
    configuration.tls = .require(
        roots: .file(path: "/etc/app/ca.pem"),
        certificateChain: "/etc/app/client.pem",
        privateKey: "/etc/app/client.key"
    )
    // snippet.end
    return configuration
}

func tenants(_ base: AMQPClientConfiguration, _ names: [String]) async throws {
    // snippet.tenants
    // A virtual host for each tenant: separate queues, permissions and limits, and a separate connection pair.
    try await withThrowingTaskGroup { group in
        for name in names {
            var configuration = base
            configuration.virtualHost = "tenant-\(name)"
            configuration.connectionName = "orders/\(name)"
            let client = AMQPClient(configuration)
            group.addTask { try await client.run() }
            group.addTask {
                try await client.consume("orders", prefetch: 32) { deliveries in
                    try await deliveries.process(maxConcurrency: 4) { try await charge($0.body.string) }
                }
            }
        }
        try await group.waitForAll()
    }
    // snippet.end
}
