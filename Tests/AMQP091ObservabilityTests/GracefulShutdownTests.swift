// SPDX-License-Identifier: Apache-2.0
#if ServiceLifecycleSupport
    import AMQP091
    import AMQP091Testing
    import Glibc
    import Logging
    import ServiceLifecycle
    import Testing
    import UnixSignals

    // GracefulShutdownTests: a service that is told to stop while it works: what is in flight is finished and settled,
    // nothing is lost and nothing comes twice.

    @Suite("Graceful shutdown", .timeLimit(.minutes(1)))
    struct GracefulShutdownTests {
        /// Takes messages from `in`, and acknowledges each when its copy is confirmed in `out`.
        struct Forwarder: Service {
            let uri: String
            /// Called after each message, with how many there were.
            let forwarded: @Sendable (Int) -> Void

            func run() async throws {
                let counter = Counter()
                try await AMQPConnection.withConnection(self.uri) { connection in
                    try await connection.withPublisher { publisher in
                        try await connection.withChannel { channel in
                            try await channel.setPrefetch(count: 64)
                            try await channel.consume("in") { deliveries in
                                try await deliveries.process(maxConcurrency: 16) { delivery in
                                    try await publisher.publish(
                                        AMQPMessage(delivery.body.copy()),
                                        to: .queue("out"),
                                        mandatory: true
                                    )
                                    self.forwarded(await counter.next())
                                }
                            }
                        }
                    }
                }
            }
        }

        /// The same with a client that another service of the group runs.
        struct ClientForwarder: Service {
            let client: AMQPClient
            let forwarded: @Sendable (Int) -> Void

            func run() async throws {
                let counter = Counter()
                try await self.client.withPublisher { publisher in
                    try await self.client.consume("in", prefetch: 64) { deliveries in
                        try await deliveries.process(maxConcurrency: 16) { delivery in
                            try await publisher.publish(
                                AMQPMessage(delivery.body.copy()),
                                to: .queue("out"),
                                mandatory: true
                            )
                            self.forwarded(await counter.next())
                        }
                    }
                }
            }
        }

        actor Counter {
            private var count = 0
            func next() -> Int {
                self.count += 1
                return self.count
            }
        }

        static let messages = 2000

        static func withLoad(_ body: (InProcessBroker) async throws -> Void) async throws {
            try await InProcessBroker.withBroker { broker in
                try await AMQPConnection.withConnection(broker.uri) { connection in
                    try await connection.withChannel { channel in
                        for queue in ["in", "out"] { try await channel.declareQueue(queue) }
                    }
                    try await connection.withPublisher { publisher in
                        let load = (0..<Self.messages).map { AMQPMessage("\($0)") }
                        let outcomes = await publisher.publish(contentsOf: load, to: .queue("in"))
                        let refused = outcomes.count { !$0.isConfirmed }
                        #expect(refused == 0)
                    }
                }
                try await body(broker)
                // Unforwarded messages are still there, and forwarded ones are there once.
                try await AMQPConnection.withConnection(broker.uri) { connection in
                    try await connection.withChannel { channel in
                        var seen: [String: Set<String>] = ["in": [], "out": []]
                        for queue in ["in", "out"] {
                            while let delivery = try await channel.get(queue, acknowledgement: .automatic) {
                                #expect(seen[queue]?.insert(delivery.body.string).inserted == true)
                            }
                        }
                        let kept = seen["in"] ?? []
                        let forwarded = seen["out"] ?? []
                        #expect(kept.isDisjoint(with: forwarded))
                        #expect(kept.count + forwarded.count == Self.messages)
                        #expect(forwarded.count >= 100)
                        #expect(!kept.isEmpty)
                    }
                }
            }
        }

        @Test("A service that is shut down under load finishes and settles its running work")
        func group() async throws {
            try await Self.withLoad { broker in
                let (signals, signal) = AsyncStream.makeStream(of: Void.self)
                let service = Forwarder(uri: broker.uri) { if $0 == 100 { signal.finish() } }
                let group = ServiceGroup(services: [service], logger: Logger(label: "test"))
                async let running: Void = group.run()
                for await _ in signals {}
                await group.triggerGracefulShutdown()
                try await running
            }
        }

        @Test("F26: a process with a client finishes on SIGTERM, and exits in order")
        func terminated() async throws {
            try await Self.withLoad { broker in
                let uri = broker.uri
                await #expect(processExitsWith: .success) { [uri = uri as String] in
                    let client = AMQPClient(try AMQPClientConfiguration(uri: uri))
                    let service = GracefulShutdownTests.ClientForwarder(client: client) { count in
                        if count == 100 { kill(getpid(), SIGTERM) }
                    }
                    let group = ServiceGroup(
                        services: [client, service],
                        gracefulShutdownSignals: [.sigterm],
                        logger: Logger(label: "test")
                    )
                    try await group.run()
                }
            }
        }
    }
#endif
