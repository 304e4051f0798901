// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
public import Logging

// AMQPClient: what most services want: it owns two connections, one to publish and one to consume, makes them when they
// are first needed and again whenever they are lost, declares the topology on each, and shuts all down in order.
// Not here: publishing (AMQPClient+Publish), consuming (AMQPClient+Consume), how a connection is kept (ConnectionLink).

/// Publishes and consumes over connections that are made again when they are lost.
///
/// ```swift
/// try await AMQPClient.withClient("amqp://localhost") { client in
///     try await client.withPublisher { try await $0.publish("hello", to: .queue("greetings")) }
/// }
/// ```
///
/// A client works while ``run()`` does: as a service of a group, in a child task, or inside of
/// `withClient`.
public final class AMQPClient: Sendable {
    private enum Phase: Sendable {
        case new
        case running
        /// No consumer or publisher is added; those there are finish before the deadline.
        case shuttingDown(by: MonotonicTime)
        case ended
    }

    /// What the client was made with.
    public let configuration: AMQPClientConfiguration
    /// What is declared on each connection.
    public let topology: AMQPTopology
    let publishing: ConnectionLink
    let consuming: ConnectionLink
    private let hub = Broadcast<AMQPClientEvent>(limit: AMQPClientEvents.limit)
    private let phase = Watched(Phase.new)
    /// Consumers and publishers in use, by identity.
    private let users = Watched<[ObjectIdentifier: any ClientUser]>([:])

    /// Makes a client; nothing is connected before ``run()``.
    ///
    /// - Parameters:
    ///   - configuration: Addresses, credentials, and how to recover.
    ///   - topology: Declared on each connection before it is used. Exclusive queues are declared on the connection that
    ///     consumes. What cannot be declared on the first connection ends ``run()`` with an error.
    ///   - logger: Where the client reports; nowhere by default.
    public convenience init(
        _ configuration: AMQPClientConfiguration,
        topology: AMQPTopology = AMQPTopology(),
        logger: Logger? = nil
    ) {
        self.init(configuration, topology: topology, logger: logger) { (configuration, logger) throws(AMQPError) in
            try await AMQPConnection.connect(configuration, logger: logger)
        }
    }

    /// A client that makes its connections with `connect`, which gets a configuration with one address.
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
        func link(_ role: AMQPConnectionRole) -> ConnectionLink {
            ConnectionLink(role, configuration, topology: topology, events: hub, logger: logger, login: login) {
                (address) throws(AMQPError) in
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
    ///   - configuration: Addresses, credentials, and how to recover.
    ///   - topology: Declared on each connection before it is used.
    ///   - logger: Where the client reports; nowhere by default.
    ///   - body: Gets the client.
    /// - Returns: What `body` returns.
    /// - Throws: What `body` throws; or ``AMQPError``, why no connection is made any more.
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
    ///   - logger: Where the client reports; nowhere by default.
    ///   - body: Gets the client.
    /// - Returns: What `body` returns.
    /// - Throws: What `body` throws; or ``AMQPError``, why no connection is made any more.
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

    /// Makes connections as they are needed, and again whenever they are lost, until the client is shut down.
    ///
    /// Cancelling the task shuts the client down too, and so does, with the trait `ServiceLifecycleSupport`, the graceful
    /// shutdown of the service group it runs in. A client runs once.
    ///
    /// - Throws: ``AMQPError``: the broker refused the credentials, the virtual host or, at the first connection, the
    ///   topology; or an option cannot be used; or, with recovery turned off, why there is no connection. Everything that
    ///   waits for the client throws the same. `.givenUp` after a shutdown when outboxes still held messages.
    public func run() async throws(AMQPError) {
        let isFirst = self.phase.change { phase in
            guard case .new = phase else { return false }
            phase = .running
            return true
        }
        guard isFirst else {
            // A shutdown that came first is no mistake.
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
        for user in self.users.withLock({ Array($0.values) }) { user.giveUp(reason) }
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

    /// Shuts the client down and waits until it is.
    ///
    /// Consumers end, what they were given is processed and settled, publishes are confirmed, connections closed, all
    /// within the policy's ``AMQPRecoveryPolicy/shutdownTimeout``; then the sockets are closed without a word.
    ///
    /// Called from a handler, or anywhere else within the scope of a consumer or publisher of this client, it begins
    /// the shutdown and returns: the scope it is called from is one of those it would wait for.
    public func shutdown() async {
        self.beginShutdown()
        guard !Self.inUse.contains(ObjectIdentifier(self)) else { return }
        _ = try? await self.phase.wait { phase in if case .ended = phase { true } else { nil } }
    }

    /// Begins a shutdown and does not wait for it; from any thread.
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

    /// Waits for a shutdown, and has everybody finish in order.
    private func stopWhenShutDown() async {
        let deadline: MonotonicTime
        do throws(AMQPError) {
            deadline = try await self.phase.wait { phase in
                if case .shuttingDown(let deadline) = phase { deadline } else { nil }
            }
        } catch {
            // The task of `run` was cancelled, and those of the links with it.
            return
        }
        self.publishing.shutdownBegins()
        await withTaskGroup(of: Void.self) { group in
            for user in self.users.withLock({ Array($0.values) }) { group.addTask { await user.endSoon(by: deadline) } }
            // Whoever uses a consumer or a publisher leaves its scope when it is done.
            _ = try? await self.users.wait(until: deadline) { $0.isEmpty ? true : nil }
            // Ends what a silent broker keeps waiting, too.
            self.publishing.stop(by: deadline)
            self.consuming.stop(by: deadline)
        }
    }

    // MARK: what is in use

    /// The clients of whose consumers and publishers the task is within a scope.
    @TaskLocal private static var inUse: Set<ObjectIdentifier> = []

    /// Runs the scope of a consumer or publisher.
    nonisolated(nonsending) func asUser<Result>(
        _ body: nonisolated(nonsending) () async throws -> Result
    ) async rethrows -> Result {
        try await Self.$inUse.withValue(Self.inUse.union([ObjectIdentifier(self)])) { try await body() }
    }

    /// Adds a consumer or publisher for the time it is in use.
    ///
    /// - Throws: When the client is being shut down.
    func add(_ user: any ClientUser) throws(AMQPError) {
        switch self.phase.withLock({ $0 }) {
        case .new, .running: self.users.change { $0[ObjectIdentifier(user)] = user }
        case .shuttingDown, .ended: throw (self.publishing.ending ?? ConnectionLink.shutDown).withSafeRetry
        }
    }

    func remove(_ user: any ClientUser) {
        self.users.change { _ = $0.removeValue(forKey: ObjectIdentifier(user)) }
    }

    // MARK: watching and calls on a connection

    /// What happens to the connections, from now on.
    public var events: AMQPClientEvents { AMQPClientEvents(self.hub) }

    /// Opens a channel on the present connection for consumers, runs `body` and closes the channel.
    ///
    /// It waits for a connection where there is none. The channel ends with its connection.
    ///
    /// - Parameter body: Gets the channel.
    /// - Returns: What `body` returns.
    /// - Throws: What `body` throws, or ``AMQPError``.
    @discardableResult
    public func withChannel<Result>(_ body: (AMQPChannel) async throws -> Result) async throws -> Result {
        let connection = try await self.consuming.connection(until: self.consuming.deadline(nil))
        return try await connection.withChannel(body)
    }

    /// The present connection of a role, for calls that only ``AMQPConnection`` has.
    ///
    /// - Parameters:
    ///   - role: Which one.
    ///   - timeout: Time to wait for one; the configuration's `operationTimeout` by default.
    /// - Returns: A connection that belongs to the client; it is not closed by the caller.
    /// - Throws: ``AMQPError``: `.timedOut` with the reason why there is none, `.cancelled`, or the client's end.
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
    /// The client is being shut down: end what would go on for ever.
    func endSoon(by deadline: MonotonicTime) async

    /// The client has ended: let go of what is still held.
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
            // Whoever waits for room while there is no broker is told at once.
            self.outbox?.recheck()
        }
    }
}
