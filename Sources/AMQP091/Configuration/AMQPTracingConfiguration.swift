// SPDX-License-Identifier: Apache-2.0

// AMQPTracingConfiguration: whether and how connections report spans. Without the trait TracingSupport, or without a
// tracer, none are. The names of the attributes are values, because the conventions they come from are not yet stable.

/// How a connection reports spans, where a tracer is set up.
///
/// The tracer is the one of `InstrumentationSystem` when the connection is made, or that of `withTracer`. Without one,
/// nothing is done. OpenTelemetry semantic conventions 1.44, messaging, RabbitMQ.
public struct AMQPTracingConfiguration: Hashable, Sendable {
    /// How the span of a consumer belongs to the span of the publisher.
    public enum Correlation: Hashable, Sendable {
        /// By a link; each side is a trace of its own. What the conventions ask for.
        case link
        /// As its child, in one trace.
        case parent
    }

    /// Whether there are spans at all.
    public var isEnabled = true
    /// How the span of a consumer belongs to the span of the publisher.
    public var correlation = Correlation.link
    /// Whether spans say how large a body is.
    public var recordsBodySize = false
    /// What spans are named after instead of exchange, routing key and queue, where these are too many; nil for those.
    public var destinationTemplate: String?
    /// The names of the attributes.
    public var attributeNames = AttributeNames()

    /// The defaults.
    public init() {}

    /// The names under which spans keep what they know.
    public struct AttributeNames: Hashable, Sendable {
        /// Always `rabbitmq`.
        public var system = "messaging.system"
        /// `publish`, `process`, `receive`, `ack`, `nack` or `reject`.
        public var operationName = "messaging.operation.name"
        /// `send`, `process`, `receive` or `settle`.
        public var operationType = "messaging.operation.type"
        /// Exchange, routing key and queue, with colons between them.
        public var destinationName = "messaging.destination.name"
        /// The configuration's `destinationTemplate`.
        public var destinationTemplate = "messaging.destination.template"
        /// True for a queue that the broker named.
        public var destinationAnonymous = "messaging.destination.anonymous"
        /// True for a queue that ends with its connection.
        public var destinationTemporary = "messaging.destination.temporary"
        /// The routing key.
        public var routingKey = "messaging.rabbitmq.destination.routing_key"
        /// The delivery tag.
        public var deliveryTag = "messaging.rabbitmq.message.delivery_tag"
        /// How many messages a batch has.
        public var batchMessageCount = "messaging.batch.message_count"
        /// The property `message_id`.
        public var messageID = "messaging.message.id"
        /// The property `correlation_id`.
        public var conversationID = "messaging.message.conversation_id"
        /// Octets of the body.
        public var bodySize = "messaging.message.body.size"
        /// The connection's name.
        public var clientID = "messaging.client.id"
        /// The configured host, or the path of a Unix socket.
        public var serverAddress = "server.address"
        /// The configured port.
        public var serverPort = "server.port"
        /// The address the connection went to.
        public var peerAddress = "network.peer.address"
        /// The port the connection went to.
        public var peerPort = "network.peer.port"
        /// Why it failed, in one of a few words.
        public var errorType = "error.type"

        /// The names of the conventions.
        public init() {}
    }
}
