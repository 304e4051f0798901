// SPDX-License-Identifier: Apache-2.0
internal import AMQP091Wire

// The login of ConnectionStateMachine: start, secure, tune and open-ok (§2.2.4), with SASL.
// A second start, tune or open-ok is a violation, as is one out of order.

extension ConnectionStateMachine {
    /// The client's capabilities; RabbitMQ sends the corresponding methods only to clients that announce them.
    static let capabilities: FieldTable = [
        "publisher_confirms": .bool(true),
        "consumer_cancel_notify": .bool(true),
        "basic.nack": .bool(true),
        "exchange_exchange_bindings": .bool(true),
        "connection.blocked": .bool(true),
        "authentication_failure_close": .bool(true),
    ]

    /// Returns true if the broker's properties contain this capability with the value true.
    package func serverHasCapability(_ name: String) -> Bool {
        guard case .table(let capabilities) = self.serverProperties["capabilities"] else { return false }
        return capabilities[name] == .bool(true)
    }

    mutating func receivedStart(_ start: Connection.Start) -> Action {
        guard self.state == .awaitingStart else { return self.outOfOrder(Connection.Start.id) }
        guard start.versionMajor == 0 && start.versionMinor == 9 else {
            return self.fail(.version(major: start.versionMajor, minor: start.versionMinor))
        }
        let mechanisms = start.mechanisms.split(separator: UInt8(ascii: " "))
        let chosen = self.configuration.mechanisms.first { mechanism in
            mechanisms.contains { $0.elementsEqual(mechanism.name.utf8) }
        }
        guard let chosen else {
            return self.fail(.noCommonMechanism(offered: String(decoding: start.mechanisms, as: UTF8.self)))
        }
        self.serverProperties = start.serverProperties
        self.state = .awaitingTune
        var properties = self.configuration.clientProperties
        if properties["capabilities"] == nil { properties["capabilities"] = .table(Self.capabilities) }
        return .sendStartOk(
            Connection.StartOk(
                clientProperties: properties,
                mechanism: chosen.name,
                response: chosen.response,
                locale: "en_US"
            )
        )
    }

    mutating func receivedSecure() -> Action {
        guard self.state == .awaitingTune else { return self.outOfOrder(Connection.Secure.id) }
        return self.fail(.secureNotSupported)
    }

    mutating func receivedTune(_ tune: Connection.Tune) -> Action {
        guard self.state == .awaitingTune else { return self.outOfOrder(Connection.Tune.id) }
        let negotiated: TuneNegotiation.Negotiated
        do throws(TuneNegotiation.Refusal) {
            negotiated = try self.configuration.tune.negotiate(
                channelMaximum: tune.channelMax,
                frameMaximum: tune.frameMax,
                heartbeat: tune.heartbeat
            )
        } catch {
            return self.fail(.tuneRefused(error))
        }
        self.state = .awaitingOpenOk(negotiated)
        return .sendTuneOkAndOpen(
            Connection.TuneOk(
                channelMax: negotiated.channelMaximum,
                frameMax: negotiated.frameMaximum,
                heartbeat: negotiated.heartbeat
            ),
            Connection.Open(virtualHost: self.configuration.virtualHost),
            negotiated
        )
    }

    mutating func receivedOpenOk() -> Action {
        guard case .awaitingOpenOk(let negotiated) = self.state else { return self.outOfOrder(Connection.OpenOk.id) }
        self.state = .open
        return .opened(negotiated)
    }

    private mutating func fail(_ failure: HandshakeFailure) -> Action {
        self.state = .closed
        return .fail(failure)
    }
}
