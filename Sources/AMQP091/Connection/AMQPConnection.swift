// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
public import AMQP091Wire
import EpollConcurrency
package import EpollNetworking
public import Logging

// AMQPConnection: the public interface of one connection to one broker.
// Not here: the socket and the frames (ConnectionSession), channels (AMQPChannel).

/// A connection to a broker.
///
/// Releasing the last reference closes it at once, without `connection.close`. A publisher holds a reference;
/// channels, deliveries and RPC clients do not.
public final class AMQPConnection: Sendable {
    let driver: ConnectionSession

    init(driver: ConnectionSession) { self.driver = driver }

    deinit {
        self.driver.abandon()
    }

    /// Connects, runs `body` and closes the connection in order, even if `body` throws.
    ///
    /// - Parameters:
    ///   - uri: `amqp://user:password@host:port/vhost`.
    ///   - logger: The logger; none by default.
    ///   - body: Receives the connection.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`, or ``AMQPError``.
    @discardableResult
    public static func withConnection<Result>(
        _ uri: String,
        logger: Logger? = nil,
        _ body: (AMQPConnection) async throws -> Result
    ) async throws -> Result {
        try await Self.withConnection(AMQPClientConfiguration(uri: uri), logger: logger, body)
    }

    /// Connects, runs `body` and closes the connection in order, even if `body` throws.
    ///
    /// - Parameters:
    ///   - configuration: The configuration.
    ///   - logger: The logger; none by default.
    ///   - body: Receives the connection.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`, or ``AMQPError``.
    @discardableResult
    public static func withConnection<Result>(
        _ configuration: AMQPClientConfiguration,
        logger: Logger? = nil,
        _ body: (AMQPConnection) async throws -> Result
    ) async throws -> Result {
        let connection = try await Self.connect(configuration, logger: logger)
        let result: Result
        do {
            result = try await body(connection)
        } catch {
            await connection.closeShielded()
            throw error
        }
        await connection.closeShielded()
        return result
    }

    /// Connects to the first of the configuration's addresses that finishes the login.
    ///
    /// The next address is tried in parallel if one has not answered within the recovery policy's `attemptDelay`, and at
    /// once after a failure or a refused login; addresses that failed in the last minute are tried last. One
    /// `connectTimeout` bounds all attempts.
    ///
    /// - Parameters:
    ///   - configuration: The configuration.
    ///   - logger: The logger; none by default.
    /// - Returns: An open connection; the caller closes it.
    /// - Throws: ``AMQPError``: `.invalidConfiguration`, `.connectFailed`, `.authenticationFailed`,
    ///   `.virtualHostRefused`, `.timedOut`, `.protocolViolation` or `.cancelled`; nothing is left open.
    public static func connect(
        _ configuration: AMQPClientConfiguration,
        logger: Logger? = nil
    ) async throws(AMQPError) -> AMQPConnection {
        try await Dialer(configuration, logger: logger).connect()
    }

    /// Logs in over a connected socket; the configuration's addresses are ignored.
    ///
    /// Takes ownership of the socket, even if it throws.
    package static func connect(
        over socket: StreamSocket,
        _ configuration: AMQPClientConfiguration,
        logger: Logger? = nil
    ) async throws(AMQPError) -> AMQPConnection {
        let loop = EventLoopGroup.shared.next()
        let deadline = MonotonicTime.now.advanced(by: configuration.connectTimeout)
        var configuration = configuration
        do throws(AMQPError) {
            try configuration.validate()
            configuration.authentication = try await CredentialRefresher.resolved(
                configuration.authentication,
                until: deadline,
                on: loop
            )
        } catch {
            socket.close()
            throw error
        }
        let driver = try await ConnectionSession.login(
            over: socket,
            named: "socket \(socket.descriptor)",
            configuration,
            loop: loop,
            deadline: deadline,
            logger: logger ?? Logger(label: "amqp091", factory: { _ in SwiftLogNoOpLogHandler() })
        )
        return AMQPConnection(driver: driver)
    }

    /// Opens a channel: `channel.open` (20, 10).
    ///
    /// - Parameter timeout: Time to wait; the configuration's `operationTimeout` by default.
    /// - Returns: An open channel; the caller closes it.
    /// - Throws: ``AMQPError``: `.noFreeChannel` and nothing was sent; `.timedOut`, `.cancelled`, `.connectionClosed`.
    public func openChannel(timeout: Duration? = nil) async throws(AMQPError) -> AMQPChannel {
        AMQPChannel(core: try await self.driver.openChannel(timeout: timeout))
    }

    /// Opens a channel, runs `body` and closes the channel, even if `body` throws.
    ///
    /// - Parameter body: Receives the channel.
    /// - Returns: The result of `body`.
    /// - Throws: The error of `body`, or ``AMQPError``.
    @discardableResult
    public func withChannel<Result>(_ body: (AMQPChannel) async throws -> Result) async throws -> Result {
        let channel = try await self.openChannel()
        let result: Result
        do {
            result = try await body(channel)
        } catch {
            await channel.core.closeShielded()
            throw error
        }
        await channel.core.closeShielded()
        return result
    }

    /// The server properties from `connection.start`: `product`, `version`, `capabilities` and more.
    public var serverProperties: FieldTable { self.driver.serverProperties }

    /// True until either side closes the connection or the link is lost.
    public var isOpen: Bool { self.driver.state.withLock { $0.isOpen } }

    /// The broker's reason while it blocks publishers, such as a memory or disk alarm; nil otherwise.
    public var blockedReason: String? { self.driver.state.withLock { $0.blockedReason } }

    /// The executor of the connection's thread, for tasks that need the lowest latency.
    ///
    /// A task that prefers it runs on the thread that serves the socket: code that blocks there blocks the connection.
    public var taskExecutor: any TaskExecutor { self.driver.loop }

    /// Closes the connection in order: `connection.close` (10, 50), and waits for `connection.close-ok`.
    ///
    /// The socket is closed after the timeout, too. Closing a closed connection does nothing.
    ///
    /// - Parameter timeout: Time to wait for the broker, 10 s by default.
    /// - Throws: ``AMQPError`` with code `.timedOut` if the broker did not answer; the connection is closed in any
    ///   case.
    public func close(timeout: Duration = .seconds(10)) async throws(AMQPError) {
        try await self.driver.close(timeout: timeout)
    }

    /// Waits until the connection has ended for any reason.
    ///
    /// - Returns: The reason: code `.connectionClosed` after a close by either side or the loss of the link.
    /// - Throws: ``AMQPError`` with code `.cancelled`; the connection stays open.
    public func waitUntilClosed() async throws(AMQPError) -> AMQPError {
        try await self.driver.ending.wait { $0 }
    }

    /// Closes the socket immediately, skipping the close handshake.
    public func abort() {
        self.driver.abort()
    }

    /// Closes in order even if the calling task is cancelled; the socket is closed in any case.
    private func closeShielded() async {
        await Task { try? await self.close() }.value
    }
}
