// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import SystemPackage

// Maps errors of the lower layers to AMQPError, each with a text that helps, and the configuration to options of the
// lower layers. No text contains credentials.

extension AMQPError {
    init(_ error: NetworkError) {
        let code: Code =
            switch error.kind {
            case .timedOut: .timedOut
            case .cancelled: .cancelled
            default: .connectFailed
            }
        self.init(
            code,
            error.description,
            scope: .connection,
            origin: error.underlying.map { .transport(errno: $0.errno.rawValue) } ?? .client,
            isSafeToRetry: true
        )
    }

    init(_ failure: ConnectionStateMachine.HandshakeFailure) {
        let text =
            switch failure {
            case .version(let major, let minor): "the broker speaks AMQP \(major)-\(minor), not 0-9-1"
            case .noCommonMechanism(let offered):
                "the broker offers none of the mechanisms to log in with, only: \(offered)"
            case .secureNotSupported:
                "the broker asked for a second step of authentication, which no mechanism of ours has"
            case .tuneRefused(let refusal): "the broker's limits cannot be used: \(refusal)"
            }
        self.init(.connectFailed, text, scope: .connection, origin: .broker)
    }

    /// The broker closed the connection; during the login the reply code tells what was refused.
    init(_ reason: ConnectionStateMachine.CloseReason, isLoggingIn: Bool) {
        let code: Code =
            switch reason.code {
            case .accessRefused where isLoggingIn: .authenticationFailed
            case .notAllowed where isLoggingIn: .virtualHostRefused
            default: isLoggingIn ? .connectFailed : .connectionClosed
            }
        self.init(
            code,
            reason.text,
            replyCode: reason.code,
            method: reason.method,
            scope: .connection,
            origin: .broker
        )
    }

    /// The broker closed a channel, most likely because of the call at `site`.
    init(channelClosed reason: ConnectionStateMachine.CloseReason, site: CallSite?) {
        self.init(
            AcknowledgementTimeout(replyText: reason.text) == nil ? .channelClosed : .acknowledgementTimedOut,
            reason.text,
            replyCode: reason.code,
            method: reason.method,
            callSite: site.map { AMQPCallSite($0) },
            scope: .channel,
            origin: .broker
        )
    }

    /// The link ended before the login was complete.
    ///
    /// - Parameters:
    ///   - phase: The phase of the login.
    ///   - loginSize: Size of the frame with the credentials, in octets.
    /// - Returns: A probable refusal if the link ended between the credentials and the broker's reply.
    func inLogin(_ phase: ConnectionStateMachine.Phase, loginSize: Int) -> AMQPError {
        guard self.code == .connectionClosed, self.replyCode == nil else { return self }
        switch phase {
        case .open, .closing, .closed: return self
        case .awaitingStart, .awaitingOpenOk:
            return AMQPError(
                .connectFailed,
                "the link ended before the login was done: \(self.replyText)",
                scope: .connection,
                origin: self.origin,
                isSafeToRetry: true
            )
        case .awaitingTune where loginSize > Self.smallestLoginLimit:
            return AMQPError(
                .connectFailed,
                "the broker dropped the link during a login of \(loginSize) octets; RabbitMQ takes 4096 before 4.1 and "
                    + "8192 since: shorten the password or token, or the client properties",
                scope: .connection,
                origin: self.origin
            )
        case .awaitingTune:
            return AMQPError(
                .authenticationFailed,
                "the broker dropped the link during the login; most likely it refused the user name or the password",
                scope: .connection,
                origin: self.origin
            )
        }
    }

    /// Frame size before tune that every RabbitMQ accepts, in octets.
    private static let smallestLoginLimit = 4096
}

extension SocketOptions {
    init(_ configuration: AMQPClientConfiguration) {
        self.init()
        self.noDelay = true
        self.sendBuffer = configuration.socketSendBufferSize
        if configuration.heartbeat > .zero { self.userTimeout = configuration.heartbeat.saturated * 2 }
    }
}

extension ConnectionStateMachine {
    init(_ configuration: AMQPClientConfiguration) throws(AMQPError) {
        var properties: FieldTable = [
            "product": .string("swift-amqp091"),
            "platform": .string("Swift on Linux"),
        ]
        if !configuration.connectionName.isEmpty {
            properties["connection_name"] = .string(configuration.connectionName)
        }
        let tune: TuneNegotiation
        do throws(TuneNegotiation.Invalid) {
            tune = try TuneNegotiation(
                channelMaximum: configuration.channelMax,
                frameMaximum: configuration.frameMax,
                heartbeat: UInt16(clamping: configuration.heartbeat.saturated.components.seconds)
            )
        } catch {
            throw AMQPError(.invalidConfiguration, "\(error)", isSafeToRetry: true)
        }
        self.init(
            Configuration(
                mechanisms: configuration.authentication.sasl,
                virtualHost: configuration.virtualHost,
                clientProperties: properties,
                tune: tune
            )
        )
    }
}
