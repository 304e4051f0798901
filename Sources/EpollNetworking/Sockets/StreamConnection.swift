// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// StreamConnection: what users hold of a connection. One type for TCP and Unix sockets, because after connecting
// nothing differs. Thin: ConnectionCore does the work; this ends it when the last reference goes.

/// A TCP connection; see ``StreamConnection``.
public typealias TCPConnection = StreamConnection

/// A connection over a Unix socket; see ``StreamConnection``.
public typealias UnixConnection = StreamConnection

/// A connected stream socket: TCP or Unix.
///
/// One task may read while others write. Calls run on the caller's thread and suspend only while there is nothing to
/// read or no room to write; there is no buffer in between, so both directions have back-pressure. Every wait ends
/// with its task's cancellation, at its timeout, or with the connection. A task that prefers ``eventLoop`` as its
/// executor is woken without a change of threads.
public final class StreamConnection: Sendable {
    let core: ConnectionCore

    init(_ core: ConnectionCore) { self.core = core }

    deinit { self.core.close() }

    /// The loop that watches the socket.
    public var eventLoop: EventLoop { self.core.loop }

    /// The address of the other end; nil when this side has closed the connection.
    public var peerAddress: SocketAddress? { self.core.inspect { $0.peerAddress } }

    /// The address of this end; nil when this side has closed the connection.
    public var localAddress: SocketAddress? { self.core.inspect { $0.localAddress } }

    /// Who made the other end of a Unix socket; nil for TCP, or when the connection is gone.
    public var peerCredentials: PeerCredentials? { self.core.inspect { $0.peerCredentials } }

    // MARK: connecting

    /// Connects.
    ///
    /// - Parameters:
    ///   - endpoint: A host and port, or an address.
    ///   - timeout: Covers the lookup and all attempts.
    ///   - options: Settings of the socket.
    ///   - loop: The loop that is to watch it; nil takes one of the shared group.
    /// - Returns: The connection; it is closed when the last reference goes, at the latest.
    /// - Throws: ``NetworkError``; no descriptor is left.
    public static func connect(
        to endpoint: Endpoint,
        timeout: Duration = .seconds(10),
        options: SocketOptions = SocketOptions(),
        on loop: EventLoop? = nil
    ) async throws(NetworkError) -> StreamConnection {
        let loop = loop ?? EventLoopGroup.shared.next()
        let deadline = MonotonicTime.now + timeout
        let socket: StreamSocket
        switch endpoint {
        case .host(let host, let port):
            socket = try await Connector.connect(
                host: host,
                port: port,
                deadline: deadline,
                on: loop,
                options: options
            )
        case .address(let address):
            socket = try await Connector.connect(to: address, deadline: deadline, on: loop, options: options)
        }
        return StreamConnection(socket, on: loop, name: endpoint.description, options: options)
    }

    /// Connects to an address, such as that of a listener or `.unix(path:)`.
    ///
    /// - Throws: ``NetworkError``; no descriptor is left.
    public static func connect(
        to address: SocketAddress,
        timeout: Duration = .seconds(10),
        options: SocketOptions = SocketOptions(),
        on loop: EventLoop? = nil
    ) async throws(NetworkError) -> StreamConnection {
        try await Self.connect(to: .address(address), timeout: timeout, options: options, on: loop)
    }

    convenience init(_ socket: StreamSocket, on loop: EventLoop, name: String, options: SocketOptions) {
        self.init(ConnectionCore(socket, on: loop, name: name, options: options))
        self.core.start()
    }

    /// Connects, runs `body`, and closes: in order when it returns, as ``closeAndFlush()``; with a reset when it throws.
    ///
    /// - Parameters:
    ///   - endpoint: A host and port, or an address.
    ///   - timeout: Covers the lookup and all attempts, not `body`.
    ///   - options: Settings of the socket.
    ///   - loop: The loop that is to watch it; nil takes one of the shared group.
    ///   - body: Uses the connection.
    /// - Returns: The result of `body`.
    /// - Throws: ``NetworkError`` of connecting, or what `body` throws.
    @discardableResult
    public static func withConnection<Result>(
        to endpoint: Endpoint,
        timeout: Duration = .seconds(10),
        options: SocketOptions = SocketOptions(),
        on loop: EventLoop? = nil,
        _ body: (StreamConnection) async throws -> Result
    ) async throws -> Result {
        let connection = try await Self.connect(to: endpoint, timeout: timeout, options: options, on: loop)
        return try await connection.scoped(body)
    }

    /// Connects to an address, runs `body`, and closes: in order when it returns, at once when it throws.
    ///
    /// - Returns: The result of `body`.
    /// - Throws: ``NetworkError`` of connecting, or what `body` throws.
    @discardableResult
    public static func withConnection<Result>(
        to address: SocketAddress,
        timeout: Duration = .seconds(10),
        options: SocketOptions = SocketOptions(),
        on loop: EventLoop? = nil,
        _ body: (StreamConnection) async throws -> Result
    ) async throws -> Result {
        try await Self.withConnection(to: .address(address), timeout: timeout, options: options, on: loop, body)
    }

    func scoped<Result>(_ body: (StreamConnection) async throws -> Result) async throws -> Result {
        let result: Result
        do {
            result = try await body(self)
        } catch {
            self.bodyThrew()
            throw error
        }
        try await self.core.closeInOrder()
        return result
    }

    /// Resets the connection; a body that has closed it itself has chosen how.
    func bodyThrew() {
        if self.core.flow.withLock({ $0.ending == .open }) { self.abort() }
    }

    // MARK: ending

    /// Says that nothing more will be written; the peer reads the end of the stream, this side can go on reading.
    ///
    /// Waits for writes that began before. Finishing again does nothing, and neither does it after a write that was given
    /// up in the middle: that has ended the writing half already.
    ///
    /// - Parameters:
    ///   - timeout: How long to wait without progress; nil takes ``SocketOptions/writeTimeout``.
    ///   - total: How long the call may take in all; nil is without limit.
    /// - Throws: ``NetworkError`` when the connection is gone, or the wait ended.
    public func finish(timeout: Duration? = nil, within total: Duration? = nil) async throws(NetworkError) {
        try await self.core.finish(self.core.limit(timeout, total))
    }

    /// Closes both directions in order, without waiting; what was written is still delivered.
    ///
    /// Calls that wait end with an error of kind `.closed`. The loop sends what is left, ends the writing half, and
    /// discards what the peer still sends, because unread octets would turn the end into a reset that destroys what is on
    /// its way. The descriptor is closed when the peer has ended too, or after ``SocketOptions/lingerTime``. A process that
    /// exits meanwhile, and a loop that is shut down, cut this short: use ``closeAndFlush()`` before.
    public func close() { self.core.close() }

    /// Closes both directions in order, and waits until the peer's system has everything that was written.
    ///
    /// As ``close()`` otherwise. Whether the peer's program has read it, only its answer can tell.
    ///
    /// - Throws: ``NetworkError``: `.reset` when the peer cut the end off, `.timedOut` when it did not take everything within
    ///   ``SocketOptions/lingerTime``, `.cancelled` with the task. The connection is closed in every case.
    public func closeAndFlush() async throws(NetworkError) { try await self.core.closeInOrder() }

    /// Ends the connection at once and drops what was not sent; the peer sees a reset.
    ///
    /// A Unix socket knows no reset: the peer reads what was written, and then an end, or a reset if this side had not read
    /// everything.
    public func abort() { self.core.end(.reset) }
}
