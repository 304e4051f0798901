// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// TLS, as users of a connection or a listener call it.

extension StreamConnection {
    /// The parameters of the TLS session; nil on a plain connection.
    public var tlsSession: TLSSession? { self.core.session }

    /// Connects and does the TLS handshake.
    ///
    /// - Parameters:
    ///   - endpoint: A host and port, or an address; the host is what the certificate must name.
    ///   - tls: A context of role `.client`; share one between connections, so that sessions are resumed.
    ///   - timeout: Covers the lookup, all attempts and the handshake.
    ///   - options: Settings of the socket.
    ///   - loop: The loop that is to watch it; nil takes one of the shared group.
    /// - Returns: The connection.
    /// - Throws: ``NetworkError`` whose kind and text name what is wrong with a certificate; no descriptor is left.
    public static func connect(
        to endpoint: Endpoint,
        tls: TLSContext,
        timeout: Duration = .seconds(10),
        options: SocketOptions = SocketOptions(),
        on loop: EventLoop? = nil
    ) async throws(NetworkError) -> StreamConnection {
        let deadline = MonotonicTime.now + timeout
        let connection = try await Self.connect(to: endpoint, timeout: timeout, options: options, on: loop)
        do throws(NetworkError) {
            try await connection.startTLS(tls, host: endpoint.host, timeout: deadline - .now)
        } catch {
            // In order, so that the peer gets the alert; not for a peer that is silent.
            if error.kind == .timedOut || error.kind == .cancelled {
                connection.abort()
            } else {
                connection.close()
            }
            throw error
        }
        return connection
    }

    /// Connects, does the TLS handshake, runs `body`, and closes: in order when it returns, at once when it throws.
    ///
    /// - Returns: The result of `body`.
    /// - Throws: ``NetworkError`` of connecting and of TLS, or what `body` throws.
    @discardableResult
    public static func withConnection<Result>(
        to endpoint: Endpoint,
        tls: TLSContext,
        timeout: Duration = .seconds(10),
        options: SocketOptions = SocketOptions(),
        on loop: EventLoop? = nil,
        _ body: (StreamConnection) async throws -> Result
    ) async throws -> Result {
        try await Self.connect(to: endpoint, tls: tls, timeout: timeout, options: options, on: loop).scoped(body)
    }

    /// Does the TLS handshake on a connection that stands; from then on everything goes through TLS.
    ///
    /// No other task may read or write meanwhile. A connection has TLS once.
    ///
    /// - Parameters:
    ///   - context: Its role tells which side this is.
    ///   - host: The name a client expects in the certificate; ``TLSConfiguration/serverName`` goes before it.
    ///   - timeout: How long the handshake may take.
    /// - Throws: ``NetworkError``. ``NetworkError/leavesConnectionUsable`` is true only when the handshake had not begun;
    ///   otherwise close the connection, which lets the peer have the alert.
    public func startTLS(
        _ context: TLSContext,
        host: String = "",
        timeout: Duration = .seconds(10)
    ) async throws(NetworkError) {
        guard !self.core.isSecured else {
            throw .tls("The connection has TLS already.", leavesConnectionUsable: true)
        }
        let deadline = MonotonicTime.now + timeout
        switch context.role {
        case .client: try await self.core.startTLS(TLSEngine(client: context, host: host), until: deadline)
        case .server: try await self.core.startTLS(TLSEngine(server: context), until: deadline)
        }
    }
}

extension Endpoint {
    /// The name a certificate must have.
    fileprivate var host: String {
        switch self {
        case .host(let host, _): host
        case .address(let address): address.numericHost ?? ""
        }
    }
}

extension StreamListener {
    /// Accepts connections, does the TLS handshake of each, and runs `handler`, until the listener is closed.
    ///
    /// A handshake that fails is told to `onError`. Otherwise as ``serve(on:onError:_:)``.
    ///
    /// - Parameters:
    ///   - tls: A context of role `.server`; ``TLSContext/reload()`` changes its certificate for later connections.
    ///   - executor: Where handlers run.
    ///   - handshakeTimeout: How long each handshake may take.
    ///   - onError: Is told what a handshake or a handler threw; other connections are not affected.
    ///   - handler: Serves one connection.
    /// - Throws: ``NetworkError`` when accepting itself fails, or the task was cancelled.
    public func serve(
        tls: TLSContext,
        on executor: HandlerExecutor = .inherited,
        handshakeTimeout: Duration = .seconds(10),
        onError: (@Sendable (any Error) -> Void)? = nil,
        _ handler: @escaping @Sendable (StreamConnection) async throws -> Void
    ) async throws(NetworkError) {
        try await self.serve(on: executor, onError: onError) { connection in
            do throws(NetworkError) {
                try await connection.startTLS(tls, timeout: handshakeTimeout)
            } catch {
                // In order, so that the peer gets the alert.
                connection.close()
                throw error
            }
            try await handler(connection)
        }
    }
}
