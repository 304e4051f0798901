// SPDX-License-Identifier: Apache-2.0

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

    /// The address of the other end; nil when the connection is gone.
    public var peerAddress: SocketAddress? { self.core.address(\.peerAddress) }

    /// The address of this end; nil when the connection is gone.
    public var localAddress: SocketAddress? { self.core.address(\.localAddress) }

    /// Who made the other end of a Unix socket; nil for TCP, or when the connection is gone.
    public var peerCredentials: PeerCredentials? {
        self.core.flow.withLock { $0.isDescriptorClosed ? nil : self.core.socket.peerCredentials }
    }

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

    /// Connects, runs `body`, and closes: in order when it returns, at once when it throws.
    ///
    /// - Parameters:
    ///   - endpoint: A host and port, or an address.
    ///   - timeout: Covers the lookup and all attempts, not `body`.
    ///   - options: Settings of the socket.
    ///   - loop: The loop that is to watch it; nil takes one of the shared group.
    ///   - body: Uses the connection.
    /// - Returns: What `body` returns.
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
    /// - Returns: What `body` returns.
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
        do {
            let result = try await body(self)
            self.close()
            return result
        } catch {
            self.abort()
            throw error
        }
    }

    // MARK: ending

    /// Says that nothing more will be written; the peer reads the end of the stream, this side can go on reading.
    ///
    /// Waits for writes that began before. Finishing again does nothing.
    ///
    /// - Parameter timeout: How long to wait; nil takes ``SocketOptions/writeTimeout``.
    /// - Throws: ``NetworkError`` when the connection is gone, or the wait ended.
    public func finish(timeout: Duration? = nil) async throws(NetworkError) {
        try await self.core.finish(timeout: timeout)
    }

    /// Closes both directions; the kernel still delivers what was written.
    ///
    /// Calls that wait end with an error of kind `.closed`. Unread octets turn the close into a reset, as TCP demands:
    /// read to the end first where the peer must get everything.
    public func close() { self.core.close() }

    /// Ends the connection at once and drops what was not sent; the peer sees a reset.
    public func abort() { self.core.end(.reset) }
}
