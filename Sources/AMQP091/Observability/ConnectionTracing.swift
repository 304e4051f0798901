// SPDX-License-Identifier: Apache-2.0
#if TracingSupport
    import AMQP091Wire
    import EpollNetworking
    import Tracing

    // ConnectionTracing: the spans of one connection: names, attributes, and the propagation of the trace in the headers
    // of messages. Created at connecting if a tracer is bootstrapped; nil otherwise.
    // Any thread. Not here: begin and end of spans (OperationWatch, and the calls that use it).

    /// The common attributes of the spans of one connection.
    struct ConnectionTracing: Sendable {
        private let tracer: any Tracer
        private let options: AMQPTracingConfiguration
        private let clientID: String
        private let server: AMQPServerAddress?
        private let peer: SocketAddress?

        /// Nil if tracing is disabled or there is no tracer.
        init?(_ configuration: AMQPClientConfiguration, server: AMQPServerAddress?, peer: SocketAddress?) {
            let tracer = InstrumentationSystem.tracer
            guard configuration.tracing.isEnabled, !(tracer is NoOpTracer) else { return nil }
            self.tracer = tracer
            self.options = configuration.tracing
            self.clientID = configuration.connectionName
            self.server = server
            self.peer = peer
        }

        func start(_ operation: MessagingOperation, _ message: MessageFacts) -> any Span {
            let span: any Span
            let name = message.destination.spanName(operation, template: self.options.destinationTemplate)
            switch operation {
            case .publish: span = self.tracer.startSpan(name, ofKind: .producer)
            case .receive, .ack, .nack, .reject: span = self.tracer.startSpan(name, ofKind: .client)
            case .process:
                let current = ServiceContext.current ?? .topLevel
                switch self.options.correlation {
                case .parent:
                    let origin = self.origin(of: message, in: current)
                    span = self.tracer.startSpan(name, context: origin, ofKind: .consumer)
                case .link:
                    span = self.tracer.startSpan(name, context: current, ofKind: .consumer)
                    self.link(span, to: message)
                }
            }
            self.describe(span, operation, message)
            return span
        }

        /// The message of a `basic.get` is known only after its reply.
        func got(_ span: any Span, _ message: MessageFacts) {
            self.link(span, to: message)
            self.describe(span, .receive, message)
        }

        private func link(_ span: any Span, to message: MessageFacts) {
            let origin = self.origin(of: message, in: .topLevel)
            if !origin.isEmpty { span.addLink(SpanLink(context: origin, attributes: [:])) }
        }

        /// Extracts the context of a message from its headers.
        private func origin(of message: MessageFacts, in context: ServiceContext) -> ServiceContext {
            var origin = context
            if let headers = message.properties?.headers {
                self.tracer.extract(headers, into: &origin, using: HeaderExtractor())
            }
            return origin
        }

        /// Injects the context of the span into the message's headers.
        func inject(_ span: any Span, into properties: inout BasicProperties) {
            var headers = properties.headers ?? FieldTable()
            self.tracer.inject(span.context, into: &headers, using: HeaderInjector())
            if !headers.isEmpty { properties.headers = headers }
        }

        func fail(_ span: any Span, _ error: any Error) {
            let kind = (error as? AMQPError)?.kind ?? "\(type(of: error))"
            span.attributes[self.options.attributeNames.errorType] = kind
            span.recordError(error)
            span.setStatus(SpanStatus(code: .error))
        }

        private func describe(_ span: any Span, _ operation: MessagingOperation, _ message: MessageFacts) {
            let names = self.options.attributeNames
            let destination = message.destination
            span.updateAttributes { attributes in
                attributes[names.system] = "rabbitmq"
                attributes[names.operationName] = operation.name
                attributes[names.operationType] = operation.type
                attributes[names.destinationName] = destination.name
                if let template = self.options.destinationTemplate {
                    attributes[names.destinationTemplate] = template
                }
                if destination.isAnonymous {
                    attributes[names.destinationAnonymous] = true
                    attributes[names.destinationTemporary] = true
                }
                if !destination.routingKey.isEmpty { attributes[names.routingKey] = destination.routingKey }
                if let tag = message.deliveryTag { attributes[names.deliveryTag] = Int64(clamping: tag) }
                if let count = message.batchCount { attributes[names.batchMessageCount] = count }
                if let id = message.properties?.messageID { attributes[names.messageID] = id }
                if let id = message.properties?.correlationID { attributes[names.conversationID] = id }
                if self.options.recordsBodySize, let size = message.bodySize { attributes[names.bodySize] = size }
                if !self.clientID.isEmpty { attributes[names.clientID] = self.clientID }
                if let server = self.server {
                    attributes[names.serverAddress] = server.unixPath ?? server.host
                    if server.unixPath == nil { attributes[names.serverPort] = Int(server.port) }
                }
                // The consumer's own context is not propagated.
                guard operation != .process, let peer = self.peer, let host = peer.numericHost else { return }
                attributes[names.peerAddress] = host
                if let port = peer.port { attributes[names.peerPort] = Int(port) }
            }
        }
    }

    /// Injects a tracer's values into the headers of a message.
    struct HeaderInjector: Injector {
        func inject(_ value: String, forKey key: String, into headers: inout FieldTable) {
            headers[key] = .string(value)
        }
    }

    /// Extracts a tracer's values from the headers of a message.
    struct HeaderExtractor: Extractor {
        func extract(key: String, from headers: FieldTable) -> String? { headers[key]?.stringValue }
    }
#endif
