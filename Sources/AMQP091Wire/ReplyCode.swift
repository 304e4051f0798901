// SPDX-License-Identifier: Apache-2.0

// ReplyCode: the numbers of close and return methods (AMQP 0-9-1 §1.2).
// A struct and not an enum, so that an unlisted number is preserved.

/// The reply code of a close or a return.
@frozen
public struct ReplyCode: RawRepresentable, Hashable, Sendable {
    /// The number on the wire.
    public var rawValue: UInt16

    /// Creates a reply code, known or unknown.
    @inlinable
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Creates a reply code, known or unknown.
    @inlinable
    public init(_ rawValue: UInt16) { self.rawValue = rawValue }

    /// 200: success.
    public static let success = ReplyCode(200)
    /// 311: the content is too large for the channel.
    public static let contentTooLarge = ReplyCode(311)
    /// 312: a mandatory message reached no queue.
    public static let noRoute = ReplyCode(312)
    /// 313: an immediate message had no consumer.
    public static let noConsumers = ReplyCode(313)
    /// 320: an operator or a shutdown closed the connection.
    public static let connectionForced = ReplyCode(320)
    /// 402: an unknown virtual host.
    public static let invalidPath = ReplyCode(402)
    /// 403: no permission, or refused credentials.
    public static let accessRefused = ReplyCode(403)
    /// 404: no such exchange or queue.
    public static let notFound = ReplyCode(404)
    /// 405: another connection holds the queue exclusively.
    public static let resourceLocked = ReplyCode(405)
    /// 406: a precondition failed, such as other arguments of a queue, or an unknown delivery tag.
    public static let preconditionFailed = ReplyCode(406)
    /// 501: a malformed frame.
    public static let frameError = ReplyCode(501)
    /// 502: an illegal value in a frame.
    public static let syntaxError = ReplyCode(502)
    /// 503: a method out of order.
    public static let commandInvalid = ReplyCode(503)
    /// 504: a channel that is not open, or is already open.
    public static let channelError = ReplyCode(504)
    /// 505: an unexpected frame type.
    public static let unexpectedFrame = ReplyCode(505)
    /// 506: insufficient resources.
    public static let resourceError = ReplyCode(506)
    /// 530: not allowed, such as an unknown virtual host with RabbitMQ.
    public static let notAllowed = ReplyCode(530)
    /// 540: not implemented.
    public static let notImplemented = ReplyCode(540)
    /// 541: an internal error.
    public static let internalError = ReplyCode(541)

    /// True for a code that closes the connection: 320, 402, 501 to 506, 530, 540, 541.
    public var isHard: Bool {
        switch self.rawValue {
        case 320, 402, 501...506, 530, 540, 541: true
        default: false
        }
    }

    /// True for a code that closes a channel or returns a message: 311, 312, 313, 403 to 406.
    public var isSoft: Bool {
        switch self.rawValue {
        case 311, 312, 313, 403...406: true
        default: false
        }
    }

    /// The specification's name, such as "NOT_FOUND".
    package var name: String? {
        switch self.rawValue {
        case 200: "REPLY_SUCCESS"
        case 311: "CONTENT_TOO_LARGE"
        case 312: "NO_ROUTE"
        case 313: "NO_CONSUMERS"
        case 320: "CONNECTION_FORCED"
        case 402: "INVALID_PATH"
        case 403: "ACCESS_REFUSED"
        case 404: "NOT_FOUND"
        case 405: "RESOURCE_LOCKED"
        case 406: "PRECONDITION_FAILED"
        case 501: "FRAME_ERROR"
        case 502: "SYNTAX_ERROR"
        case 503: "COMMAND_INVALID"
        case 504: "CHANNEL_ERROR"
        case 505: "UNEXPECTED_FRAME"
        case 506: "RESOURCE_ERROR"
        case 530: "NOT_ALLOWED"
        case 540: "NOT_IMPLEMENTED"
        case 541: "INTERNAL_ERROR"
        default: nil
        }
    }
}

extension ReplyCode: CustomStringConvertible {
    /// The number and the specification's name, such as "404 NOT_FOUND".
    public var description: String {
        guard let name = self.name else { return "\(self.rawValue)" }
        return "\(self.rawValue) \(name)"
    }
}
