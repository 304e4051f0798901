// SPDX-License-Identifier: Apache-2.0
#if TLS
    import AMQP091
    import Foundation
    import Testing

    // amqps:// against a RabbitMQ that scripts/broker started with --tls; its certificate is changed while it runs.

    @Suite(
        "TLS",
        .enabled(
            if: TLSBroker.uri != nil,
            "AMQP091_TEST_BROKER names no scripts/broker with a node started with --tls"
        ),
        .serialized,
        .timeLimit(.minutes(3))
    )
    struct TLSTests {
        private func roundTrip(_ configuration: AMQPClientConfiguration, _ body: String = "over TLS") async throws {
            try await AMQPConnection.withConnection(configuration) { connection in
                try await connection.withChannel { channel in
                    let queue = try await channel.declareQueue(exclusive: true)
                    try await channel.publish(AMQPMessage(body), to: .queue(queue.name))
                    let message = try #require(try await TLSBroker.get(queue.name, channel))
                    #expect(message.body.string == body)
                }
            }
        }

        @Test("A good certificate connects, and messages small and large pass")
        func good() async throws {
            try TLSBroker.show("good")
            var configuration = try AMQPClientConfiguration(uri: TLSBroker.uri ?? "")
            // The first login after a change of certificates, beside all the other tests.
            configuration.connectTimeout = .seconds(40)
            try await roundTrip(configuration)
            try await roundTrip(configuration, String(repeating: "x", count: 3_000_000))
        }

        @Test("Many publishes with confirms, and their deliveries, pass over one TLS connection")
        func load() async throws {
            try TLSBroker.show("good")
            let count = 20_000
            try await AMQPConnection.withConnection(TLSBroker.uri ?? "") { connection in
                try await connection.withChannel { channel in
                    let queue = try await channel.declareQueue(exclusive: true)
                    try await channel.enableConfirms()
                    try await channel.consume(queue.name) { deliveries in
                        async let published: Void = {
                            for index in 0..<count {
                                try await channel.publish(AMQPMessage("message \(index)"), to: .queue(queue.name))
                            }
                            try await channel.waitForConfirms()
                        }()
                        var next = 0
                        for try await delivery in deliveries {
                            #expect(delivery.body.string == "message \(next)")
                            try delivery.ack()
                            next += 1
                            if next == count { break }
                        }
                        try await published
                    }
                }
            }
        }

        @Test(
            "A bad certificate is refused with a sentence that names what is wrong",
            arguments: [
                ("expired", "has expired"), ("notyet", "not valid yet"), ("wronghost", "elsewhere.example"),
                ("untrusted", "not trusted"),
            ]
        )
        func bad(kind: String, words: String) async throws {
            try TLSBroker.show(kind)
            let configuration = try AMQPClientConfiguration(uri: TLSBroker.uri ?? "")
            let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
            #expect(error?.code == .connectFailed)
            #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
            // Only who asks for it gets around it.
            try await roundTrip(AMQPClientConfiguration(uri: (TLSBroker.uri ?? "") + "&verify=verify_none"))
            if kind == "wronghost" {
                try await roundTrip(
                    AMQPClientConfiguration(uri: (TLSBroker.uri ?? "") + "&server_name_indication=elsewhere.example")
                )
            }
            try TLSBroker.show("good")
        }

        @Test("Mutual TLS with EXTERNAL logs in, also with an encrypted key")
        func external() async throws {
            try TLSBroker.show("good")
            let directory = try TLSBroker.run("certificates")
            let identity =
                "&auth_mechanism=external&certfile=\(directory)/client.pem&keyfile=\(directory)/client_key.pem"
            try await roundTrip(AMQPClientConfiguration(uri: (TLSBroker.uri ?? "") + identity))
            var configuration = try AMQPClientConfiguration(uri: TLSBroker.uri ?? "")
            configuration.tls = .require(
                roots: .file(path: "\(directory)/ca.pem"),
                certificateChain: "\(directory)/client.pem",
                privateKey: "\(directory)/client_encrypted_key.pem",
                privateKeyPassword: "secret"
            )
            configuration.authentication = .external
            try await roundTrip(configuration)
            configuration.tls?.privateKeyPassword = "guess"
            let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
            #expect(error?.code == .invalidConfiguration)
            #expect(error?.description.contains("password") == true)
            #expect(error?.description.contains("guess") == false)
        }

        @Test("A certificate the broker does not trust is refused, in words")
        func refusedClient() async throws {
            try TLSBroker.show("good")
            let directory = try TLSBroker.run("certificates")
            var configuration = try AMQPClientConfiguration(uri: TLSBroker.uri ?? "")
            configuration.tls?.certificateChain = "\(directory)/untrusted.pem"
            configuration.tls?.privateKey = "\(directory)/untrusted_key.pem"
            let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(configuration) }
            #expect(error?.code == .connectFailed)
            #expect(
                error?.description.contains("does not accept the certificate") == true,
                "\(error?.description ?? "")"
            )
        }

        @Test("AMQPLAIN and credentials from a provider log in; a provider is asked at every connect")
        func mechanisms() async throws {
            try TLSBroker.show("good")
            var configuration = try AMQPClientConfiguration(uri: (TLSBroker.uri ?? "") + "&auth_mechanism=amqplain")
            try await roundTrip(configuration)
            let asked = Counter()
            configuration.authentication = .provided(
                by: AMQPCredentialsProvider {
                    await asked.add()
                    return ("guest", "guest")
                }
            )
            try await roundTrip(configuration)
            try await roundTrip(configuration)
            #expect(await asked.count == 2)
        }

        @Test("TLS on the plain port, and plain AMQP on the TLS port, are told apart in words")
        func wrongPort() async throws {
            let plain = try #require(TestBroker.uri)
            let port = try AMQPURI(plain).port
            let error = await #expect(throws: AMQPError.self) {
                try await AMQPConnection.connect(AMQPClientConfiguration(uri: "amqps://localhost:\(port)"))
            }
            #expect(error?.description.contains("does not speak TLS") == true, "\(error?.description ?? "")")
            let tlsPort = try AMQPURI(TLSBroker.uri ?? "").port
            await #expect(throws: AMQPError.self) {
                try await AMQPConnection.connect(AMQPClientConfiguration(uri: "amqp://localhost:\(tlsPort)"))
            }
        }

        private actor Counter {
            private(set) var count = 0
            func add() { self.count += 1 }
        }
    }

    /// The node of scripts/broker.
    enum TLSBroker {
        static let uri = try? Self.run("uri", "--tls")

        static func show(_ kind: String) throws { _ = try Self.run("certificate", kind) }

        /// A message that was published on the same channel is there soon, not at once.
        static func get(_ queue: String, _ channel: AMQPChannel) async throws -> AMQPDelivery? {
            for _ in 0..<1000 {
                if let message = try await channel.get(queue) { return message }
                await Task.yield()
            }
            return nil
        }

        struct Failed: Error {}

        static func run(_ arguments: String...) throws -> String {
            guard let script = ProcessInfo.processInfo.environment["AMQP091_TEST_BROKER"] else { throw Failed() }
            let process = Process()
            process.executableURL = URL(fileURLWithPath: script)
            process.arguments = arguments
            let output = Pipe()
            process.standardOutput = output
            process.standardError = FileHandle.nullDevice
            try process.run()
            let data = output.fileHandleForReading.readDataToEndOfFile()
            process.waitUntilExit()
            guard process.terminationStatus == 0 else { throw Failed() }
            return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        }
    }
#endif
