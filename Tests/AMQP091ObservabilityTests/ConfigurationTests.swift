// SPDX-License-Identifier: Apache-2.0
#if ConfigurationSupport
    import AMQP091
    import Configuration
    import Synchronization
    import Testing

    // ConfigurationTests: every key through swift-configuration, and every way in which one can be wrong.

    @Suite("Configuration")
    struct ConfigurationTests {
        static func read(_ environment: [String: String]) throws -> AMQPClientConfiguration {
            let provider = EnvironmentVariablesProvider(environmentVariables: environment)
            return try AMQPClientConfiguration(config: ConfigReader(provider: provider).scoped(to: "amqp"))
        }

        @Test("Without any value it equals the default configuration")
        func defaults() throws {
            #expect(try Self.read([:]) == AMQPClientConfiguration())
        }

        @Test("Every key sets its option")
        func keys() throws {
            let read = try Self.read([
                "AMQP_HOST": "rabbit", "AMQP_PORT": "5673", "AMQP_VIRTUAL_HOST": "prod", "AMQP_USERNAME": "app",
                "AMQP_PASSWORD": "s3cret", "AMQP_CONNECTION_NAME": "billing", "AMQP_HEARTBEAT_SECONDS": "5",
                "AMQP_CONNECT_TIMEOUT_MS": "1500", "AMQP_RPC_TIMEOUT_MS": "2500", "AMQP_CHANNEL_MAX": "7",
                "AMQP_FRAME_MAX": "8192", "AMQP_RECOVERY_ENABLED": "false",
                "AMQP_RECOVERY_INITIAL_DELAY_MS": "50", "AMQP_RECOVERY_MAXIMUM_DELAY_MS": "5000",
            ])
            var expected = AMQPClientConfiguration(addresses: [.host("rabbit", port: 5673)])
            expected.virtualHost = "prod"
            expected.authentication = .plain(username: "app", password: "s3cret")
            expected.connectionName = "billing"
            expected.heartbeat = .seconds(5)
            expected.connectTimeout = .milliseconds(1500)
            expected.operationTimeout = .milliseconds(2500)
            expected.channelMax = 7
            expected.frameMax = 8192
            expected.recovery.isEnabled = false
            expected.recovery.initialDelay = .milliseconds(50)
            expected.recovery.maximumDelay = .milliseconds(5000)
            #expect(read == expected)
        }

        @Test("A URI is parsed as usual, and further keys add to it")
        func uri() throws {
            let read = try Self.read(["AMQP_URI": "amqp://app:s3cret@rabbit:5673/prod", "AMQP_HEARTBEAT_SECONDS": "5"])
            var expected = try AMQPClientConfiguration(uri: "amqp://app:s3cret@rabbit:5673/prod")
            expected.heartbeat = .seconds(5)
            #expect(read == expected)
        }

        #if TLS
            @Test("TLS has separate keys and a separate port")
            func tls() throws {
                let read = try Self.read([
                    "AMQP_TLS_ENABLED": "true", "AMQP_TLS_CA_FILE": "/ca.pem", "AMQP_TLS_CERTIFICATE_FILE": "/me.pem",
                    "AMQP_TLS_PRIVATE_KEY_FILE": "/me.key", "AMQP_TLS_SERVER_NAME": "rabbit.internal",
                ])
                var tls = AMQPTLSConfiguration.require(
                    roots: .file(path: "/ca.pem"),
                    certificateChain: "/me.pem",
                    privateKey: "/me.key"
                )
                tls.serverName = "rabbit.internal"
                #expect(read.tls == tls)
                #expect(read.addresses == [.host("localhost", port: 5671)])
            }
        #endif

        struct Wrong: CustomTestStringConvertible {
            let environment: [String: String]
            let key: String
            var testDescription: String { "\(self.environment)" }

            init(_ environment: [String: String], _ key: String) {
                self.environment = environment
                self.key = key
            }
        }

        static let wrong = [
            Wrong(["AMQP_URI": "http://x"], "uri"),
            Wrong(["AMQP_URI": "amqp://x", "AMQP_HOST": "y"], "uri"),
            Wrong(["AMQP_URI": "amqp://x", "AMQP_PASSWORD": "y"], "uri"),
            Wrong(["AMQP_HOST": ""], "host"),
            Wrong(["AMQP_PORT": "0"], "port"),
            Wrong(["AMQP_PORT": "65536"], "port"),
            Wrong(["AMQP_PORT": "amqp"], "port"),
            Wrong(["AMQP_VIRTUAL_HOST": String(repeating: "x", count: 256)], "virtualHost"),
            Wrong(["AMQP_HEARTBEAT_SECONDS": "-1"], "heartbeatSeconds"),
            Wrong(["AMQP_CONNECT_TIMEOUT_MS": "0"], "connectTimeoutMs"),
            Wrong(["AMQP_RPC_TIMEOUT_MS": "1.5"], "rpcTimeoutMs"),
            Wrong(["AMQP_CHANNEL_MAX": "0"], "channelMax"),
            Wrong(["AMQP_FRAME_MAX": "8191"], "frameMax"),
            Wrong(["AMQP_RECOVERY_ENABLED": "sometimes"], "recovery.enabled"),
            Wrong(["AMQP_RECOVERY_INITIAL_DELAY_MS": "-1"], "recovery.initialDelayMs"),
            Wrong(["AMQP_RECOVERY_INITIAL_DELAY_MS": "30001"], "recovery.initialDelayMs"),
            Wrong(["AMQP_RECOVERY_MAXIMUM_DELAY_MS": "86400001"], "recovery.maximumDelayMs"),
            Wrong(["AMQP_RECOVERY_MAXIMUM_DELAY_MS": "199"], "recovery.maximumDelayMs"),
            Wrong(["AMQP_TLS_ENABLED": "maybe"], "tls.enabled"),
            Wrong(["AMQP_TLS_CA_FILE": "/ca.pem"], "tls.caFile"),
        ]

        @Test("An invalid value is refused, naming its key", arguments: wrong)
        func refused(_ wrong: Wrong) throws {
            let error = #expect(throws: AMQPError.self) { try Self.read(wrong.environment) }
            #expect(error?.code == .invalidConfiguration)
            #expect(error?.replyText.hasPrefix("\(wrong.key) ") == true, "\(error?.replyText ?? "")")
        }

        @Test("A value of another type is refused, not ignored")
        func otherTypes() throws {
            for (key, value) in [
                ("host", ConfigValue(5, isSecret: false)), ("port", ConfigValue(true, isSecret: false)),
            ] {
                let provider = InMemoryProvider(values: [AbsoluteConfigKey([key]): value])
                let error = #expect(throws: AMQPError.self) {
                    try AMQPClientConfiguration(config: ConfigReader(provider: provider))
                }
                #expect(error?.replyText.hasPrefix("\(key) is not a") == true)
            }
        }

        @Test("Only the URI and the password are read as secrets")
        func secrets() throws {
            final class Log: AccessReporter {
                let events = Mutex<[(key: String, isSecret: Bool)]>([])
                func report(_ event: AccessEvent) {
                    let isSecret =
                        if case .success(let value) = event.result { value?.isSecret ?? false } else { false }
                    self.events.withLock { $0.append((event.metadata.key.description, isSecret)) }
                }
            }
            let log = Log()
            for environment in [
                ["AMQP_URI": "amqp://app:s3cret@rabbit"], ["AMQP_HOST": "rabbit", "AMQP_PASSWORD": "s3cret"],
            ] {
                let provider = EnvironmentVariablesProvider(environmentVariables: environment)
                let reader = ConfigReader(provider: provider, accessReporter: log)
                _ = try AMQPClientConfiguration(config: reader.scoped(to: "amqp"))
            }
            let events = log.events.withLock { $0 }
            #expect(events.contains { $0.key == "amqp.uri" && $0.isSecret })
            #expect(events.contains { $0.key == "amqp.password" && $0.isSecret })
            #expect(events.contains { $0.key == "amqp.host" && !$0.isSecret })
        }
    }
#endif
