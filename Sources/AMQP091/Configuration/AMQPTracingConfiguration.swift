// SPDX-License-Identifier: Apache-2.0

// AMQPTracingConfiguration: the tracing options of connections. Without the trait TracingSupport, or without a
// tracer, there are no spans. Attribute names are options, because their conventions are not yet stable.

/// The tracing options of a connection, used if a tracer is bootstrapped.
///
/// The tracer is that of `InstrumentationSystem` at connecting, or of `withTracer`. Without one
/// there are no spans. OpenTelemetry semantic conventions 1.44, messaging, RabbitMQ.
public struct AMQPTracingConfiguration: Hashable, Sendable {
    /// Relation of a consumer's span to the publisher's.
    public enum Correlation: Hashable, Sendable {
        /// A link between separate traces, as the conventions recommend.
        case link
        /// A child in the same trace.
        case parent
    }

    /// True to create spans.
    public var isEnabled = true
    /// Relation of a consumer's span to the publisher's.
    public var correlation = Correlation.link
    /// True to record body sizes.
    public var recordsBodySize = false
    /// Name for spans instead of exchange, routing key and queue, if these have too many values; nil for those.
    public var destinationTemplate: String?
    /// The names of the attributes.
    public var attributeNames = AttributeNames()

    /// Creates the default options.
    public init() {}

    /// The attribute names of spans.
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
        /// True for a queue named by the broker.
        public var destinationAnonymous = "messaging.destination.anonymous"
        /// True for a queue that is deleted with its connection.
        public var destinationTemporary = "messaging.destination.temporary"
        /// The routing key.
        public var routingKey = "messaging.rabbitmq.destination.routing_key"
        /// The delivery tag.
        public var deliveryTag = "messaging.rabbitmq.message.delivery_tag"
        /// Number of messages of a batch.
        public var batchMessageCount = "messaging.batch.message_count"
        /// The property `message_id`.
        public var messageID = "messaging.message.id"
        /// The property `correlation_id`.
        public var conversationID = "messaging.message.conversation_id"
        /// Size of the body in octets.
        public var bodySize = "messaging.message.body.size"
        /// The connection's name.
        public var clientID = "messaging.client.id"
        /// The configured host, or the path of a Unix socket.
        public var serverAddress = "server.address"
        /// The configured port.
        public var serverPort = "server.port"
        /// The connected address.
        public var peerAddress = "network.peer.address"
        /// The connected port.
        public var peerPort = "network.peer.port"
        /// The error type, from a fixed set.
        public var errorType = "error.type"

        /// Creates the names of the conventions.
        public init() {}
    }
}
