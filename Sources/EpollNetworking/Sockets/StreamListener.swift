// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import CEpoll
import Glibc
import SystemPackage

// StreamListener: sockets that others connect to. Like reading, accepting happens on the caller's thread; the loop only
// tells that somebody knocked. Serving connections is StreamListener+Serve.

/// A TCP listener; see ``StreamListener``.
public typealias TCPListener = StreamListener

/// A listener on a Unix socket; see ``StreamListener``.
public typealias UnixListener = StreamListener

/// A socket that accepts connections: TCP or Unix.
public final class StreamListener: Sendable {
    /// Where it listens, with the port the kernel chose.
    public let localAddress: SocketAddress

    let acceptors: [Acceptor]
    let options: ListenerOptions
    let group: EventLoopGroup
    let gate: ConnectionGate
    /// Connections that `accept()` took from one socket while another had given it one already.
    private let surplus = Locked<[StreamSocketOnLoop]>([])
    private let file: UnixSocketFile?

    // MARK: listening

    /// Listens.
    ///
    /// A Unix socket's file that no process listens on any more is replaced; one in use is left alone.
    ///
    /// - Parameters:
    ///   - endpoint: A host and port (the first of the host's addresses), or an address. Port 0 lets the kernel choose.
    ///   - options: Settings of the listener.
    /// - Returns: The listener; it is closed when the last reference goes, at the latest.
    /// - Throws: ``NetworkError``; no descriptor is left.
    public static func listen(
        on endpoint: Endpoint,
        options: ListenerOptions = ListenerOptions()
    ) async throws(NetworkError) -> StreamListener {
        switch endpoint {
        case .address(let address): return try StreamListener(address, options)
        case .host(let host, let port):
            let addresses = try await HostResolver.resolve(host: host, port: port, deadline: .now + .seconds(10))
            return try StreamListener(addresses[0], options)
        }
    }

    /// Listens on an address, such as `.unix(path:)`.
    ///
    /// - Throws: ``NetworkError``; no descriptor is left.
    public static func listen(
        on address: SocketAddress,
        options: ListenerOptions = ListenerOptions()
    ) async throws(NetworkError) -> StreamListener {
        try StreamListener(address, options)
    }

    /// Listens, runs `body`, and closes the listener.
    ///
    /// - Returns: The result of `body`.
    /// - Throws: ``NetworkError`` of listening, or what `body` throws.
    @discardableResult
    public static func withListener<Result>(
        on endpoint: Endpoint,
        options: ListenerOptions = ListenerOptions(),
        _ body: (StreamListener) async throws -> Result
    ) async throws -> Result {
        let listener = try await Self.listen(on: endpoint, options: options)
        defer { listener.close() }
        return try await body(listener)
    }

    /// Listens on an address, runs `body`, and closes the listener.
    ///
    /// - Returns: The result of `body`.
    /// - Throws: ``NetworkError`` of listening, or what `body` throws.
    @discardableResult
    public static func withListener<Result>(
        on address: SocketAddress,
        options: ListenerOptions = ListenerOptions(),
        _ body: (StreamListener) async throws -> Result
    ) async throws -> Result {
        try await Self.withListener(on: .address(address), options: options, body)
    }

    init(
        _ address: SocketAddress,
        _ options: ListenerOptions,
        accept call: @escaping Acceptor.Call = { (socket) throws(SystemError) in try socket.accept() }
    ) throws(NetworkError) {
        let group = options.group ?? .shared
        // A listener on a loop that has ended would take connections and serve none.
        guard group.first.core.startFailure != nil || group.first.execute({}) else { throw .loopEnded }
        do throws(SystemError) {
            if let failure = group.first.core.startFailure { throw failure }
            let first = try Self.bind(address, options)
            let local = first.localAddress ?? address
            var acceptors = [try Acceptor(first, on: group.next(), call)]
            if options.reusePort, local.port != nil {
                for _ in 1..<max(1, group.count) {
                    acceptors.append(try Acceptor(Self.bind(local, options), on: group.next(), call))
                }
            }
            self.localAddress = local
            self.acceptors = acceptors
        } catch {
            throw NetworkError(listening: address, error)
        }
        self.options = options
        self.group = group
        self.gate = ConnectionGate(limit: options.maximumConnections)
        if case .unix(let path) = address { self.file = UnixSocketFile(path: path) } else { self.file = nil }
    }

    deinit { self.close() }

    private static func bind(_ address: SocketAddress, _ options: ListenerOptions) throws(SystemError)
        -> ListeningSocket
    {
        var path: String?
        if case .unix(let name) = address { path = name }
        // Until it listens, a socket of another server looks like one that was left behind.
        let lock = path.map { UnixSocketFile.Lock(beside: $0) }
        defer { lock?.release() }
        func attempt() throws(SystemError) -> ListeningSocket {
            try ListeningSocket(
                address,
                backlog: options.backlog,
                reusePort: options.reusePort
            ) { (socket) throws(SystemError) in
                // Inherited by the sockets that are accepted: nothing is left to set on each of them.
                try options.connection.apply(to: socket, family: address)
                if let path, let permissions = options.permissions {
                    try SystemCall.checking("chmod") { chmod(path, permissions) < 0 ? -Glibc.errno : 0 }
                }
            }
        }
        do throws(SystemError) {
            return try attempt()
        } catch {
            guard error.errno == .addressInUse, let path, lock?.isHeld == true, UnixSocketFile.removeStale(path: path)
            else { throw error }
            return try attempt()
        }
    }

    // MARK: accepting

    /// Waits for a connection.
    ///
    /// Use either this or ``serve(on:onError:_:)``; one task at a time.
    ///
    /// - Parameter timeout: How long to wait; nil waits until somebody connects.
    /// - Returns: The connection, or nil when the listener was closed.
    /// - Throws: ``NetworkError``. After `.timedOut` and `.cancelled` accepting can go on.
    public func accept(timeout: Duration? = nil) async throws(NetworkError) -> StreamConnection? {
        let deadline = timeout.map { .now + $0 } ?? .distantFuture
        if self.acceptors.count == 1 { return try await self.accept(from: self.acceptors[0], until: deadline) }
        if let next = self.surplus.withLock({ $0.popLast() }) { return self.connection(next) }
        let first = await withTaskGroup(of: Result<StreamSocketOnLoop?, NetworkError>.self) { group in
            for acceptor in self.acceptors {
                group.addTask {
                    do throws(NetworkError) {
                        let socket = try await acceptor.accept(until: deadline)
                        return .success(socket.map { StreamSocketOnLoop(socket: $0, loop: acceptor.core.loop) })
                    } catch { return .failure(error) }
                }
            }
            var first: Result<StreamSocketOnLoop?, NetworkError>?
            for await result in group {
                group.cancelAll()
                guard case .success(let socket?) = result else {
                    if first == nil { first = result }
                    continue
                }
                if case .success(.some) = first {
                    // For the next call; when the listener is closed it goes with it.
                    self.surplus.withLock { $0.append(socket) }
                } else {
                    first = result
                }
            }
            return first
        }
        return try first?.get().map { self.connection($0) }
    }

    private func connection(_ accepted: StreamSocketOnLoop) -> StreamConnection {
        StreamConnection(accepted.socket, on: accepted.loop, name: "", options: self.options.connection)
    }

    func accept(
        from acceptor: Acceptor,
        until deadline: MonotonicTime = .distantFuture,
        onShortage: ((NetworkError) -> Void)? = nil
    ) async throws(NetworkError) -> StreamConnection? {
        guard let socket = try await acceptor.accept(until: deadline, onShortage: onShortage) else { return nil }
        let loop = self.acceptors.count > 1 ? acceptor.core.loop : self.group.next()
        return StreamConnection(socket, on: loop, name: "", options: self.options.connection)
    }

    /// Whether no connection can be accepted for now, because the process has no descriptors left.
    public var isExhausted: Bool { self.acceptors.contains { $0.isExhausted } }

    /// Peers that were closed at once because descriptors had run out for more than a second.
    public var turnedAwayCount: Int { self.acceptors.reduce(0) { $0 + $1.turnedAway } }

    /// Accepts no more; what waits in the backlog is refused.
    ///
    /// Connections that were accepted go on; ``serve(on:onError:_:)`` returns when they have ended. A Unix socket's file
    /// is removed.
    public func close() { self.close(until: .distantFuture) }

    private func close(until graceEnd: MonotonicTime) {
        for acceptor in self.acceptors { acceptor.close() }
        self.gate.close(until: graceEnd)
        self.surplus.withLock { $0 = [] }
        self.file?.remove()
    }

    /// Accepts no more, and cancels the handlers of ``serve(on:onError:_:)`` that have not ended in time.
    ///
    /// Also after ``close()``, and again with a shorter time.
    ///
    /// - Parameter grace: How long handlers may go on.
    public func shutdown(within grace: Duration) { self.close(until: .now + grace) }
}

/// An accepted socket and the loop that is to watch it.
private struct StreamSocketOnLoop: Sendable {
    let socket: StreamSocket
    let loop: EventLoop
}

extension NetworkError {
    fileprivate init(listening address: SocketAddress, _ error: SystemError) {
        let text =
            switch error.errno {
            case .addressInUse: "\(address) is in use: another process listens there."
            case .permissionDenied, .notPermitted: "\(address) may not be used by this process."
            case .addressNotAvailable: "\(address) is not an address of this host."
            case .noSuchFileOrDirectory: "\(address) is in a directory that does not exist."
            case .fileNameTooLong: "\(address) is too long for a Unix socket: 107 octets at most."
            case .invalidArgument where address == .unix(path: ""): "A Unix socket needs a path."
            case .tooManyOpenFiles, .tooManyOpenFilesInSystem:
                "No descriptor is left to listen on \(address): raise the limit (ulimit -n)."
            default: "\(address) cannot be listened on."
            }
        self.init(kind: .other, underlying: error, text: text)
    }
}
