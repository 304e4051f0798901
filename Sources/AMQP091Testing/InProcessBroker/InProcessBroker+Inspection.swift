// SPDX-License-Identifier: Apache-2.0
public import AMQP091
import EpollNetworking

// Looking inside a broker, and waiting until something is so. Values are of one moment.

extension InProcessBroker {
    /// A queue at one moment.
    public struct QueueInfo: Hashable, Sendable {
        /// Its name.
        public let name: String
        /// Its virtual host.
        public let virtualHost: String
        /// Messages nobody holds.
        public let ready: Int
        /// Messages that consumers hold.
        public let unacknowledged: Int
        /// Its consumers.
        public let consumers: Int
        /// Whether it was declared durable.
        public let isDurable: Bool
        /// Whether it belongs to one connection.
        public let isExclusive: Bool
        /// Whether it goes with its last consumer.
        public let isAutoDelete: Bool
        /// The arguments it was declared with.
        public let arguments: FieldTable
    }

    /// A binding at one moment.
    public struct BindingInfo: Hashable, Sendable {
        /// The exchange messages are published to.
        public let source: String
        /// The queue or exchange they reach.
        public let destination: String
        /// Whether the destination is a queue.
        public let isToQueue: Bool
        /// The key or pattern.
        public let routingKey: String
        /// What a headers exchange compares.
        public let arguments: FieldTable
    }

    /// A connection at one moment.
    public struct ConnectionInfo: Hashable, Sendable {
        /// Counted from 1 in the order they came.
        public let number: Int
        /// Who logged in; empty before the login.
        public let user: String
        /// The name the client gave itself; empty for none.
        public let name: String
        /// Channels open.
        public let channels: Int
        /// Whether an alarm holds it back.
        public let isBlocked: Bool
    }

    /// A condition that did not come true in time.
    public struct TimedOut: Error, Hashable, Sendable, CustomStringConvertible {
        /// What was waited for, and what was there instead.
        public let description: String
    }

    /// How many messages of a queue nobody holds; nil when there is no such queue.
    public func depth(of queue: String, virtualHost: String = "/") async -> Int? {
        await self.queue(queue, virtualHost: virtualHost)?.ready
    }

    /// A queue; nil when there is none of this name.
    public func queue(_ name: String, virtualHost: String = "/") async -> QueueInfo? {
        await self.onLoop { core in core.virtualHosts[virtualHost]?.queues[name].map { QueueInfo($0) } } ?? nil
    }

    /// All queues, by name.
    public func queues(virtualHost: String = "/") async -> [QueueInfo] {
        await self.onLoop { core in
            (core.virtualHosts[virtualHost]?.queues.values.map { QueueInfo($0) } ?? []).sorted { $0.name < $1.name }
        } ?? []
    }

    /// The names of all exchanges, the predeclared ones among them.
    public func exchanges(virtualHost: String = "/") async -> [String] {
        await self.onLoop { core in (core.virtualHosts[virtualHost]?.exchanges.keys.sorted()) ?? [] } ?? []
    }

    /// The bindings from an exchange, in the order they were made.
    public func bindings(from exchange: String, virtualHost: String = "/") async -> [BindingInfo] {
        await self.onLoop { core in
            (core.virtualHosts[virtualHost]?.exchanges[exchange]?.bindings ?? []).map {
                BindingInfo($0, source: exchange)
            }
        } ?? []
    }

    /// All connections, in the order they came.
    public func connections() async -> [ConnectionInfo] {
        await self.onLoop { core in
            core.connections.values.map { ConnectionInfo($0) }.sorted { $0.number < $1.number }
        } ?? []
    }

    /// Waits until a queue has so many messages that nobody holds.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - count: How many.
    ///   - virtualHost: Its virtual host.
    ///   - timeout: How long at most.
    /// - Throws: ``TimedOut`` that says what was there instead; `CancellationError`.
    public func waitUntil(
        depthOf queue: String,
        is count: Int,
        virtualHost: String = "/",
        timeout: Duration = .seconds(10)
    ) async throws {
        let holds = try await self.wait(timeout: timeout) { core in
            core.virtualHosts[virtualHost]?.queues[queue]?.ready.count == count
        }
        guard !holds else { return }
        let depth = await self.depth(of: queue, virtualHost: virtualHost)
        throw TimedOut(
            description: "queue '\(queue)' has \(depth.map { "\($0) messages" } ?? "not been declared"), "
                + "not \(count), after \(timeout)"
        )
    }

    /// Waits until a condition on a queue holds; nil stands for a queue that is not there.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - virtualHost: Its virtual host.
    ///   - timeout: How long at most.
    ///   - condition: Runs on the broker's thread, whenever something has happened; it must not block.
    /// - Throws: ``TimedOut`` that says what was there instead; `CancellationError`.
    public func waitUntil(
        queue: String,
        virtualHost: String = "/",
        timeout: Duration = .seconds(10),
        _ condition: @escaping @Sendable (QueueInfo?) -> Bool
    ) async throws {
        let holds = try await self.wait(timeout: timeout) { core in
            condition(core.virtualHosts[virtualHost]?.queues[queue].map { QueueInfo($0) })
        }
        guard !holds else { return }
        let found = await self.queue(queue, virtualHost: virtualHost)
        let text = found.map { "\($0)" } ?? "missing"
        throw TimedOut(description: "queue '\(queue)' is not as expected after \(timeout): \(text)")
    }

    /// Waits until every connection has ended.
    ///
    /// - Parameter timeout: How long at most.
    /// - Throws: ``TimedOut``; `CancellationError`.
    package func waitUntilNobodyIsConnected(timeout: Duration = .seconds(10)) async throws {
        guard try await !self.wait(timeout: timeout, { $0.connections.isEmpty }) else { return }
        throw TimedOut(description: "after \(timeout) there are \(await self.connections())")
    }

    private func wait(timeout: Duration, _ condition: @escaping @Sendable (BrokerCore) -> Bool) async throws -> Bool {
        let core = self.core
        let loop = self.loop
        let token = Locked<(token: UInt64?, isCancelled: Bool)>((nil, false))
        let holds = await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Bool, Never>) in
                let isAccepted = loop.execute {
                    guard !token.withLock({ $0.isCancelled }) else { return continuation.resume(returning: false) }
                    let number = core.wait(until: MonotonicTime.now + timeout, for: { condition(core) }) {
                        continuation.resume(returning: $0)
                    }
                    token.withLock { $0.token = number }
                }
                if !isAccepted { continuation.resume(returning: false) }
            }
        } onCancel: {
            token.withLock { $0.isCancelled = true }
            loop.execute {
                if let number = token.withLock({ $0.token }) { core.endWait(number, false) }
            }
        }
        try Task.checkCancellation()
        return holds
    }
}

extension InProcessBroker.QueueInfo {
    init(_ queue: BrokerQueue) {
        self.init(
            name: queue.name,
            virtualHost: queue.host.name,
            ready: queue.ready.count,
            unacknowledged: queue.unacknowledged,
            consumers: queue.consumerCount,
            isDurable: queue.isDurable,
            isExclusive: queue.isExclusive,
            isAutoDelete: queue.isAutoDelete,
            arguments: queue.arguments
        )
    }
}

extension InProcessBroker.BindingInfo {
    init(_ binding: BrokerExchange.Binding, source: String) {
        let destination: String
        let isToQueue: Bool
        switch binding.destination {
        case .queue(let queue): (destination, isToQueue) = (queue.name, true)
        case .exchange(let exchange): (destination, isToQueue) = (exchange.name, false)
        }
        self.init(
            source: source,
            destination: destination,
            isToQueue: isToQueue,
            routingKey: binding.routingKey,
            arguments: binding.arguments
        )
    }
}

extension InProcessBroker.ConnectionInfo {
    init(_ connection: BrokerConnection) {
        self.init(
            number: connection.number,
            user: connection.user,
            name: connection.clientProperties["connection_name"]?.stringValue ?? "",
            channels: connection.channels.count,
            isBlocked: connection.isBlocked
        )
    }
}
