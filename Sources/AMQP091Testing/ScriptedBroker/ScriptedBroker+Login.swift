// SPDX-License-Identifier: Apache-2.0
package import AMQP091
package import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// Whole dialogues of a ScriptedBroker: login and opening of channels, as with RabbitMQ.

extension ScriptedBroker {
    /// The client's methods of a login.
    package struct Login: Sendable {
        package var startOk: Connection.StartOk
        package var tuneOk: Connection.TuneOk
        package var open: Connection.Open
    }

    /// RabbitMQ's `connection.start`.
    package static let start = Connection.Start(
        versionMajor: 0,
        versionMinor: 9,
        serverProperties: [
            "product": "Scripted", "version": "0",
            "capabilities": .table([
                "publisher_confirms": .bool(true), "exchange_exchange_bindings": .bool(true),
                "basic.nack": .bool(true), "consumer_cancel_notify": .bool(true),
                "connection.blocked": .bool(true), "authentication_failure_close": .bool(true),
            ]),
        ],
        mechanisms: Array("PLAIN AMQPLAIN".utf8),
        locales: Array("en_US".utf8)
    )

    /// RabbitMQ's `connection.start` of this version.
    package static func rabbitMQ(_ version: String) -> Connection.Start {
        var start = Self.start
        start.serverProperties["product"] = "RabbitMQ"
        start.serverProperties["version"] = .string(version)
        return start
    }

    /// Performs the whole login.
    @discardableResult
    package func handshake(
        start: Connection.Start = ScriptedBroker.start,
        tune: Connection.Tune = .init(channelMax: 2047, frameMax: 131_072, heartbeat: 60)
    ) async throws -> Login {
        try await self.expectProtocolHeader()
        try self.send(.connectionStart(start))
        let startOk = try await self.expect(Connection.StartOk.self)
        try self.send(.connectionTune(tune))
        let tuneOk = try await self.expect(Connection.TuneOk.self)
        if tuneOk.frameMax > 0 { self.state.withLock { $0.frameMaximum = Int(tuneOk.frameMax) } }
        let open = try await self.expect(Connection.Open.self)
        try self.send(.connectionOpenOk(.init()))
        return Login(startOk: startOk, tuneOk: tuneOk, open: open)
    }

    /// Answers `channel.open`.
    package func openChannel(_ channel: UInt16 = 1) async throws {
        try await self.expect(Channel.Open.self, on: channel)
        try self.send(.channelOpenOk(.init()), on: channel)
    }

    /// Answers the client's `connection.close`, and waits for the end of the link.
    package func acceptClose() async throws {
        try await self.expect(Connection.Close.self, on: 0)
        try self.send(.connectionCloseOk(.init()))
        try await self.drain()
    }

    /// Logs a client in and opens channel 1, runs `body`, and drops the link.
    ///
    /// - Parameters:
    ///   - configuration: The client's options.
    ///   - patience: The timeout of each expectation.
    ///   - body: Receives the broker, the client's connection and its channel 1.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body` or of the login.
    package static func withChannel<Result>(
        _ configuration: AMQPClientConfiguration = AMQPClientConfiguration(),
        patience: Duration = .seconds(10),
        _ body: (ScriptedBroker, AMQPConnection, AMQPChannel) async throws -> Result
    ) async throws -> Result {
        try await Self.withBroker(patience: patience) { broker in
            async let connecting = broker.connect(configuration)
            try await broker.handshake()
            let connection = try await connecting
            defer { connection.abort() }
            async let opening = connection.openChannel()
            try await broker.openChannel()
            return try await body(broker, connection, try await opening)
        }
    }
}
