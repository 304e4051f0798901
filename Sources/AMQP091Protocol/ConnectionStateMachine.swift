// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire

// ConnectionStateMachine: channel 0 of one connection, from the protocol header to the close (§2.2.4, §1.4).
// Pure: no socket, clock, task or lock. The owner sends what an action names, in order, and bounds every wait.
// Not here: the login dialogue (ConnectionStateMachine+Handshake), channels (ChannelStateMachine), heartbeats.
//
//   awaitingStart -> awaitingTune -> awaitingOpenOk -> open --close()-------> closing -> closed
//          \_______________\_______________\_____________\--receivedClose()--> closed   (answered with close-ok)

/// The life of one connection on channel 0.
package struct ConnectionStateMachine: Sendable {
    /// The client's identity, credentials and limits.
    package struct Configuration: Sendable {
        /// SASL mechanisms, the preferred first; the first that the peer offers is used.
        package var mechanisms: [SASLMechanism]
        package var virtualHost: String
        package var clientProperties: FieldTable
        package var tune: TuneNegotiation

        package init(
            mechanisms: [SASLMechanism],
            virtualHost: String,
            clientProperties: FieldTable,
            tune: TuneNegotiation
        ) {
            self.mechanisms = mechanisms
            self.virtualHost = virtualHost
            self.clientProperties = clientProperties
            self.tune = tune
        }
    }

    /// The arguments of the peer's close.
    package struct CloseReason: Hashable, Sendable {
        package let code: ReplyCode
        package let text: String
        /// The method the peer blames; nil for none.
        package let method: MethodID?

        package init(code: ReplyCode, text: String, method: MethodID? = nil) {
            self.code = code
            self.text = text
            self.method = method
        }
    }

    /// Phase of the connection.
    package enum Phase: Hashable, Sendable {
        case awaitingStart
        /// The credentials were sent. A peer that drops the link now without a close has probably refused them.
        case awaitingTune
        case awaitingOpenOk
        case open
        case closing
        case closed
    }

    /// The reason why a login failed; the owner drops the link.
    package enum HandshakeFailure: Error, Hashable, Sendable {
        /// The peer speaks another protocol version.
        case version(major: UInt8, minor: UInt8)
        /// The peer offers only these mechanisms, none of which is configured.
        case noCommonMechanism(offered: String)
        /// The peer sent `connection.secure`, which no configured mechanism supports.
        case secureNotSupported
        /// The peer's frame-max is too small.
        case tuneRefused(TuneNegotiation.Refusal)
    }

    /// The owner's next step after a method on channel 0.
    package enum Action: Hashable, Sendable {
        case ignore
        /// Send `connection.start-ok`.
        case sendStartOk(Connection.StartOk)
        /// Send both; the negotiated limits hold from now on.
        case sendTuneOkAndOpen(Connection.TuneOk, Connection.Open, TuneNegotiation.Negotiated)
        /// The connection is open.
        case opened(TuneNegotiation.Negotiated)
        /// The broker blocks publishers for this reason, until `unblocked`.
        case blocked(String)
        case unblocked
        /// The broker accepted the new password.
        case secretUpdated
        /// Drop the link without a close.
        case fail(HandshakeFailure)
        /// Send close-ok; the peer has closed the connection for this reason.
        case sendCloseOkAndClose(CloseReason)
        /// Send close-ok, and keep waiting for the reply to the client's own close.
        case sendCloseOk
        /// The client's close was answered.
        case closed
        /// Protocol violation: fail everything, send this close, wait for close-ok.
        case violation(Connection.Close)
    }

    /// The owner's next step for a caller that closes.
    package enum CloseAction: Hashable, Sendable {
        /// Send it, and wait for `closed`.
        case send(Connection.Close)
        /// Close was already sent; wait for `closed`.
        case wait
        case alreadyClosed
    }

    enum State: Hashable, Sendable {
        case awaitingStart
        case awaitingTune
        case awaitingOpenOk(TuneNegotiation.Negotiated)
        case open
        case closing
        case closed
    }

    let configuration: Configuration
    var state: State = .awaitingStart
    /// The server properties from `connection.start`; empty before.
    package internal(set) var serverProperties = FieldTable()
    private var isBlocked = false

    package init(_ configuration: Configuration) { self.configuration = configuration }

    package var phase: Phase {
        switch self.state {
        case .awaitingStart: .awaitingStart
        case .awaitingTune: .awaitingTune
        case .awaitingOpenOk: .awaitingOpenOk
        case .open: .open
        case .closing: .closing
        case .closed: .closed
        }
    }

    /// Handles a received method on channel 0.
    package mutating func received(_ method: Method) -> Action {
        if self.state == .closed { return .ignore }
        switch method {
        case .connectionClose(let close): return self.receivedClose(close)
        case .connectionCloseOk: return self.receivedCloseOk()
        default: break
        }
        if self.state == .closing { return .ignore }
        switch method {
        case .connectionStart(let start): return self.receivedStart(start)
        case .connectionSecure: return self.receivedSecure()
        case .connectionTune(let tune): return self.receivedTune(tune)
        case .connectionOpenOk: return self.receivedOpenOk()
        case .connectionBlocked(let blocked): return self.receivedBlocked(blocked)
        case .connectionUnblocked: return self.receivedUnblocked()
        case .connectionUpdateSecretOk: return self.receivedUpdateSecretOk()
        default: return self.violate(.commandInvalid, "\(method.id) on channel 0", method.id)
        }
    }

    /// Handles a protocol violation outside this machine: a malformed frame, or a channel's violation.
    package mutating func violate(_ code: ReplyCode, _ text: String, _ method: MethodID? = nil) -> Action {
        switch self.state {
        case .closing, .closed:
            return .ignore
        case .awaitingStart, .awaitingTune, .awaitingOpenOk, .open:
            self.state = .closing
            return .violation(Self.close(code, text, method))
        }
    }

    /// Begins the close by this side.
    package mutating func close(code: ReplyCode = .success, text: String = "") -> CloseAction {
        switch self.state {
        case .closing:
            return .wait
        case .closed:
            return .alreadyClosed
        case .awaitingStart:
            self.state = .closed  // Nothing was agreed; there is no one to say goodbye to.
            return .alreadyClosed
        case .awaitingTune, .awaitingOpenOk, .open:
            self.state = .closing
            return .send(Self.close(code, text, nil))
        }
    }

    /// Ends the connection: the link was lost, or the wait for close-ok timed out.
    package mutating func linkLost() { self.state = .closed }

    private mutating func receivedClose(_ close: Connection.Close) -> Action {
        if self.state == .closing { return .sendCloseOk }
        self.state = .closed
        let blamed = MethodID(classID: close.classID, methodID: close.methodID)
        return .sendCloseOkAndClose(
            CloseReason(
                code: close.replyCode,
                text: close.replyText,
                method: blamed.classID == 0 ? nil : blamed
            )
        )
    }

    private mutating func receivedCloseOk() -> Action {
        guard self.state == .closing else {
            return self.violate(.commandInvalid, "close-ok without a close", Connection.CloseOk.id)
        }
        self.state = .closed
        return .closed
    }

    private mutating func receivedBlocked(_ blocked: Connection.Blocked) -> Action {
        guard self.state == .open else { return self.outOfOrder(Connection.Blocked.id) }
        self.isBlocked = true
        return .blocked(blocked.reason)
    }

    private mutating func receivedUnblocked() -> Action {
        guard self.state == .open else { return self.outOfOrder(Connection.Unblocked.id) }
        guard self.isBlocked else { return .ignore }
        self.isBlocked = false
        return .unblocked
    }

    private mutating func receivedUpdateSecretOk() -> Action {
        guard self.state == .open else { return self.outOfOrder(Connection.UpdateSecretOk.id) }
        return .secretUpdated
    }

    mutating func outOfOrder(_ method: MethodID) -> Action {
        self.violate(.commandInvalid, "\(method) out of order", method)
    }

    static func close(_ code: ReplyCode, _ text: String, _ method: MethodID?) -> Connection.Close {
        Connection.Close(
            replyCode: code,
            replyText: ShortText.cut(text),
            classID: method?.classID ?? 0,
            methodID: method?.methodID ?? 0
        )
    }
}
