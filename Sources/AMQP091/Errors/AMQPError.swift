// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire

// AMQPError: the one error this library throws. It says what happened (code), in whose words (replyCode, replyText),
// what is unusable now (scope), who said so (origin), and whether the same call may simply be made again.
// Not here: errors of the codec (WireError) and of sockets (NetworkError); the connection turns both into this type.

/// What went wrong, what is unusable now, and whether a retry is safe.
public struct AMQPError: Error, Hashable, Sendable {
    /// What happened; compare with the static members.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        /// The code's name, in words.
        public let description: String

        private init(_ description: String) { self.description = description }

        /// The URI or an option cannot be used; nothing was sent.
        public static let invalidConfiguration = Code("invalid configuration")
        /// An argument breaks a limit of the protocol; nothing was sent.
        public static let invalidArgument = Code("invalid argument")
        /// No connection could be made: name, port, network, or a peer that does not speak AMQP 0-9-1.
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
        /// The broker refused a publish with `basic.nack`.
        public static let nacked = Code("publish nacked by the broker")
        /// The broker refused a publish by closing the channel: with `replyCode` and `replyText`, such as 404 for an
        /// exchange that does not exist.
        ///
        /// The same publish would be refused again. Other publishes of the channel have outcomes of their own.
        public static let refused = Code("publish refused by the broker")
        /// The broker returned a mandatory publish that no queue took (`basic.return`).
        public static let returned = Code("publish returned")
        /// The outcome of a publish is not known: its octets were written and no confirm came.
        public static let unknownOutcome = Code("outcome of a publish unknown")
        /// The broker's version does not know what was asked for; nothing was sent.
        public static let notSupportedByBroker = Code("not supported by the broker")
        /// An outbox let go of a message it still held: its publisher was closed, or the client shut down, before the
        /// broker confirmed it.
        public static let givenUp = Code("publish given up")
        /// The broker cancelled the consumer, for example because its queue was deleted.
        public static let consumerCancelled = Code("consumer cancelled by the broker")
        /// A delivery was not settled in the broker's time, 30 minutes by default: all that the consumer had not settled
        /// is delivered again, to whichever consumer is there.
        ///
        /// Since RabbitMQ 4.3 it concerns quorum queues only and ends the consumer, with scope `.operation`: the channel
        /// stays usable. Before, the broker closes the channel (406), with scope `.channel`.
        public static let acknowledgementTimedOut = Code("acknowledgement timed out at the broker")
        /// The body of a delivery is larger than ``AMQPClientConfiguration/maximumBodySize``.
        public static let bodyTooLarge = Code("body of a delivery too large")
        /// The delivery was settled before.
        public static let alreadySettled = Code("delivery settled already")
        /// Every channel number the broker allows is in use.
        public static let noFreeChannel = Code("no free channel")
        /// The broker refused a part of the topology of a client that connected for the first time; or it refused a
        /// declaration by closing the connection (503, 540, 541), and then the scope is `.connection`.
        public static let topologyRefused = Code("topology refused by the broker")
        /// The peer broke the protocol.
        public static let protocolViolation = Code("protocol violation")
    }

    /// What is unusable after the error.
    public enum Scope: Hashable, Sendable {
        /// Only the call failed; channel and connection go on.
        case operation
        /// The channel is closed; the connection goes on.
        case channel
        /// The connection is closed.
        case connection
    }

    /// Who said so.
    public enum Origin: Hashable, Sendable {
        /// The broker, in a method it sent.
        case broker
        /// This library.
        case client
        /// The operating system: the errno of the call that failed.
        case transport(errno: Int32)
    }

    /// What happened.
    public let code: Code
    /// The reply code, when a close or a return carried one; numbers the specification does not know survive.
    public let replyCode: ReplyCode?
    /// The broker's words, or a sentence of this library; never a body or a secret.
    public let replyText: String
    /// The method the broker blamed, or the one that was waiting.
    public let method: MethodID?
    /// The line of the application that most likely caused it, when the broker blames something sent earlier.
    ///
    /// The broker refuses a publish or a settlement by closing the channel, some time after the call has returned; the
    /// error then comes out of whichever call is next. Among the last lines that published, the one that used the
    /// exchange the broker names is taken, otherwise the last. Nil for all other errors: their line is the one that
    /// throws.
    public let callSite: AMQPCallSite?
    /// What is unusable now.
    public let scope: Scope
    /// Who said so.
    public let origin: Origin
    /// True when no octet of the request was written.
    public let isSafeToRetry: Bool

    /// Makes an error; for tests of code that handles one.
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
    /// One sentence: code, reply code, text, method and the likely call site.
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
    /// A codec's complaint about what the caller gave: thrown before anything is written.
    static func invalidArgument(_ error: WireError) -> AMQPError {
        AMQPError(.invalidArgument, "\(error)", isSafeToRetry: true)
    }

    /// A delivery's body was read past, because it is larger than the limit.
    static func bodyTooLarge(_ size: UInt64, of configuration: AMQPClientConfiguration) -> AMQPError {
        AMQPError(.bodyTooLarge, "\(size) octets; maximumBodySize is \(configuration.maximumBodySize)")
    }

    /// A codec's or machine's complaint about what the peer sent: the connection is gone.
    static func protocolViolation(_ replyCode: ReplyCode, _ text: String) -> AMQPError {
        AMQPError(.protocolViolation, text, replyCode: replyCode, scope: .connection)
    }
}
