// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import AMQP091Wire
import Synchronization
import Testing

@testable import AMQP091

// CredentialsTests: a provider of credentials is asked before the login and before what it gave expires; the broker gets
// the new password over the connection that stands.

@Suite("Credentials that expire", .timeLimit(.minutes(1)))
struct CredentialsTests {
    struct Odd: Error {}

    /// Answers one after the other; the last for ever.
    final class Vault: Sendable {
        private let asked = Atomic<Int>(0)
        var count: Int { self.asked.load(ordering: .relaxed) }

        func configuration(
            password: String? = nil,
            _ answer: @escaping @Sendable (_ number: Int) throws -> Duration?
        ) -> AMQPClientConfiguration {
            var configuration = AMQPClientConfiguration()
            configuration.authentication = .provided(
                by: AMQPCredentialsProvider(expiring: {
                    let number = self.asked.wrappingAdd(1, ordering: .relaxed).oldValue
                    return AMQPCredentials(
                        username: "guest",
                        password: password ?? "secret \(number)",
                        lifetime: try answer(number)
                    )
                })
            )
            return configuration
        }
    }

    private static func update(_ number: Int) -> [UInt8] { Array("secret \(number)".utf8) }

    @Test("The broker gets each new password before the last expires, until one that does not")
    func refreshes() async throws {
        let vault = Vault()
        let configuration = vault.configuration { $0 < 3 ? .milliseconds(50) : nil }
        try await ScriptedBroker.withBroker { broker in
            async let connecting = broker.connect(configuration)
            let login = try await broker.handshake()
            #expect(login.startOk.response == Array("\0guest\0secret 0".utf8))
            let connection = try await connecting
            for number in 1...3 {
                let update = try await broker.expect(Connection.UpdateSecret.self, on: 0)
                #expect(update.newSecret == Self.update(number))
                try broker.send(.connectionUpdateSecretOk(.init()))
            }
            // Nothing comes in between: the last does not expire.
            async let closing: Void = connection.close()
            try await broker.acceptClose()
            try await closing
            #expect(vault.count == 4)
        }
    }

    @Test("A failing provider is asked again while the connection stays open")
    func providerFails() async throws {
        let vault = Vault()
        let configuration = vault.configuration { number in
            if number == 1 { throw Odd() }
            return number == 0 ? .milliseconds(50) : nil
        }
        try await ScriptedBroker.withChannel(configuration) { broker, connection, channel in
            let update = try await broker.expect(Connection.UpdateSecret.self, on: 0)
            #expect(update.newSecret == Self.update(2))
            try broker.send(.connectionUpdateSecretOk(.init()))
            #expect(connection.isOpen)
            async let declared = channel.declareQueue("q")
            try await broker.expect(Queue.Declare.self, on: 1)
            try broker.send(.queueDeclareOk(.init(queue: "q")), on: 1)
            _ = try await declared
        }
    }

    @Test("A password the broker refuses ends the connection with the broker's words, and the provider is left alone")
    func refused() async throws {
        let vault = Vault()
        try await ScriptedBroker.withChannel(vault.configuration { _ in .milliseconds(50) }) { broker, _, channel in
            try await broker.expect(Connection.UpdateSecret.self, on: 0)
            async let declared = channel.declareQueue("q")
            try await broker.expect(Queue.Declare.self, on: 1)
            let close = Connection.Close(replyCode: .notAllowed, replyText: "wrong token", classID: 10, methodID: 70)
            try broker.send(.connectionClose(close))
            do {
                _ = try await declared
                Issue.record("a connection whose secret was refused goes on")
            } catch let error as AMQPError {
                #expect(error.replyCode == .notAllowed)
                #expect(error.replyText == "wrong token")
            }
            #expect(vault.count == 2)
        }
    }

    @Test("A provider that does not answer in time ends the connect")
    func silentProvider() async throws {
        var configuration = AMQPClientConfiguration()
        configuration.connectTimeout = .milliseconds(30)
        configuration.authentication = .provided(
            by: AMQPCredentialsProvider(expiring: {
                try await Task.sleep(for: .seconds(600))
                return AMQPCredentials(username: "guest", password: "late")
            })
        )
        try await ScriptedBroker.withBroker { broker in
            let error = await #expect(throws: AMQPError.self) { try await broker.connect(configuration) }
            #expect(error?.code == .timedOut)
            #expect(error?.description.contains("credentials provider") == true)
        }
    }

    @Test("Refreshing runs beside publishing, and ends with the connection")
    func ends() async throws {
        let vault = Vault()
        try await InProcessBroker.withBroker { broker in
            weak var driver: ConnectionSession?
            do {
                let connection = try await broker.connect(
                    vault.configuration(password: "guest") { _ in .milliseconds(1) }
                )
                driver = connection.driver
                try await connection.withChannel { channel in
                    try await channel.declareQueue("q")
                    try await channel.enableConfirms()
                    while vault.count < 4 {
                        try await channel.publishAndConfirm("m", to: .queue("q"))
                    }
                }
                try await connection.close()
            }
            let deadline = ContinuousClock.now + .seconds(30)
            while driver != nil, ContinuousClock.now < deadline { await Task.yield() }
            #expect(driver == nil)
        }
    }

    @Test("No description shows a password")
    func descriptions() {
        let credentials = AMQPCredentials(username: "guest", password: "s3cr3t", lifetime: .seconds(60))
        #expect("\(credentials)" == "user guest, good for 60.0 seconds")
        #expect(!"\(AMQPAuthentication.plain(username: "guest", password: "s3cr3t"))".contains("s3cr3t"))
    }
}
