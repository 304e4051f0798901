// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// The login and other methods of channel 0, as with RabbitMQ.

extension BrokerConnection {
    func receivedProtocolHeader(_ octets: [UInt8]) {
        guard octets == Frame.protocolHeader else {
            // The supported protocol header, then the end (§2.2.4).
            for octet in Frame.protocolHeader { self.out.append(octet) }
            return self.finish()
        }
        self.phase = .startOk
        let start = Connection.Start(
            versionMajor: 0,
            versionMinor: 9,
            serverProperties: [
                "capabilities": .table([
                    "publisher_confirms": .bool(true), "exchange_exchange_bindings": .bool(true),
                    "basic.nack": .bool(true), "consumer_cancel_notify": .bool(true),
                    "connection.blocked": .bool(true), "consumer_priorities": .bool(true),
                    "authentication_failure_close": .bool(true), "per_consumer_qos": .bool(true),
                    "direct_reply_to": .bool(true),
                ]),
                "cluster_name": "in-process", "platform": "Swift on Linux",
                "product": "AMQP091Testing in-process broker (not RabbitMQ)",
                "behaves_as": "RabbitMQ", "version": .string(self.core.version.description),
            ],
            mechanisms: Array(self.mechanisms.utf8),
            locales: Array("en_US".utf8)
        )
        self.send(.connectionStart(start))
    }

    /// Handles a method on channel 0.
    func receivedOnConnection(_ method: Method) throws(Refusal) {
        switch (self.phase, method) {
        case (.closing, .connectionClose): self.send(.connectionCloseOk(.init()))
        case (.closing, .connectionCloseOk): self.end()
        case (.closing, _), (.ended, _): break
        case (_, .connectionClose):
            self.dropChannels()
            self.send(.connectionCloseOk(.init()))
            self.finish()
        case (.startOk, .connectionStartOk(let startOk)): self.received(startOk)
        case (.tuneOk, .connectionTuneOk(let tuneOk)): try self.received(tuneOk)
        case (.open, .connectionOpen(let open)): try self.received(open)
        case (.running, .connectionUpdateSecret): self.send(.connectionUpdateSecretOk(.init()))
        default:
            throw Refusal(.channelError, "unexpected method in connection state \(self.phaseName)")
        }
    }

    private var phaseName: String {
        switch self.phase {
        case .header, .startOk: "starting"
        case .tuneOk: "tuning"
        case .open: "opening"
        case .running: "running"
        case .closing, .ended: "closing"
        }
    }

    private func received(_ startOk: Connection.StartOk) {
        self.clientProperties = startOk.clientProperties
        guard let user = self.authenticated(startOk) else {
            guard self.hasCapability("authentication_failure_close") else { return self.end() }
            return self.close(
                .accessRefused,
                "ACCESS_REFUSED - Login was refused using authentication mechanism \(startOk.mechanism.prefix(64)). For "
                    + "details see the broker logfile.",
                nil
            )
        }
        self.user = user
        self.phase = .tuneOk
        let options = self.core.options
        self.send(
            .connectionTune(
                .init(channelMax: options.channelMax, frameMax: options.frameMax, heartbeat: options.heartbeat)
            )
        )
    }

    private var mechanisms: String { self.certificateUser == nil ? "AMQPLAIN PLAIN" : "AMQPLAIN EXTERNAL PLAIN" }

    /// The user of the client certificate, if that user may log in with it.
    private var certificateUser: String? {
        self.certificateSubject.flatMap { self.core.options.certificateUsers.contains($0) ? $0 : nil }
    }

    /// Returns the user; nil for an unknown user or a wrong password.
    private func authenticated(_ startOk: Connection.StartOk) -> String? {
        if startOk.mechanism == "EXTERNAL" { return self.certificateUser }
        guard let (user, password) = Self.credentials(startOk), self.core.users[user] == password else { return nil }
        return user
    }

    private static func credentials(_ startOk: Connection.StartOk) -> (user: String, password: String)? {
        switch startOk.mechanism {
        case "PLAIN":
            let parts = startOk.response.split(separator: 0, omittingEmptySubsequences: false)
            guard parts.count == 3 else { return nil }
            return (String(decoding: parts[1], as: UTF8.self), String(decoding: parts[2], as: UTF8.self))
        case "AMQPLAIN":
            // A table without its length.
            var buffer = WireBuffer()
            guard (try? buffer.appendLongString(startOk.response)) != nil else { return nil }
            var reader = WireReader(buffer.bytes)
            guard let table = try? reader.readTable(), let user = table["LOGIN"]?.stringValue,
                let password = table["PASSWORD"]?.stringValue
            else { return nil }
            return (user, password)
        default: return nil
        }
    }

    private func received(_ tuneOk: Connection.TuneOk) throws(Refusal) {
        let options = self.core.options
        func negotiate(_ name: String, _ client: UInt32, _ server: UInt32, _ minimum: UInt32) throws(Refusal) -> UInt32
        {
            if client == 0, server == 0 { return 0 }
            guard client >= minimum || client == 0 else {
                throw Refusal(
                    .notAllowed,
                    "negotiated \(name) = \(client) is lower than the minimum allowed value (\(minimum))"
                )
            }
            guard server == 0 || (client != 0 && client <= server) else {
                throw Refusal(
                    .notAllowed,
                    "negotiated \(name) = \(client == 0 ? "no limit" : "\(client)") is higher than the maximum allowed "
                        + "value (\(server))"
                )
            }
            return client
        }
        let minimum = UInt32(Frame.rabbitMQMinimumSize)
        self.frameMaximum = Int(try negotiate("frame_max", tuneOk.frameMax, options.frameMax, minimum))
        let channels = try negotiate("channel_max", UInt32(tuneOk.channelMax), UInt32(options.channelMax), 0)
        self.channelMaximum = channels == 0 ? 65535 : Int(channels)
        self.decoder.maximumFrameSize = self.frameMaximum
        self.startHeartbeat(tuneOk.heartbeat)
        self.phase = .open
    }

    private func received(_ open: Connection.Open) throws(Refusal) {
        guard let host = self.core.virtualHosts[open.virtualHost] else {
            throw Refusal(.notAllowed, "vhost \(open.virtualHost) not found")
        }
        self.host = host
        self.phase = .running
        self.setPhaseTimer(nil)
        self.send(.connectionOpenOk(.init()))
    }
}
