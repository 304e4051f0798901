// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import Testing

#if TLS
    import Glibc

    // BrokerTLSTests: clients of the in-process broker over TLS, with certificates made for this run.

    @Suite("In-process broker over TLS", .timeLimit(.minutes(1)))
    struct BrokerTLSTests {
        /// The directory of scripts/certificates.
        private static let certificates: String = {
            let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
            let directory = "/tmp/amqp091-testing-certificates-\(getuid())"
            let status = system("/\(root)/scripts/certificates \(directory)")
            precondition(status == 0, "scripts/certificates failed; see \(directory)/openssl.log")
            return directory
        }()

        private static func options(
            _ name: String = "good",
            clientAuthority: String? = nil,
            endpoints: [InProcessBroker.Endpoint] = [.tls()]
        ) -> InProcessBroker.Options {
            var options = InProcessBroker.Options()
            options.endpoints = endpoints
            options.tls = .init(
                certificateChain: "\(self.certificates)/\(name).pem",
                privateKey: "\(self.certificates)/\(name)_key.pem",
                authority: "\(self.certificates)/ca.pem",
                clientAuthority: clientAuthority.map { "\(self.certificates)/\($0).pem" }
            )
            return options
        }

        private func roundTrip(_ configuration: AMQPClientConfiguration, octets: Int = 100) async throws {
            try await AMQPConnection.withConnection(configuration) { connection in
                try await connection.withChannel { channel in
                    let queue = try await channel.declareQueue(exclusive: true)
                    try await channel.enableConfirms()
                    let body = String(repeating: "x", count: octets)
                    try await channel.publishAndConfirm(AMQPMessage(body), to: .queue(queue.name))
                    let message = try #require(try await channel.get(queue.name))
                    #expect(message.body.string == body)
                    try message.ack()
                }
            }
        }

        @Test("Clients connect by the amqps:// URI and the configuration, with messages small and large")
        func reached() async throws {
            try await InProcessBroker.withBroker(Self.options()) { broker in
                let port = try #require(broker.tlsPort)
                #expect(broker.port == nil)
                #expect(broker.uri == broker.tlsURI)
                #expect(broker.uri.hasPrefix("amqps://guest:guest@127.0.0.1:\(port)/%2F?cacertfile=%2Ftmp"))
                try await roundTrip(AMQPClientConfiguration(uri: broker.uri))
                try await roundTrip(broker.configuration, octets: 3_000_000)
            }
        }

        @Test("Thousands of confirmed publishes and their deliveries pass over one connection")
        func load() async throws {
            let count = 5_000
            try await InProcessBroker.withBroker(Self.options()) { broker in
                try await AMQPConnection.withConnection(broker.uri) { connection in
                    try await connection.withChannel { channel in
                        try await channel.declareQueue("q")
                        try await channel.enableConfirms()
                        try await channel.consume("q") { deliveries in
                            async let published: Void = {
                                for index in 0..<count {
                                    try await channel.publish(AMQPMessage("message \(index)"), to: .queue("q"))
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
        }

        @Test("Plain and TLS endpoints of one broker share its queues; a socket pair needs no TLS")
        func together() async throws {
            try await InProcessBroker.withBroker(Self.options(endpoints: [.tls(), .loopback()])) { broker in
                try await AMQPConnection.withConnection(try #require(broker.tlsURI)) { connection in
                    try await connection.withChannel { channel in
                        try await channel.declareQueue("q")
                        try await channel.publish("m", to: .queue("q"))
                    }
                }
                let port = try #require(broker.port)
                try await AMQPConnection.withConnection("amqp://127.0.0.1:\(port)") { connection in
                    _ = try await connection.withChannel { try await $0.inspectQueue("q") }
                }
                let paired = try await broker.connect()
                try await paired.withChannel { _ = try await $0.inspectQueue("q") }
                try await paired.close()
                #expect(await broker.depth(of: "q") == 1)
            }
        }

        @Test("Faults work over TLS: a pause, an alarm, a dropped link")
        func orders() async throws {
            try await InProcessBroker.withBroker(Self.options()) { broker in
                let configuration = broker.configuration
                let connection = try await AMQPConnection.connect(configuration)
                let channel = try await connection.openChannel()
                await broker.pause()
                let late = await #expect(throws: AMQPError.self) {
                    try await channel.declareQueue("q", timeout: .milliseconds(30))
                }
                #expect(late?.code == .timedOut)
                await broker.resume()
                try await channel.declareQueue("r")
                await broker.setAlarm("low on memory")
                try await channel.publish("m", to: .queue("r"))
                var states = connection.blockedStates.makeAsyncIterator()
                while let state = await states.next(), state == nil {}
                #expect(connection.blockedReason == "low on memory")
                await broker.setAlarm(nil)
                try await broker.waitUntil(depthOf: "r", is: 1)
                await broker.dropConnections("simulated partition")
                await #expect(throws: AMQPError.self) { try await channel.inspectQueue("r") }
                try await roundTrip(configuration)
            }
        }

        @Test("A client without a required certificate is refused; one with it is accepted")
        func mutual() async throws {
            try await InProcessBroker.withBroker(Self.options(clientAuthority: "ca")) { broker in
                var configuration = broker.configuration
                let nobody = configuration
                let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(nobody) }
                #expect(error?.code == .connectFailed)
                configuration.tls?.certificateChain = "\(Self.certificates)/client.pem"
                configuration.tls?.privateKey = "\(Self.certificates)/client_key.pem"
                try await roundTrip(configuration)
            }
        }

        @Test("A client certificate logs its user in by EXTERNAL; no other certificate does")
        func external() async throws {
            var options = Self.options(clientAuthority: "ca")
            options.users = [:]
            options.certificateUsers = ["CN=guest"]
            try await InProcessBroker.withBroker(options) { broker in
                var configuration = broker.configuration
                configuration.authentication = .external
                configuration.tls?.certificateChain = "\(Self.certificates)/client.pem"
                configuration.tls?.privateKey = "\(Self.certificates)/client_key.pem"
                try await roundTrip(configuration)
                configuration.authentication = .plain(username: "CN=guest", password: "")
                let byPassword = configuration
                let refused = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(byPassword) }
                #expect(refused?.code == .authenticationFailed)
            }
            options.certificateUsers = ["CN=somebody"]
            try await InProcessBroker.withBroker(options) { broker in
                var configuration = broker.configuration
                configuration.authentication = .external
                configuration.tls?.certificateChain = "\(Self.certificates)/client.pem"
                configuration.tls?.privateKey = "\(Self.certificates)/client_key.pem"
                let stranger = configuration
                await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(stranger) }
            }
        }

        @Test("A certificate that a client does not accept ends that link only", arguments: ["expired", "untrusted"])
        func refused(kind: String) async throws {
            try await InProcessBroker.withBroker(Self.options(kind)) { broker in
                var configuration = broker.configuration
                let strict = configuration
                let error = await #expect(throws: AMQPError.self) { try await AMQPConnection.connect(strict) }
                #expect(error?.code == .connectFailed)
                configuration.tls?.verification = .insecureNone
                try await roundTrip(configuration)
            }
        }

        @Test("Octets that are not TLS end their link, and the broker continues")
        func plainOnTLS() async throws {
            try await InProcessBroker.withBroker(Self.options()) { broker in
                let port = try #require(broker.tlsPort)
                await #expect(throws: AMQPError.self) {
                    try await AMQPConnection.connect(AMQPClientConfiguration(uri: "amqp://127.0.0.1:\(port)"))
                }
                try await roundTrip(broker.configuration)
            }
        }

        @Test("An endpoint with TLS needs a certificate that can be read")
        func certificateMissing() async throws {
            var options = InProcessBroker.Options()
            options.endpoints = [.tls()]
            let broken = options
            let error = await #expect(throws: AMQPError.self) { try await InProcessBroker(broken) }
            #expect(error?.code == .invalidConfiguration)
            options.tls = .init(certificateChain: "/nonexistent.pem", privateKey: "/nonexistent.pem")
            let missing = options
            await #expect(throws: (any Error).self) { try await InProcessBroker(missing) }
        }
    }
#else
    @Suite("In-process broker without TLS")
    struct BrokerTLSTests {
        @Test("An endpoint with TLS is refused with an error that names the missing trait")
        func refused() async throws {
            var options = InProcessBroker.Options()
            options.endpoints = [.tls()]
            options.tls = .init(certificateChain: "a.pem", privateKey: "b.pem")
            let configured = options
            let error = await #expect(throws: AMQPError.self) { try await InProcessBroker(configured) }
            #expect(error?.description.contains("trait TLS") == true)
        }
    }
#endif
