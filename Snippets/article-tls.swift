// SPDX-License-Identifier: Apache-2.0
// The code of the article "TLS".

import AMQP091

func connect() async throws {
    // snippet.uri
    try await AMQPConnection.withConnection("amqps://app:s3cret@rabbit.example.com/prod") { connection in
        print(connection.serverProperties["version"]?.stringValue ?? "?")
    }
    // snippet.end

    // snippet.mutual
    // The certificate says who the client is: mutual TLS and the mechanism EXTERNAL.
    var configuration = AMQPClientConfiguration(addresses: [.host("rabbit-1.internal", port: 5671)])
    configuration.virtualHost = "prod"
    configuration.tls = .require(
        roots: .file(path: "/etc/app/ca.pem"),
        certificateChain: "/etc/app/client.pem",
        privateKey: "/etc/app/client.key"
    )
    configuration.authentication = .external
    try await AMQPConnection.withConnection(configuration) { connection in
        try await connection.withChannel { try await $0.publish("ping", to: .queue("health")) }
    }
    // snippet.end
}
