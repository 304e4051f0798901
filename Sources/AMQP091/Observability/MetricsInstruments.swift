// SPDX-License-Identifier: Apache-2.0
#if MetricsSupport
    import EpollConcurrency
    import EpollNetworking
    import Metrics

    // MetricsInstruments: the counters, meters and timers of one broker address, created once and never destroyed: a
    // backend such as Prometheus drops destroyed instruments, and two connections to one broker share their instruments.
    // Names: OpenTelemetry's messaging conventions 1.44, and those of RabbitMQ's Java client.
    // Any thread. Not here: counting (ConnectionMetrics, OperationWatch).

    /// The instruments of one broker address.
    final class MetricsInstruments: Sendable {
        let sent: Counter
        let processed: Counter
        let received: Counter

        let published: Counter
        let failedToPublish: Counter
        let confirmed: Counter
        let nacked: Counter
        let unrouted: Counter
        let consumed: Counter
        let acknowledged: Counter
        let rejected: Counter
        let requeued: Counter
        let recoveries: Counter
        let octetsSent: Counter
        let octetsReceived: Counter

        let connections: Meter
        let channels: Meter
        let unconfirmed: Meter
        let blocked: Meter

        private let factory: any MetricsFactory
        private let address: [(String, String)]
        /// Timers by operation and error type.
        private let timers = Locked<[TimerKey: Metrics.Timer]>([:])

        private struct TimerKey: Hashable {
            let operation: MessagingOperation
            let error: String?
        }

        private init(factory: any MetricsFactory, server: AMQPServerAddress?) {
            var address: [(String, String)] = []
            if let server {
                address.append(("server.address", server.unixPath ?? server.host))
                if server.unixPath == nil { address.append(("server.port", String(server.port))) }
            }
            self.factory = factory
            self.address = address
            func messages(_ label: String, _ operation: MessagingOperation) -> Counter {
                Counter(label: label, dimensions: Self.dimensions(operation) + address, factory: factory)
            }
            func counter(_ label: String) -> Counter { Counter(label: label, dimensions: address, factory: factory) }
            func meter(_ label: String) -> Meter { Meter(label: label, dimensions: address, factory: factory) }
            self.sent = messages("messaging.client.sent.messages", .publish)
            self.processed = messages("messaging.client.consumed.messages", .process)
            self.received = messages("messaging.client.consumed.messages", .receive)
            self.published = counter("rabbitmq.published")
            self.failedToPublish = counter("rabbitmq.failed_to_publish")
            self.confirmed = counter("rabbitmq.acknowledged_published")
            self.nacked = counter("rabbitmq.not_acknowledged_published")
            self.unrouted = counter("rabbitmq.unrouted_published")
            self.consumed = counter("rabbitmq.consumed")
            self.acknowledged = counter("rabbitmq.acknowledged")
            self.rejected = counter("rabbitmq.rejected")
            self.requeued = counter("rabbitmq.requeued")
            self.recoveries = counter("rabbitmq.recoveries")
            self.octetsSent = counter("rabbitmq.bytes_sent")
            self.octetsReceived = counter("rabbitmq.bytes_received")
            self.connections = meter("rabbitmq.connections")
            self.channels = meter("rabbitmq.channels")
            self.unconfirmed = meter("rabbitmq.unconfirmed")
            self.blocked = meter("rabbitmq.blocked")
        }

        private static func dimensions(_ operation: MessagingOperation) -> [(String, String)] {
            [("messaging.system", "rabbitmq"), ("messaging.operation.name", operation.name)]
        }

        /// Records the duration of an operation.
        func record(_ operation: MessagingOperation, _ duration: Duration, error: String?) {
            let key = TimerKey(operation: operation, error: error)
            let timer = self.timers.withLock { timers in
                if let timer = timers[key] { return timer }
                var dimensions = Self.dimensions(operation) + self.address
                let isProcess = operation == .process
                if !isProcess { dimensions.append(("messaging.operation.type", operation.type)) }
                if let error { dimensions.append(("error.type", error)) }
                let timer = Metrics.Timer(
                    label: isProcess ? "messaging.process.duration" : "messaging.client.operation.duration",
                    dimensions: dimensions,
                    factory: self.factory
                )
                timers[key] = timer
                return timer
            }
            timer.record(duration: duration)
        }

        // MARK: one set for each factory and address

        private struct Key: Hashable {
            let factory: ObjectIdentifier
            /// The factory's identity: a reference, or the fields of a struct.
            let value: [UInt8]
            let server: AMQPServerAddress?
        }

        private static let shared = Locked<[Key: MetricsInstruments]>([:])
        /// Maximum number of shared sets; further ones are not shared.
        private static let limit = 1024

        /// Returns the instruments of this address in the metrics system of the calling task; nil if there is none.
        static func current(for server: AMQPServerAddress?) -> MetricsInstruments? {
            let factory = MetricsSystem.factory
            guard !(factory is NOOPMetricsHandler) else { return nil }
            let key = Self.key(factory, server)
            return Self.shared.withLock { shared in
                if let instruments = shared[key] { return instruments }
                let instruments = MetricsInstruments(factory: factory, server: server)
                if shared.count < Self.limit { shared[key] = instruments }
                return instruments
            }
        }

        // The instruments retain their factory, so that its address is not reused.
        private static func key(_ factory: some MetricsFactory, _ server: AMQPServerAddress?) -> Key {
            let value = withUnsafeBytes(of: factory) { Array($0) }
            return Key(factory: ObjectIdentifier(type(of: factory)), value: value, server: server)
        }
    }
#endif
