// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollNetworking

#if TracingSupport
    import Tracing
#endif

// OperationWatch: one operation seen from outside: a span, a clock, or nothing. Made by Observation, which every
// connection has, and which watches nothing where neither a tracer nor a metrics system is set up: calls look at
// `isTracing` or `isWatching`, a stored Bool, and go their ordinary way.

/// Who watches a connection.
struct Observation: Sendable {
    #if TracingSupport
        private let tracing: ConnectionTracing?
    #endif
    let metrics: ConnectionMetrics?
    /// Whether operations have spans.
    let isTracing: Bool
    /// Whether operations have spans or are timed.
    let isWatching: Bool

    /// In the task that connects: the systems of a task go before those of the process.
    init(_ configuration: AMQPClientConfiguration, server: AMQPServerAddress?, socket: StreamSocket) {
        #if MetricsSupport
            self.metrics = MetricsInstruments.current(for: server).map { ConnectionMetrics($0) }
        #else
            self.metrics = nil
        #endif
        #if TracingSupport
            self.tracing = ConnectionTracing(configuration, server: server, peer: socket.peerAddress)
            self.isTracing = self.tracing != nil
        #else
            self.isTracing = false
        #endif
        self.isWatching = self.isTracing || self.metrics != nil
    }

    /// An operation begins.
    func start(_ operation: MessagingOperation, _ facts: MessageFacts) -> OperationWatch {
        var watch = OperationWatch(operation: operation, observation: self)
        #if TracingSupport
            watch.span = self.tracing?.start(operation, facts)
        #endif
        #if MetricsSupport
            watch.beginning = self.metrics == nil ? nil : ContinuousClock.now
        #endif
        return watch
    }

    #if TracingSupport
        fileprivate func inject(_ span: any Span, into properties: inout BasicProperties) {
            self.tracing?.inject(span, into: &properties)
        }

        fileprivate func got(_ span: any Span, _ facts: MessageFacts) { self.tracing?.got(span, facts) }

        fileprivate func fail(_ span: any Span, _ error: any Error) { self.tracing?.fail(span, error) }
    #endif
}

/// What is known of the message an operation is about.
struct MessageFacts {
    var destination: MessagingDestination
    var properties: BasicProperties?
    var bodySize: Int?
    var deliveryTag: UInt64?
    var batchCount: Int?

    init(
        _ destination: MessagingDestination,
        properties: BasicProperties? = nil,
        bodySize: Int? = nil,
        deliveryTag: UInt64? = nil,
        batchCount: Int? = nil
    ) {
        self.destination = destination
        self.properties = properties
        self.bodySize = bodySize
        self.deliveryTag = deliveryTag
        self.batchCount = batchCount
    }
}

/// One operation, from its beginning to its end.
struct OperationWatch {
    let operation: MessagingOperation
    let observation: Observation
    #if TracingSupport
        var span: (any Span)?
    #endif
    #if MetricsSupport
        var beginning: ContinuousClock.Instant?
    #endif

    /// Sends the trace along with a message.
    func inject(into properties: inout BasicProperties) {
        #if TracingSupport
            if let span { self.observation.inject(span, into: &properties) }
        #endif
    }

    /// What was asked for has come, and tells what it is.
    func got(_ facts: MessageFacts) {
        #if TracingSupport
            if let span { self.observation.got(span, facts) }
        #endif
    }

    /// Runs what belongs to the operation: spans that begin in it are the children of this one.
    nonisolated(nonsending) func run<Result>(
        _ body: nonisolated(nonsending) () async throws -> Result
    ) async throws -> Result {
        #if TracingSupport
            if let span {
                return try await ServiceContext.$current.withValue(span.context, operation: body)
            }
        #endif
        return try await body()
    }

    /// It is over.
    ///
    /// - Parameters:
    ///   - error: Why it failed; nil when it did not.
    ///   - isTimed: Whether it waited for something, so that its duration says something.
    func end(_ error: (any Error)? = nil, isTimed: Bool = true) {
        #if TracingSupport
            if let span {
                if let error { self.observation.fail(span, error) }
                span.end()
            }
        #endif
        #if MetricsSupport
            if isTimed, let beginning, let metrics = self.observation.metrics {
                let kind = error.map { ($0 as? AMQPError)?.kind ?? "\(type(of: $0))" }
                metrics.instruments.record(self.operation, beginning.duration(to: .now), error: kind)
            }
        #endif
    }
}
