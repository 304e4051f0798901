// SPDX-License-Identifier: Apache-2.0

// MessagingOperation: operations and error types of the OpenTelemetry conventions for messaging (1.44, RabbitMQ).

/// An operation in OpenTelemetry's terms.
enum MessagingOperation: Hashable, Sendable {
    case publish, process, receive, ack, nack, reject

    /// `messaging.operation.name`.
    var name: String {
        switch self {
        case .publish: "publish"
        case .process: "process"
        case .receive: "receive"
        case .ack: "ack"
        case .nack: "nack"
        case .reject: "reject"
        }
    }

    /// `messaging.operation.type`.
    var type: String {
        switch self {
        case .publish: "send"
        case .process: "process"
        case .receive: "receive"
        case .ack, .nack, .reject: "settle"
        }
    }
}

extension AMQPError {
    /// `error.type`, from a fixed set.
    var kind: String {
        switch self.code {
        case .nacked: "nacked"
        case .returned: "returned"
        case .timedOut: "timeout"
        case .cancelled: "cancelled"
        default:
            // "ACCESS_REFUSED" as in the conventions; otherwise the code's name.
            Self.dashed(self.replyCode?.name ?? self.code.description)
        }
    }

    private static func dashed(_ words: String) -> String {
        String(words.lowercased().map { $0 == "_" || $0 == " " ? "-" : $0 })
    }
}
