// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Testing

// DialTests: AMQPConnection.connect over several addresses, and what it throws. A client dials the same way.

@Suite("Dialing", .timeLimit(.minutes(1)))
struct DialTests {
    /// The fault of the first of two brokers.
    enum Fault: String, CaseIterable, Sendable {
        case silent, dropsLogin, refusesPassword, refusesVirtualHost, dropsLinks
    }

    @Test("The next address is tried whatever is wrong with the first", arguments: Fault.allCases)
    func next(_ fault: Fault) async throws {
        try await InProcessBroker.withBroker { bad in
            try await InProcessBroker.withBroker { good in
                var configuration = bad.configuration
                configuration.addresses += good.configuration.addresses
                configuration.recovery.attemptDelay = .milliseconds(20)
                configuration.connectTimeout = .seconds(20)
                switch fault {
                case .silent: await bad.pause()
                case .dropsLogin: await bad.onNext(Connection.StartOk.id, .drop(.before))
                case .refusesPassword: await bad.setPassword(nil, of: "guest")
                case .refusesVirtualHost:
                    await bad.onNext(Connection.Open.id, .refuse(.notAllowed, "vhost / not found"))
                case .dropsLinks: await bad.refuseConnections(true)
                }
                let start = ContinuousClock.now
                try await AMQPConnection.withConnection(configuration) { connection in
                    #expect(connection.isOpen)
                    #expect(await good.connections().count == 1)
                }
                #expect(ContinuousClock.now - start < .seconds(10))
                // It is remembered: the next connection begins with the good one.
                if fault == .silent {
                    configuration.recovery.attemptDelay = .seconds(100)
                    try await AMQPConnection.withConnection(configuration) { _ in }
                    await bad.resume()
                }
            }
        }
    }

    /// A step of the login before which the link ends.
    static let steps: [MethodID] = [Connection.StartOk.id, Connection.TuneOk.id, Connection.Open.id]

    @Test("A link that ends during the login is a failed connect, never a closed connection", arguments: steps)
    func dropped(_ step: MethodID) async throws {
        try await InProcessBroker.withBroker { broker in
            await broker.onNext(step, .drop(.before))
            let error = await OutboxTests.failure { try await AMQPConnection.connect(broker.configuration).abort() }
            #expect(error?.code == (step == Connection.StartOk.id ? .authenticationFailed : .connectFailed))
        }
    }

    @Test("A close by the broker during the login keeps its code and text", arguments: [320, 501, 541] as [UInt16])
    func closed(_ code: UInt16) async throws {
        try await InProcessBroker.withBroker { broker in
            await broker.onNext(Connection.Open.id, .refuse(ReplyCode(code), "on order"))
            let error = await OutboxTests.failure { try await AMQPConnection.connect(broker.configuration).abort() }
            #expect(error?.code == .connectFailed)
            #expect(error?.replyCode == ReplyCode(code))
        }
    }

    @Test("A login larger than the broker's frame is told as such")
    func largeLogin() async throws {
        try await InProcessBroker.withBroker { broker in
            await broker.onNext(Connection.StartOk.id, .drop(.before))
            var configuration = broker.configuration
            configuration.authentication = .plain(username: "guest", password: String(repeating: "x", count: 5000))
            let error = await OutboxTests.failure { try await AMQPConnection.connect(configuration).abort() }
            #expect(error?.code == .connectFailed)
            #expect(error?.replyText.contains("4096 before 4.1") == true, "\(error as Any)")
        }
    }

    @Test("A wrong password fails a first connect at once, whatever the other addresses say", arguments: [true, false])
    func wrongPassword(isClient: Bool) async throws {
        try await InProcessBroker.withBroker { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.authentication = .plain(username: "guest", password: "wrong")
            configuration.addresses += [.unix(path: "/nowhere/broker.sock")]
            let error = await OutboxTests.failure {
                if isClient {
                    try await AMQPClient.withClient(configuration) { try await $0.withChannel { _ in } }
                } else {
                    try await AMQPConnection.connect(configuration).abort()
                }
            }
            #expect(error?.code == .authenticationFailed, "\(error as Any)")
        }
    }
}
