// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

// Errors of the codec in terms of the caller's arguments: name, size and limit. Determined only after the failure, so
// valid calls pay nothing for it.

extension AMQPError {
    /// An argument of a request cannot be encoded: nothing was sent.
    static func invalidArgument(_ error: WireError, in method: Method) -> AMQPError {
        let text =
            switch error.kind {
            case .shortStringTooLong:
                self.tooLong(method.shortStrings) ?? "the arguments of \(method.id): \(error)"
            case .frameTooLarge(let size, let limit):
                "\(method.id) takes \(size) octets; the negotiated frame-max allows \(limit)"
            default: "the arguments of \(method.id): \(error)"
            }
        return AMQPError(.invalidArgument, text, method: method.id, isSafeToRetry: true)
    }

    /// An argument of a publish cannot be encoded: nothing was sent.
    static func invalidArgument(
        _ error: WireError,
        publishingTo destination: AMQPDestination,
        _ properties: BasicProperties
    ) -> AMQPError {
        let text =
            switch error.kind {
            case .shortStringTooLong:
                self.tooLong(
                    [("exchange", destination.exchange), ("routingKey", destination.routingKey)]
                        + properties.shortStrings
                ) ?? "headers: \(error)"
            case .frameTooLarge(let size, let limit):
                "the properties take \(size) octets and cannot be split; the negotiated frame-max allows \(limit)"
            case .nestingTooDeep: "headers: \(error)"
            default: "the properties: \(error)"
            }
        return AMQPError(.invalidArgument, text, method: Basic.Publish.id, isSafeToRetry: true)
    }

    private static func tooLong(_ strings: [(name: String, value: String?)]) -> String? {
        for (name, value) in strings {
            if let count = value?.utf8.count, count > 255 { return "\(name) has \(count) octets; the limit is 255" }
        }
        return nil
    }
}

extension Method {
    /// The short strings of a request, by argument name.
    fileprivate var shortStrings: [(name: String, value: String?)] {
        switch self {
        case .connectionUpdateSecret(let method): [("reason", method.reason)]
        case .exchangeDeclare(let method): [("exchange", method.exchange), ("type", method.type)]
        case .exchangeDelete(let method): [("exchange", method.exchange)]
        case .exchangeBind(let method):
            [("destination", method.destination), ("source", method.source), ("routingKey", method.routingKey)]
        case .exchangeUnbind(let method):
            [("destination", method.destination), ("source", method.source), ("routingKey", method.routingKey)]
        case .queueDeclare(let method): [("queue", method.queue)]
        case .queueBind(let method):
            [("queue", method.queue), ("exchange", method.exchange), ("routingKey", method.routingKey)]
        case .queueUnbind(let method):
            [("queue", method.queue), ("exchange", method.exchange), ("routingKey", method.routingKey)]
        case .queuePurge(let method): [("queue", method.queue)]
        case .queueDelete(let method): [("queue", method.queue)]
        case .basicConsume(let method): [("queue", method.queue), ("consumerTag", method.consumerTag)]
        case .basicGet(let method): [("queue", method.queue)]
        default: []
        }
    }
}

extension BasicProperties {
    fileprivate var shortStrings: [(name: String, value: String?)] {
        [
            ("contentType", self.contentType), ("contentEncoding", self.contentEncoding),
            ("correlationID", self.correlationID), ("replyTo", self.replyTo), ("expiration", self.expiration),
            ("messageID", self.messageID), ("type", self.type), ("userID", self.userID), ("appID", self.appID),
            ("clusterID", self.clusterID),
        ]
    }
}
