// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire

// Disposition: the one table that decides what follows from an ending.
// Pure. The article "Recovery" shows the table, and a test compares both.
// Not here: errors as endings (AMQPError+Ending), delays (RecoveryBackoff), the culprit among publishes
// (PublishVerdict).

/// The ending of a link, channel, consumer, login or wait.
package enum Ending: Hashable, Sendable {
    /// The link was reset, timed out, or was closed without a reason.
    case linkLost
    /// Connecting failed: name, network, port, or a peer that does not speak AMQP.
    case dialFailed
    /// The peer violated the protocol.
    case violation
    /// A limit of this library was exceeded.
    case localLimit
    /// The broker sent `connection.close`.
    case connectionClosed(ReplyCode, String, MethodID?)
    /// The broker sent `channel.close`.
    case channelClosed(ReplyCode, String, MethodID?)
    /// The broker sent `basic.cancel`.
    case consumerCancelled
    /// The broker refused the login, or dropped the link during it (no code).
    case loginRefused(ReplyCode?, String)
    /// A reply or a confirm timed out.
    case timedOut
    /// An option or an argument is invalid.
    case unusable
    /// The application closed it, or cancelled the task.
    case ended
}

/// The party that an ending concerns.
package enum Asker: Hashable, Sendable, CaseIterable {
    /// A client's publisher without an outbox.
    case publisher
    case outbox
    case consumer
    case topology
    case rpc
    /// The first connection with these credentials.
    case firstConnect
    /// A later connection with these credentials.
    case laterConnect
}

/// The consequence of an ending.
package enum Disposition: String, Hashable, Sendable {
    /// Continue at once on the next channel or connection.
    case resume
    /// Continue after a delay that grows.
    case retry
    /// Fail the operation that caused it; the others continue.
    case isolate
    /// The caller decides.
    case tell
    /// The client ends with this error.
    case end
}

extension Ending {
    /// Returns what follows from this ending for `asker`.
    package func disposition(for asker: Asker) -> Disposition {
        switch asker {
        case .firstConnect, .laterConnect: self.dispositionOfConnect(isFirst: asker == .firstConnect)
        case .topology: self.dispositionOfTopology
        case .consumer: self.dispositionOfConsumer
        case .publisher, .outbox, .rpc: self.dispositionOfPublish
        }
    }

    private func dispositionOfConnect(isFirst: Bool) -> Disposition {
        switch self {
        case .loginRefused(let code?, let text):
            // A backend that is down refuses like a wrong password, and a virtual host can be created again: a client
            // that logged in before retries.
            switch code {
            case .accessRefused, .notAllowed: isFirst && !Self.isTemporary(text) ? .end : .retry
            default: .retry
            }
        case .unusable: .end
        case .ended: .tell
        default: .retry
        }
    }

    private var dispositionOfTopology: Disposition {
        switch self {
        case .connectionClosed(let code, let text, let method):
            // The broker closes every connection that declares this.
            if Self.isDeclaration(method) {
                switch code {
                case .internalError: Self.isNever(text) ? .end : .retry
                case .commandInvalid, .notImplemented, .notAllowed, .syntaxError: .end
                default: .retry
                }
            } else {
                .retry
            }
        case .channelClosed(let code, let text, _):
            switch code {
            case .resourceLocked, .internalError: .retry
            case .notFound: Self.isUnavailable(text) ? .retry : .tell
            case .accessRefused: Self.isInUse(text) ? .retry : .tell
            default: .tell
            }
        case .unusable: .tell
        case .localLimit: .tell
        case .ended: .tell
        default: .retry
        }
    }

    private var dispositionOfConsumer: Disposition {
        switch self {
        case .linkLost, .dialFailed, .violation: .resume
        case .connectionClosed(let code, _, let method):
            // Only the consumer whose request is blamed fails; the others continue.
            switch code {
            case .commandInvalid, .notImplemented, .notAllowed, .syntaxError:
                Self.isOfConsumer(method) ? .isolate : .resume
            // The broker's own failure, such as a queue without a process just then.
            case .internalError: Self.isOfConsumer(method) ? .retry : .resume
            default: .resume
            }
        case .consumerCancelled: .resume
        case .loginRefused: .retry
        case .channelClosed(let code, let text, _):
            switch code {
            // Rights may return: a virtual host that is deleted loses its permissions first.
            case .resourceLocked, .internalError, .accessRefused: .retry
            case .notFound: Self.isUnavailable(text) ? .retry : .tell
            default: .tell
            }
        case .timedOut: .retry
        case .localLimit, .unusable, .ended: .tell
        }
    }

    private var dispositionOfPublish: Disposition {
        switch self {
        case .linkLost, .dialFailed, .violation: .resume
        case .connectionClosed(let code, _, let method):
            // A publish for which the broker closes the connection would close each new one.
            switch code {
            case .connectionForced, .success, .resourceError: .resume
            default: method == Self.publish ? .isolate : .resume
            }
        case .channelClosed(_, _, let method): method == Self.publish ? .isolate : .resume
        case .loginRefused: .retry
        case .consumerCancelled: .resume
        case .timedOut, .localLimit, .unusable, .ended: .tell
        }
    }

    // MARK: texts and methods

    private static let publish = MethodID(classID: 60, methodID: 40)

    /// exchange.declare and bind, queue.declare and bind, queue.delete among them.
    private static func isDeclaration(_ method: MethodID?) -> Bool {
        method.map { $0.classID == 40 || $0.classID == 50 } ?? false
    }

    /// basic.qos, basic.consume.
    private static func isOfConsumer(_ method: MethodID?) -> Bool {
        method.map { $0.classID == 60 && ($0.methodID == 10 || $0.methodID == 20) } ?? false
    }

    /// Returns true for a temporary refusal of a login: too many connections, a virtual host that is starting.
    package static func isTemporary(_ text: String) -> Bool {
        ["connection limit (", "limit is reached", "is down", "has reached the maximum"].contains { text.contains($0) }
    }

    /// Returns true for a declaration the broker never accepts: a removed feature.
    package static func isNever(_ text: String) -> Bool {
        ["deprecated", "not supported", "not permitted"].contains { text.contains($0) }
    }

    /// Returns true for a queue that exists on an unavailable node.
    ///
    /// Only RabbitMQ's text distinguishes this 404 from a missing queue.
    package static func isUnavailable(_ text: String) -> Bool {
        ["down or inaccessible", "process is stopped", "has stopped", "not available", "timed out", "timeout"]
            .contains { text.contains($0) }
    }

    /// Returns true if an exclusive consumer still exists, perhaps on this client's own half-open connection.
    package static func isInUse(_ text: String) -> Bool { text.contains("in exclusive use") }
}
