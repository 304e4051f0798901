// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollNetworking

#if TracingSupport
    import Tracing
#endif

// OperationWatch: the observation of one operation: a span, a timer, or nothing. Created by Observation, which every
// connection has. Without a tracer and a metrics system calls check `isTracing` or `isWatching`, a stored Bool, and
// nothing else.

/// The tracing and metrics of a connection.
struct Observation: Sendable {
    #if TracingSupport
        private let tracing: ConnectionTracing?
    #endif
    let metrics: ConnectionMetrics?
    /// True if operations have spans.
    let isTracing: Bool
    /// True if operations have spans or are timed.
    let isWatching: Bool

    /// Created in the connecting task: task-local systems take precedence over those of the process.
    init(_ configuration: AMQPClientConfiguration, server: AMQPServerAddress?, socket: StreamSocket?) {
        #if MetricsSupport
            self.metrics = MetricsInstruments.current(for: server).map { ConnectionMetrics($0) }
        #else
            self.metrics = nil
        #endif
        #if TracingSupport
            self.tracing = ConnectionTracing(configuration, server: server, peer: socket?.peerAddress)
            self.isTracing = self.tracing != nil
        #else
            self.isTracing = false
        #endif
        self.isWatching = self.isTracing || self.metrics != nil
    }

    /// Begins an operation.
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

/// Data of the message of an operation.
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

/// One observed operation.
struct OperationWatch {
    let operation: MessagingOperation
    let observation: Observation
    #if TracingSupport
        var span: (any Span)?
    #endif
    #if MetricsSupport
        var beginning: ContinuousClock.Instant?
    #endif

    /// Injects the trace into a message.
    func inject(into properties: inout BasicProperties) {
        #if TracingSupport
            if let span { self.observation.inject(span, into: &properties) }
        #endif
    }

    /// Adds the data of a received message.
    func got(_ facts: MessageFacts) {
        #if TracingSupport
            if let span { self.observation.got(span, facts) }
        #endif
    }

    /// Runs `body` in the operation's context: its spans are children of this one.
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

    /// Ends the operation.
    ///
    /// - Parameters:
    ///   - error: The error; nil if it succeeded.
    ///   - isTimed: True if it waited, so that its duration is meaningful.
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
