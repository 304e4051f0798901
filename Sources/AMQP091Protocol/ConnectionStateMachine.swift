// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire

// ConnectionStateMachine: channel 0 of one connection, from our protocol header to the close (§2.2.4, §1.4).
// Pure: no socket, clock, task or lock. The owner sends what an action names, in order, and bounds every wait.
// Not here: the login dialogue (ConnectionStateMachine+Handshake), channels (ChannelStateMachine), heartbeats.
//
//   awaitingStart -> awaitingTune -> awaitingOpenOk -> open --close()-------> closing -> closed
//          \_______________\_______________\_____________\--receivedClose()--> closed   (and we answer close-ok)

/// What may happen on channel 0, and what follows from it.
package struct ConnectionStateMachine: Sendable {
    /// Who we are, and what we wish for.
    package struct Configuration: Sendable {
        /// The preferred first; the first that the peer offers is used.
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

    /// Why a peer closed a connection: the arguments of its close.
    package struct CloseReason: Hashable, Sendable {
        package let code: ReplyCode
        package let text: String
        /// The method the peer blamed; nil when it blamed none.
        package let method: MethodID?

        package init(code: ReplyCode, text: String, method: MethodID? = nil) {
            self.code = code
            self.text = text
            self.method = method
        }
    }

    /// Where the connection is.
    package enum Phase: Hashable, Sendable {
        case awaitingStart
        /// The credentials are sent. A peer that now drops the link without a word has probably refused them.
        case awaitingTune
        case awaitingOpenOk
        case open
        case closing
        case closed
    }

    /// Why a login cannot go on; the owner drops the link.
    package enum HandshakeFailure: Error, Hashable, Sendable {
        /// The peer speaks another version of the protocol.
        case version(major: UInt8, minor: UInt8)
        /// The peer offers only these mechanisms, none of ours.
        case noCommonMechanism(offered: String)
        /// The peer asked a question (`connection.secure`), which none of ours needs.
        case secureNotSupported
        /// The peer's frames would be too small.
        case tuneRefused(TuneNegotiation.Refusal)
    }

    /// What to do about a method on channel 0.
    package enum Action: Hashable, Sendable {
        case ignore
        /// Send `connection.start-ok`.
        case sendStartOk(Connection.StartOk)
        /// Send both; keep to the negotiated numbers from here on.
        case sendTuneOkAndOpen(Connection.TuneOk, Connection.Open, TuneNegotiation.Negotiated)
        /// The connection can be used.
        case opened(TuneNegotiation.Negotiated)
        /// The broker does not read publishes for this reason, until `unblocked`.
        case blocked(String)
        case unblocked
        /// The broker took the new password.
        case secretUpdated
        /// Drop the link; no close is owed.
        case fail(HandshakeFailure)
        /// Send close-ok; the peer has closed the connection for this reason.
        case sendCloseOkAndClose(CloseReason)
        /// Send close-ok, and keep waiting for the answer to our own close.
        case sendCloseOk
        /// Our close was answered.
        case closed
        /// The peer broke the protocol: fail everything, send this close, wait for close-ok.
        case violation(Connection.Close)
    }

    /// What to do for a caller that wants to close.
    package enum CloseAction: Hashable, Sendable {
        /// Send it, and wait for `closed`.
        case send(Connection.Close)
        /// Close was sent before; wait for `closed`.
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
    /// What the broker said of itself in `connection.start`; empty before.
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

    /// A method came on channel 0.
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

    /// The peer broke the protocol in a way this machine did not see: a frame that cannot be read, a channel's violation.
    package mutating func violate(_ code: ReplyCode, _ text: String, _ method: MethodID? = nil) -> Action {
        switch self.state {
        case .closing, .closed:
            return .ignore
        case .awaitingStart, .awaitingTune, .awaitingOpenOk, .open:
            self.state = .closing
            return .violation(Self.close(code, text, method))
        }
    }

    /// We want to close.
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

    /// The link is gone, or the wait for close-ok took too long.
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
