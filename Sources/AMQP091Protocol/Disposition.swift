// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire

// Disposition: the one place that decides what an ending means for whoever it concerns.
// Pure: a table. The article "Recovery" shows it, and a test keeps both equal.
// Not here: how an error becomes an Ending (AMQPError+Ending), delays (RecoveryBackoff), which publish is the culprit
// (PublishVerdict).

/// How a link, a channel, a consumer, a login or a wait has ended.
package enum Ending: Hashable, Sendable {
    /// The link was reset, fell silent, or was closed without a reason.
    case linkLost
    /// No link was made: name, network, port, or a peer that does not speak AMQP.
    case dialFailed
    /// The peer broke the protocol.
    case violation
    /// A limit of this library was exceeded.
    case localLimit
    /// The broker sent `connection.close`.
    case connectionClosed(ReplyCode, String, MethodID?)
    /// The broker sent `channel.close`.
    case channelClosed(ReplyCode, String, MethodID?)
    /// The broker sent `basic.cancel`.
    case consumerCancelled
    /// The broker refused the login, or dropped the link in it (no code).
    case loginRefused(ReplyCode?, String)
    /// A reply or a confirm did not come in time.
    case timedOut
    /// An option or an argument cannot be used.
    case unusable
    /// The application closed it, or cancelled the task.
    case ended
}

/// Whom an ending concerns.
package enum Asker: Hashable, Sendable, CaseIterable {
    /// A client's publisher without an outbox.
    case publisher
    case outbox
    case consumer
    case topology
    case rpc
    /// A connection that has never been up with these credentials.
    case firstConnect
    /// One that has.
    case laterConnect
}

/// What follows from an ending.
package enum Disposition: String, Hashable, Sendable {
    /// Go on at once, on the next channel or connection.
    case resume
    /// Go on after a delay that grows.
    case retry
    /// Take out the one that caused it and tell its caller; the others go on.
    case isolate
    /// The caller decides.
    case tell
    /// Nothing is tried any more: the client ends with this error.
    case end
}

extension Ending {
    /// What this ending means for `asker`.
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
            // A backend that is away refuses like a wrong password, and a virtual host can be made again: for a client
            // that was let in before, only time tells.
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
            // The broker will close every connection that asks for this.
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
            // Only the consumer whose own request it blames is told; the others go on.
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
            case .resourceLocked, .internalError: .retry
            case .notFound: Self.isUnavailable(text) ? .retry : .tell
            case .accessRefused: Self.isInUse(text) ? .retry : .tell
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
            // A publish that makes the broker close the connection would do so on each new one.
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

    /// A login is refused for a reason that passes: too many connections, a virtual host that is starting.
    package static func isTemporary(_ text: String) -> Bool {
        ["connection limit (", "limit is reached", "is down", "has reached the maximum"].contains { text.contains($0) }
    }

    /// The broker will never declare this: a feature it has dropped.
    package static func isNever(_ text: String) -> Bool {
        ["deprecated", "not supported", "not permitted"].contains { text.contains($0) }
    }

    /// A queue that is there, on a node that is not.
    ///
    /// RabbitMQ says which of the two a 404 is in its text only.
    package static func isUnavailable(_ text: String) -> Bool {
        ["down or inaccessible", "process is stopped", "has stopped", "not available", "timed out", "timeout"]
            .contains { text.contains($0) }
    }

    /// An exclusive consumer that is still there, perhaps on this client's own half-open connection.
    package static func isInUse(_ text: String) -> Bool { text.contains("in exclusive use") }
}
