// SPDX-License-Identifier: Apache-2.0
package import EpollConcurrency
import CEpoll
import Glibc

// HostResolver: host names to addresses with getaddrinfo(3), which blocks and cannot be interrupted; so it runs on
// threads of its own, a bounded number, and a caller whose time is over leaves the thread to finish alone.
// Addresses written as numbers and localhost need no thread. Lookups of one name at one time are one lookup. It keeps no
// cache: that is the system's business.

package enum HostResolver {
    /// The addresses of a host, in the system's order of preference (RFC 6724), each once.
    ///
    /// - Parameters:
    ///   - host: A name or a numeric address.
    ///   - port: Put into every address.
    ///   - deadline: When to give up with `.timedOut`.
    ///   - loop: Whose timer keeps the deadline.
    /// - Returns: At least one address.
    /// - Throws: `NetworkError` of kind `.resolve`, `.timedOut` or `.cancelled`.
    package static func resolve(
        host: String,
        port: UInt16,
        deadline: MonotonicTime,
        on loop: EventLoop = EventLoopGroup.shared.next()
    ) async throws(NetworkError) -> [SocketAddress] {
        let target = "\(host):\(port)"
        guard Self.mayBeHost(host) else {
            throw NetworkError(kind: .resolve, text: "\(target) names no host.")
        }
        if case .success(let addresses) = Self.lookUp(host: host, port: port, isNumeric: true) { return addresses }
        if let addresses = Self.loopback(named: host, port: port) { return addresses }
        if Task.isCancelled { throw .cancelled(target) }

        let outcome = NetworkOutcome<[SocketAddress]>()
        let late = NetworkError(
            kind: .timedOut,
            text: "The name service did not give an address for \(target) in time."
        )
        let timer = OutcomeDeadline(outcome, at: deadline, on: loop, result: .failure(late))
        timer.start()
        defer { timer.stop() }
        Self.pool.submit(Request(host: host, port: port, outcome: outcome))
        return try await outcome.value(cancelled: .cancelled(target))
    }

    /// Whether the name service can be asked at all.
    ///
    /// A zero would end the C string early: another name would be looked up than was asked for. Blanks and control
    /// characters are in no name, and no name is longer than 255 octets (RFC 1035 §2.3.4).
    private static func mayBeHost(_ host: String) -> Bool {
        1...255 ~= host.utf8.count && host.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F }
    }

    /// How many names may be looked up at once; more wait their turn, each under its own deadline.
    ///
    /// A dead name keeps its thread for as long as the resolver tries, often 10 s; so many dead ones at once are needed to
    /// hold up others.
    static let threadLimit = 64

    /// The addresses of `localhost` and the names below it, which no name server is asked for (RFC 6761 §6.3); nil for
    /// another name.
    static func loopback(named host: String, port: UInt16) -> [SocketAddress]? {
        let name = host.lowercased()
        let label = name.hasSuffix(".") ? name.dropLast() : name[...]
        guard label == "localhost" || label.hasSuffix(".localhost") else { return nil }
        // The IPv6 loopback where this machine has one: the order of the system's own answer (RFC 6724).
        return (Self.hasIPv6Loopback ? [.loopbackV6(port: port)] : []) + [.loopback(port: port)]
    }

    private static let hasIPv6Loopback: Bool = {
        do throws(SystemError) {
            _ = try ListeningSocket(.loopbackV6(port: 0))
            return true
        } catch { return false }
    }()

    private static let pool = ResolverPool(limit: Self.threadLimit) { request in
        Self.lookUp(host: request.host, port: request.port, isNumeric: false)
    }

    struct Request: Sendable {
        let host: String
        let port: UInt16
        let outcome: NetworkOutcome<[SocketAddress]>
    }

    private static func lookUp(
        host: String,
        port: UInt16,
        isNumeric: Bool
    ) -> Result<[SocketAddress], NetworkError> {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_NUMERICSERV | (isNumeric ? AI_NUMERICHOST : 0)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, String(port), &hints, &list)
        defer { if let list { freeaddrinfo(list) } }
        if code != 0 {
            let reason = gai_strerror(code).map { String(cString: $0) } ?? "error \(code)"
            return .failure(
                NetworkError(kind: .resolve, text: "\(host):\(port) cannot be looked up: \(reason). Is the name right?")
            )
        }
        var addresses: [SocketAddress] = []
        var next = list
        while let entry = next {
            if let sockaddr = entry.pointee.ai_addr {
                let octets = UnsafeRawBufferPointer(start: sockaddr, count: Int(entry.pointee.ai_addrlen))
                if let address = SocketAddress(sockaddr: octets), !addresses.contains(address) {
                    addresses.append(address)
                }
            }
            next = entry.pointee.ai_next
        }
        if addresses.isEmpty {
            return .failure(NetworkError(kind: .resolve, text: "\(host):\(port) has no IPv4 or IPv6 address."))
        }
        return .success(addresses)
    }
}

/// Threads that start when there are requests and end when there are none.
final class ResolverPool: Sendable {
    typealias Request = HostResolver.Request

    /// The name and port to resolve.
    fileprivate struct Key: Hashable {
        let host: String
        let port: UInt16
    }

    fileprivate struct State {
        /// In the order they came, those under way first.
        var requests: [Key: [Request]] = [:]
        var waiting: [Key] = []
        var threads = 0
    }

    private let limit: Int
    private let lookUp: @Sendable (Request) -> Result<[SocketAddress], NetworkError>
    private let state = Locked(State())

    init(limit: Int, lookUp: @escaping @Sendable (Request) -> Result<[SocketAddress], NetworkError>) {
        self.limit = limit
        self.lookUp = lookUp
    }

    func submit(_ request: Request) {
        let startsThread = self.state.withLock { state -> Bool in
            state.forgetDecided()
            let key = Key(host: request.host, port: request.port)
            let isAsked = state.requests[key] != nil
            state.requests[key, default: []].append(request)
            if isAsked { return false }
            state.waiting.append(key)
            if state.threads >= self.limit { return false }
            state.threads += 1
            return true
        }
        guard startsThread else { return }
        do throws(SystemError) {
            try LoopThread.start { self.work() }
        } catch {
            self.threadFailed(error)
        }
    }

    private func work() {
        while let request = self.next() {
            let key = Key(host: request.host, port: request.port)
            let result = self.lookUp(request)
            let requests = self.state.withLock { $0.requests.removeValue(forKey: key) ?? [] }
            for request in requests { request.outcome.decide(result) }
        }
    }

    private func next() -> Request? {
        self.state.withLock { state -> Request? in
            state.forgetDecided()
            while !state.waiting.isEmpty {
                if let request = state.requests[state.waiting.removeFirst()]?.first { return request }
            }
            state.threads -= 1
            return nil
        }
    }

    /// Without any thread nobody would answer those who wait.
    private func threadFailed(_ error: SystemError) {
        let abandoned = self.state.withLock { state -> [Request] in
            state.threads -= 1
            if state.threads > 0 { return [] }
            let keys = state.waiting
            state.waiting = []
            return keys.flatMap { state.requests.removeValue(forKey: $0) ?? [] }
        }
        for request in abandoned {
            let text = "\(request.host):\(request.port) cannot be looked up: no thread can be started."
            request.outcome.decide(.failure(NetworkError(kind: .other, underlying: error, text: text)))
        }
    }
}

extension ResolverPool.State {
    /// Requests that were given up while queued must not pile up behind a dead name server.
    fileprivate mutating func forgetDecided() {
        var still: [ResolverPool.Key] = []
        for key in self.waiting {
            let requests = self.requests[key, default: []].filter { !$0.outcome.isDecided }
            self.requests[key] = requests.isEmpty ? nil : requests
            if !requests.isEmpty { still.append(key) }
        }
        self.waiting = still
    }
}
