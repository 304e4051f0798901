// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPError: the one error type of this library: what happened (code), the broker's text (replyCode, replyText),
// what is unusable (scope), the source (origin), and whether a retry is safe.
// Not here: errors of the codec (WireError) and of sockets (NetworkError); the connection turns both into this type.

/// An error with its cause, the unusable scope, and whether a retry is safe.
public struct AMQPError: Error, Hashable, Sendable {
    /// The kind of error; compare with the static members.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        /// The code's name, in words.
        public let description: String

        private init(_ description: String) { self.description = description }

        /// The URI or an option is invalid; nothing was sent.
        public static let invalidConfiguration = Code("invalid configuration")
        /// An argument exceeds a limit of the protocol; nothing was sent.
        public static let invalidArgument = Code("invalid argument")
        /// Connecting failed: name, port, network, or a peer that does not speak AMQP 0-9-1.
        public static let connectFailed = Code("connect failed")
        /// The broker refused the user name or the password (403).
        public static let authenticationFailed = Code("authentication failed")
        /// The broker refused the virtual host (530).
        public static let virtualHostRefused = Code("virtual host refused")
        /// The connection is closed: by a call of `close`, by the broker, or because the link was lost.
        public static let connectionClosed = Code("connection closed")
        /// The channel is closed, by a call of `close` or by the broker.
        public static let channelClosed = Code("channel closed")
        /// The deadline passed.
        public static let timedOut = Code("timed out")
        /// The task was cancelled.
        public static let cancelled = Code("cancelled")
        /// The broker nacked a publish (`basic.nack`).
        public static let nacked = Code("publish nacked by the broker")
        /// The broker refused a publish by closing the channel: with `replyCode` and `replyText`, such as 404 for an
        /// exchange that does not exist.
        ///
        /// The same publish would be refused again. Other publishes of the channel have their own outcomes.
        public static let refused = Code("publish refused by the broker")
        /// The broker returned a mandatory publish that was routed to no queue (`basic.return`).
        public static let returned = Code("publish returned")
        /// The outcome of a publish is unknown: its octets were written and no confirm arrived.
        public static let unknownOutcome = Code("outcome of a publish unknown")
        /// The broker's version does not support the request; nothing was sent.
        public static let notSupportedByBroker = Code("not supported by the broker")
        /// An outbox gave up a message: its publisher was closed, or the client shut down, before the
        /// broker confirmed it.
        public static let givenUp = Code("publish given up")
        /// The broker cancelled the consumer, for example because its queue was deleted.
        public static let consumerCancelled = Code("consumer cancelled by the broker")
        /// A delivery exceeded the acknowledgement timeout, 30 minutes by default: all unsettled deliveries of the consumer
        /// are requeued.
        ///
        /// Since RabbitMQ 4.3 it concerns quorum queues only and ends the consumer, with scope `.operation`: the channel
        /// stays usable. Before, the broker closes the channel (406), with scope `.channel`.
        public static let acknowledgementTimedOut = Code("acknowledgement timed out at the broker")
        /// The body of a delivery is larger than ``AMQPClientConfiguration/maximumBodySize``.
        public static let bodyTooLarge = Code("body of a delivery too large")
        /// The delivery was settled before.
        public static let alreadySettled = Code("delivery settled already")
        /// All channel numbers up to channel-max are in use.
        public static let noFreeChannel = Code("no free channel")
        /// The broker refused a part of the topology of a client that connected for the first time; or it refused a
        /// declaration by closing the connection (503, 540, 541), and then the scope is `.connection`.
        public static let topologyRefused = Code("topology refused by the broker")
        /// The peer violated the protocol.
        public static let protocolViolation = Code("protocol violation")
    }

    /// The scope that is unusable after the error.
    public enum Scope: Hashable, Sendable {
        /// Only the call failed; channel and connection stay open.
        case operation
        /// The channel is closed; the connection stays open.
        case channel
        /// The connection is closed.
        case connection
    }

    /// The source of the error.
    public enum Origin: Hashable, Sendable {
        /// The broker, in a method it sent.
        case broker
        /// This library.
        case client
        /// The operating system: the errno of the call that failed.
        case transport(errno: Int32)
    }

    /// The kind of event.
    public let code: Code
    /// The reply code of a close or a return; unknown numbers are preserved.
    public let replyCode: ReplyCode?
    /// The broker's reply text, or a text of this library; never a body or a secret.
    public let replyText: String
    /// The method that the broker blames, or the method that was waiting.
    public let method: MethodID?
    /// The line of the application that most likely caused it, when the broker blames something sent earlier.
    ///
    /// The broker refuses a publish or a settlement by closing the channel, some time after the call has returned; a later
    /// call then throws the error. This is the latest of the recorded lines that published to the exchange in the broker's
    /// text, otherwise the last line. Nil for all other errors.
    public let callSite: AMQPCallSite?
    /// The unusable scope.
    public let scope: Scope
    /// The source of the error.
    public let origin: Origin
    /// True when no octet of the request was written.
    public let isSafeToRetry: Bool

    /// Creates an error, for tests of code that handles errors.
    public init(
        _ code: Code,
        _ replyText: String = "",
        replyCode: ReplyCode? = nil,
        method: MethodID? = nil,
        callSite: AMQPCallSite? = nil,
        scope: Scope = .operation,
        origin: Origin = .client,
        isSafeToRetry: Bool = false
    ) {
        self.code = code
        self.replyText = replyText
        self.replyCode = replyCode
        self.method = method
        self.callSite = callSite
        self.scope = scope
        self.origin = origin
        self.isSafeToRetry = isSafeToRetry
    }
}

extension AMQPError: CustomStringConvertible {
    /// A description: code, reply code, text, method and the likely call site.
    public var description: String {
        var text = self.code.description
        if let replyCode = self.replyCode { text += " (\(replyCode.rawValue))" }
        if !self.replyText.isEmpty { text += ": \(self.replyText)" }
        if let method = self.method { text += " [\(method)]" }
        if let callSite = self.callSite { text += ", most likely sent by \(callSite)" }
        return text
    }
}

extension AMQPError {
    /// An encoding error of the caller's arguments; nothing was written.
    static func invalidArgument(_ error: WireError) -> AMQPError {
        AMQPError(.invalidArgument, "\(error)", isSafeToRetry: true)
    }

    /// The error of a discarded body that is larger than the limit.
    static func bodyTooLarge(_ size: UInt64, of configuration: AMQPClientConfiguration) -> AMQPError {
        AMQPError(.bodyTooLarge, "\(size) octets; maximumBodySize is \(configuration.maximumBodySize)")
    }

    /// A protocol violation by the peer; the connection is closed.
    static func protocolViolation(_ replyCode: ReplyCode, _ text: String) -> AMQPError {
        AMQPError(.protocolViolation, text, replyCode: replyCode, scope: .connection)
    }
}
