// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
public import Logging

// AMQPClient: the client for most services: it owns two connections, one to publish and one to consume, connects when they
// are first needed, reconnects when they are lost, declares the topology on each, and shuts down in order.
// Not here: publishing (AMQPClient+Publish), consuming (AMQPClient+Consume), reconnecting (ConnectionLink).

/// A client that reconnects automatically and keeps publishing and consuming.
///
/// ```swift
/// try await AMQPClient.withClient("amqp://localhost") { client in
///     try await client.withPublisher { try await $0.publish("hello", to: .queue("greetings")) }
/// }
/// ```
///
/// The client is active only while ``run()`` is executing: as a service of a group, in a child task, or inside
/// `withClient`.
public final class AMQPClient: Sendable {
    private enum Phase: Sendable {
        case new
        case running
        /// No consumer or publisher is added; existing ones finish before the deadline.
        case shuttingDown(by: MonotonicTime)
        case ended
    }

    /// The client's configuration.
    public let configuration: AMQPClientConfiguration
    /// The topology that is declared on each connection.
    public let topology: AMQPTopology
    let publishing: ConnectionLink
    let consuming: ConnectionLink
    private let hub = Broadcast<AMQPClientEvent>(limit: AMQPClientEvents.limit)
    private let phase = ObservedValue(Phase.new)
    /// Consumers and publishers in use, by identity.
    private let users = ObservedValue(OrderedObjects<any ClientUser>())

    /// Creates a client; it connects only in ``run()``.
    ///
    /// - Parameters:
    ///   - configuration: Addresses, credentials and the recovery policy.
    ///   - topology: Declared on each connection before it is used. Exclusive queues are declared on the connection that
    ///     consumes. A failure on the first connection ends ``run()`` with an error.
    ///   - logger: The logger; none by default.
    public convenience init(
        _ configuration: AMQPClientConfiguration,
        topology: AMQPTopology = AMQPTopology(),
        logger: Logger? = nil
    ) {
        self.init(configuration, topology: topology, logger: logger) { (configuration, logger) throws(AMQPError) in
            try await AMQPConnection.connect(configuration, logger: logger)
        }
    }

    /// Creates a client that connects with `connect`, which receives a configuration with one address.
    package init(
        _ configuration: AMQPClientConfiguration,
        topology: AMQPTopology = AMQPTopology(),
        logger: Logger? = nil,
        connect: @escaping @Sendable (AMQPClientConfiguration, Logger) async throws(AMQPError) -> AMQPConnection
    ) {
        self.configuration = configuration
        self.topology = topology
        let logger = logger ?? Logger(label: "amqp091", factory: { _ in SwiftLogNoOpLogHandler() })
        let hub = self.hub
        let login = LoginMemory()
        let stalled = StalledNodes()
        func link(_ role: AMQPConnectionRole) -> ConnectionLink {
            ConnectionLink(
                role,
                configuration,
                topology: topology,
                events: hub,
                logger: logger,
                login: login,
                stalled: stalled
            ) { (address) throws(AMQPError) in
                var configuration = configuration
                configuration.addresses = [address]
                return try await connect(configuration, logger)
            }
        }
        self.publishing = link(.publishing)
        self.consuming = link(.consuming)
    }

    /// Runs a client while `body` runs, and shuts it down in order when it returns or throws.
    ///
    /// - Parameters:
    ///   - configuration: Addresses, credentials and the recovery policy.
    ///   - topology: Declared on each connection before it is used.
    ///   - logger: The logger; none by default.
    ///   - body: Receives the client.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`; or ``AMQPError``: the reason why the client does not reconnect.
    @discardableResult
    public static func withClient<Result>(
        _ configuration: AMQPClientConfiguration,
        topology: AMQPTopology = AMQPTopology(),
        logger: Logger? = nil,
        _ body: (AMQPClient) async throws -> Result
    ) async throws -> Result {
        try await AMQPClient(configuration, topology: topology, logger: logger).runWhile(body)
    }

    /// Runs a client while `body` runs, and shuts it down in order when it returns or throws.
    ///
    /// - Parameters:
    ///   - uri: `amqp://user:password@host:port/vhost`.
    ///   - topology: Declared on each connection before it is used.
    ///   - logger: The logger; none by default.
    ///   - body: Receives the client.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`; or ``AMQPError``: the reason why the client does not reconnect.
    @discardableResult
    public static func withClient<Result>(
        _ uri: String,
        topology: AMQPTopology = AMQPTopology(),
        logger: Logger? = nil,
        _ body: (AMQPClient) async throws -> Result
    ) async throws -> Result {
        try await Self.withClient(AMQPClientConfiguration(uri: uri), topology: topology, logger: logger, body)
    }

    /// Runs this client while `body` runs.
    package func runWhile<Result>(_ body: (AMQPClient) async throws -> Result) async throws -> Result {
        async let running: Void = self.run()
        let result: Result
        do {
            result = try await body(self)
        } catch {
            await self.shutDownShielded()
            throw error
        }
        await self.shutDownShielded()
        try await running
        return result
    }

    // MARK: its life

    /// Connects on demand and reconnects after each loss, until the client is shut down.
    ///
    /// Cancelling the task shuts the client down, and so does, with the trait `ServiceLifecycleSupport`, the graceful
    /// shutdown of its service group. A client runs once.
    ///
    /// - Throws: ``AMQPError``: the broker refused the credentials, the virtual host or, at the first connection, the
    ///   topology; or an option is invalid; or, without recovery, the reason of the first failure. All calls that
    ///   wait for the client throw the same. `.givenUp` after a shutdown if outboxes still held messages.
    public func run() async throws(AMQPError) {
        let isFirst = self.phase.change { phase in
            guard case .new = phase else { return false }
            phase = .running
            return true
        }
        guard isFirst else {
            // A shutdown before run() is not an error.
            if case .running = self.phase.withLock({ $0 }) {
                throw AMQPError(.invalidConfiguration, "the client is running already", isSafeToRetry: true)
            }
            return
        }
        let failure = await whenGracefullyShutDown {
            self.beginShutdown()
        } during: {
            await self.runLinks()
        }
        let reason = failure ?? ConnectionLink.shutDown
        self.publishing.shutdownBegins()
        for user in self.users.withLock({ $0.elements }) { user.giveUp(reason) }
        self.phase.change { $0 = .ended }
        self.hub.finish()
        if let failure { throw failure }
        let count = self.publishing.givenUp
        guard count > 0 else { return }
        throw AMQPError(
            .givenUp,
            "the outboxes held \(count) \(count == 1 ? "message" : "messages") at the end, which the broker has not confirmed"
        )
    }

    private func runLinks() async -> AMQPError? {
        await withTaskGroup(of: AMQPError?.self) { group in
            for link in [self.publishing, self.consuming] {
                group.addTask {
                    do throws(AMQPError) {
                        try await link.run()
                        return nil
                    } catch {
                        return error
                    }
                }
            }
            group.addTask {
                await self.stopWhenShutDown()
                return nil
            }
            var failure: AMQPError?
            while let ended = await group.next() {
                guard let ended, failure == nil else { continue }
                failure = ended
                for link in [self.publishing, self.consuming] { link.clientFails(ended) }
                self.beginShutdown()
            }
            return failure
        }
    }

    /// Shuts the client down and waits for its end.
    ///
    /// Consumers end, their deliveries are processed and settled, publishes are confirmed and connections closed, all
    /// within ``AMQPRecoveryPolicy/shutdownTimeout``; then the sockets are closed without a close handshake.
    ///
    /// Called within the scope of a consumer or publisher of this client, such as in a handler, it begins the shutdown
    /// and returns, because it would wait for its own scope.
    public func shutdown() async {
        self.beginShutdown()
        guard !Self.inUse.contains(ObjectIdentifier(self)) else { return }
        _ = try? await self.phase.wait { phase in if case .ended = phase { true } else { nil } }
    }

    /// Begins a shutdown without waiting for it; any thread.
    public func beginShutdown() {
        self.phase.change { phase in
            switch phase {
            case .new: phase = .ended
            case .running:
                phase = .shuttingDown(by: MonotonicTime.now.advanced(by: self.configuration.recovery.shutdownTimeout))
            case .shuttingDown, .ended: break
            }
        }
    }

    private func shutDownShielded() async { await Task { await self.shutdown() }.value }

    /// Waits for a shutdown, and lets all users finish in order.
    private func stopWhenShutDown() async {
        let deadline: MonotonicTime
        do throws(AMQPError) {
            deadline = try await self.phase.wait { phase in
                if case .shuttingDown(let deadline) = phase { deadline } else { nil }
            }
        } catch {
            // The task of `run` was cancelled, and the tasks of the links with it.
            return
        }
        self.publishing.shutdownBegins()
        await withTaskGroup(of: Void.self) { group in
            for user in self.users.withLock({ $0.elements }) { group.addTask { await user.endSoon(by: deadline) } }
            // The user of a consumer or publisher leaves its scope when it is done.
            _ = try? await self.users.wait(until: deadline) { $0.isEmpty ? true : nil }
            // Also ends calls that wait for a silent broker.
            self.publishing.stop(by: deadline)
            self.consuming.stop(by: deadline)
        }
    }

    // MARK: what is in use

    /// The clients within whose consumer or publisher scopes the task runs.
    @TaskLocal private static var inUse: Set<ObjectIdentifier> = []

    /// Runs the scope of a consumer or publisher.
    nonisolated(nonsending) func asUser<Result>(
        _ body: nonisolated(nonsending) () async throws -> Result
    ) async rethrows -> Result {
        try await Self.$inUse.withValue(Self.inUse.union([ObjectIdentifier(self)])) { try await body() }
    }

    /// Registers a consumer or publisher while it is in use.
    ///
    /// - Throws: An error if the client is being shut down.
    func add(_ user: any ClientUser) throws(AMQPError) {
        switch self.phase.withLock({ $0 }) {
        case .new, .running: self.users.change { $0.add(user) }
        case .shuttingDown, .ended: throw (self.publishing.ending ?? ConnectionLink.shutDown).withSafeRetry
        }
    }

    func remove(_ user: any ClientUser) {
        self.users.change { $0.remove(user) }
    }

    // MARK: watching and calls on a connection

    /// Events of the connections from now on.
    public var events: AMQPClientEvents { AMQPClientEvents(self.hub) }

    /// Opens a channel on the current consuming connection, runs `body` and closes the channel.
    ///
    /// Waits for a connection if there is none. The channel ends with its connection.
    ///
    /// - Parameter body: Receives the channel.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`, or ``AMQPError``.
    @discardableResult
    public func withChannel<Result>(_ body: (AMQPChannel) async throws -> Result) async throws -> Result {
        let connection = try await self.consuming.connection(until: self.consuming.deadline(nil))
        return try await connection.withChannel(body)
    }

    /// Returns the current connection of a role, for calls that only ``AMQPConnection`` has.
    ///
    /// - Parameters:
    ///   - role: The role of the connection.
    ///   - timeout: Time to wait for a connection; the configuration's `operationTimeout` by default.
    /// - Returns: A connection owned by the client; the caller must not close it.
    /// - Throws: ``AMQPError``: `.timedOut` with the reason, `.cancelled`, or the client's end.
    public func connection(
        _ role: AMQPConnectionRole,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> AMQPConnection {
        let link = role == .publishing ? self.publishing : self.consuming
        return try await link.connection(until: link.deadline(timeout))
    }
}

/// A consumer or publisher that a shutdown waits for.
protocol ClientUser: AnyObject, Sendable {
    /// The client is being shut down: end unbounded work.
    func endSoon(by deadline: MonotonicTime) async

    /// The client has ended: release everything.
    func giveUp(_ reason: AMQPError)
}

extension RecoveringConsumer: ClientUser {
    func endSoon(by deadline: MonotonicTime) async { await self.stop() }

    func giveUp(_ reason: AMQPError) {}
}

extension RecoveringPublisher: ClientUser {

    /// A scope goes on to publish what it has, and waits for the confirms at its end.
    func endSoon(by deadline: MonotonicTime) async {
        if self.closesWithClient {
            try? await self.close(until: deadline)
        } else {
            // Fail publishers that wait for room while there is no broker at once.
            self.outbox?.recheck()
        }
    }
}
