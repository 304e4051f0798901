// SPDX-License-Identifier: Apache-2.0
public import AMQP091
import EpollConcurrency
import EpollNetworking

// Inspection of a broker, and waiting for conditions. Values are snapshots.

extension InProcessBroker {
    /// A snapshot of a queue.
    public struct QueueInfo: Hashable, Sendable {
        /// Its name.
        public let name: String
        /// Its virtual host.
        public let virtualHost: String
        /// Number of ready messages.
        public let ready: Int
        /// Number of unacknowledged messages.
        public let unacknowledged: Int
        /// Number of consumers.
        public let consumers: Int
        /// True if it was declared durable.
        public let isDurable: Bool
        /// True if it is exclusive to one connection.
        public let isExclusive: Bool
        /// True if it is deleted with its last consumer.
        public let isAutoDelete: Bool
        /// The arguments it was declared with.
        public let arguments: FieldTable
    }

    /// A snapshot of a binding.
    public struct BindingInfo: Hashable, Sendable {
        /// The source exchange.
        public let source: String
        /// The destination queue or exchange.
        public let destination: String
        /// True if the destination is a queue.
        public let isToQueue: Bool
        /// The routing key or pattern.
        public let routingKey: String
        /// The arguments, which a headers exchange compares.
        public let arguments: FieldTable
    }

    /// A snapshot of a connection.
    public struct ConnectionInfo: Hashable, Sendable {
        /// Its number, counted from 1 in order of connecting.
        public let number: Int
        /// The user name; empty before the login.
        public let user: String
        /// The client's connection name; empty for none.
        public let name: String
        /// Number of open channels.
        public let channels: Int
        /// True if an alarm blocks it.
        public let isBlocked: Bool
    }

    /// A condition that did not hold in time.
    public struct TimedOut: Error, Hashable, Sendable, CustomStringConvertible {
        /// The expected and the actual state.
        public let description: String
    }

    /// Returns the number of ready messages of a queue; nil if there is no such queue.
    public func depth(of queue: String, virtualHost: String = "/") async -> Int? {
        await self.queue(queue, virtualHost: virtualHost)?.ready
    }

    /// Returns a queue; nil if there is none of this name.
    public func queue(_ name: String, virtualHost: String = "/") async -> QueueInfo? {
        await self.onLoop { core in core.virtualHosts[virtualHost]?.queues[name].map { QueueInfo($0) } } ?? nil
    }

    /// Returns all queues, ordered by name.
    public func queues(virtualHost: String = "/") async -> [QueueInfo] {
        await self.onLoop { core in
            (core.virtualHosts[virtualHost]?.queues.values.map { QueueInfo($0) } ?? []).sorted { $0.name < $1.name }
        } ?? []
    }

    /// Returns the names of all exchanges, including predeclared ones.
    public func exchanges(virtualHost: String = "/") async -> [String] {
        await self.onLoop { core in (core.virtualHosts[virtualHost]?.exchanges.keys.sorted()) ?? [] } ?? []
    }

    /// Returns the bindings from an exchange, in order of creation.
    public func bindings(from exchange: String, virtualHost: String = "/") async -> [BindingInfo] {
        await self.onLoop { core in
            (core.virtualHosts[virtualHost]?.exchanges[exchange]?.bindings ?? []).map {
                BindingInfo($0, source: exchange)
            }
        } ?? []
    }

    /// Returns all connections, in order of connecting.
    public func connections() async -> [ConnectionInfo] {
        await self.onLoop { core in
            core.connections.values.map { ConnectionInfo($0) }.sorted { $0.number < $1.number }
        } ?? []
    }

    /// Waits until a queue has this number of ready messages.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - count: The expected number.
    ///   - virtualHost: Its virtual host.
    ///   - timeout: The longest wait.
    /// - Throws: ``TimedOut`` with the actual state; `CancellationError`.
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

    /// Waits until a condition on a queue holds; nil stands for a missing queue.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - virtualHost: Its virtual host.
    ///   - timeout: The longest wait.
    ///   - condition: The condition; runs on the broker's thread after each change and must not block.
    /// - Throws: ``TimedOut`` with the actual state; `CancellationError`.
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
    /// - Parameter timeout: The longest wait.
    /// - Throws: ``TimedOut``; `CancellationError`.
    package func waitUntilNobodyIsConnected(timeout: Duration = .seconds(10)) async throws {
        guard try await !self.wait(timeout: timeout, { $0.connections.isEmpty }) else { return }
        throw TimedOut(description: "after \(timeout) there are \(await self.connections())")
    }

    private func wait(timeout: Duration, _ condition: @escaping @Sendable (BrokerCore) -> Bool) async throws -> Bool {
        let core = self.core
        let loop = self.loop
        let token = Locked<(token: UInt64?, isCancelled: Bool)>((nil, false))
        let holds = await withCancellableSuspension(
            onCancel: {
                token.withLock { $0.isCancelled = true }
                loop.execute {
                    if let number = token.withLock({ $0.token }) { core.endWait(number, false) }
                }
            },
            { (waiter: Suspension<Bool>) in
                let isAccepted = loop.execute {
                    guard !token.withLock({ $0.isCancelled }) else { return waiter.resume(returning: false) }
                    let number = core.wait(until: MonotonicTime.now + timeout, for: { condition(core) }) {
                        waiter.resume(returning: $0)
                    }
                    token.withLock { $0.token = number }
                }
                if !isAccepted { waiter.resume(returning: false) }
            }
        )
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
