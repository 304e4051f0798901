// SPDX-License-Identifier: Apache-2.0
// The code of the article "Configuration": the same options from a URI, in code, and from the environment.

import AMQP091

#if canImport(Configuration)
    import Configuration
#endif

func fromURI() throws -> AMQPClientConfiguration {
    // snippet.uri
    let uri = "amqps://app:s3cret@rabbit.example.com/prod?heartbeat=10&connection_name=orders"
    let configuration = try AMQPClientConfiguration(uri: uri)
    // snippet.end
    return configuration
}

func inCode() -> AMQPClientConfiguration {
    // snippet.code
    var configuration = AMQPClientConfiguration(addresses: [.host("rabbit-1"), .host("rabbit-2")])
    configuration.virtualHost = "prod"
    configuration.authentication = .plain(username: "app", password: "s3cret")
    configuration.connectionName = "orders"
    configuration.heartbeat = .seconds(10)
    configuration.operationTimeout = .seconds(5)
    configuration.recovery.maximumDelay = .seconds(5)
    // snippet.end
    return configuration
}
