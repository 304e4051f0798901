// SPDX-License-Identifier: Apache-2.0
public import AMQP091
import EpollConcurrency
package import EpollNetworking
import Glibc
internal import SecretValues
import SystemPackage

// InProcessBroker: an AMQP 0-9-1 broker in the memory of this process, for tests and for benchmarks without an
// installation. It speaks real octets over real sockets. Its state lives on one loop thread of its own; everything here
// hands work to that thread. Orders to misbehave: InProcessBroker+Faults; looking inside: InProcessBroker+Inspection.

/// An AMQP 0-9-1 broker inside this process.
///
/// It behaves as RabbitMQ 4.3 does in what a client can observe, down to reply codes and texts, or as 4.0 or 3.10
/// (``Options/rabbitMQ(_:)``). One suite of cases, each with the releases it holds for, runs against the broker in the
/// behaviour of each release and against RabbitMQ 3.10.8, 4.0.5 and 4.3.6. `server-properties` name the release.
///
/// It is not RabbitMQ. It does not have:
///
/// - a disk: durable and persistent are accepted and mean nothing after the end of the process;
/// - clusters, streams (`x-queue-type: stream` is refused), plugins, management, policies;
/// - permissions: a user may do everything in every virtual host;
/// - replicas of quorum queues. A quorum queue has their delivery limit and counts, order, priorities and late
///   acknowledgements; a dead letter of `at-least-once` that no queue takes is published again after 200 ms or a change of
///   the topology, where RabbitMQ waits for minutes;
/// - effects of `x-delayed-retry-*` and `x-consumer-disconnected-timeout`, which are accepted where RabbitMQ accepts them;
/// - the hash of RabbitMQ in `x-modulus-hash` exchanges: one key reaches one queue, but perhaps another one;
/// - mechanisms other than PLAIN, AMQPLAIN and EXTERNAL;
/// - delay: counts are exact and confirms follow at once, where RabbitMQ's may lag a moment behind.
///
/// Limits a client may not choose in `tune-ok`, and methods that do not exist, are answered with a close and its reason;
/// RabbitMQ drops the link without a reply.
///
/// ```swift
/// try await InProcessBroker.withBroker { broker in
///     try await AMQPConnection.withConnection(broker.configuration) { connection in … }
/// }
/// ```
public final class InProcessBroker: Sendable {
    /// The address of a broker.
    public enum Endpoint: Hashable, Sendable {
        /// TCP on 127.0.0.1; port 0 lets the system choose a free one.
        case loopback(port: UInt16 = 0)
        /// TCP on an IPv4 address of this machine, four octets; port 0 lets the system choose a free one.
        case ipv4(address: [UInt8], port: UInt16)
        /// A Unix socket at a path of at most 107 octets; it must not exist, and is removed at the end.
        case unix(path: String)
        /// TLS over TCP on 127.0.0.1, with the certificate of ``Options/tls``; port 0 lets the system choose a free one.
        ///
        /// Needs the package's trait `TLS`.
        case tls(port: UInt16 = 0)
    }

    /// What the broker shows to clients that use TLS; files in PEM.
    public struct TLS: Hashable, Sendable {
        /// The broker's certificate, and those that lead to the authority's.
        public var certificateChain: String
        /// The private key of the certificate.
        public var privateKey: String
        /// Who issued the certificate: put into ``InProcessBroker/uri`` and ``InProcessBroker/configuration``, so that
        /// a client trusts it; nil for an authority that the system trusts.
        public var authority: String?
        /// Who is trusted to issue clients' certificates.
        ///
        /// A client without one is refused; nil asks for none.
        public var clientAuthority: String?

        /// A certificate and its key.
        ///
        /// - Parameters:
        ///   - certificateChain: The broker's certificate, and those that lead to the authority's.
        ///   - privateKey: The private key of the certificate.
        ///   - authority: Who issued the certificate; nil for an authority that the system trusts.
        ///   - clientAuthority: Who is trusted to issue clients' certificates; nil asks for none.
        public init(
            certificateChain: String,
            privateKey: String,
            authority: String? = nil,
            clientAuthority: String? = nil
        ) {
            self.certificateChain = certificateChain
            self.privateKey = privateKey
            self.authority = authority
            self.clientAuthority = clientAuthority
        }
    }

    /// Every option of a broker.
    public struct Options: Sendable {
        /// Where it listens; a free port of 127.0.0.1 by default.
        public var endpoints: [Endpoint] = [.loopback()]
        /// Certificate and key of endpoints with TLS; none by default.
        public var tls: TLS?
        /// Passwords by user name; `guest` with `guest` by default; shown by no description and no reflection.
        public var users: [String: String] {
            get { self.passwords }
            set { self.passwords = newValue }
        }
        @Secret private var passwords = ["guest": "guest"]
        /// Subjects of clients' certificates (RFC 2253, such as `CN=orders`) that log in with the mechanism EXTERNAL,
        /// which is offered to them alone; none by default, and none without ``TLS/clientAuthority``.
        public var certificateUsers: Set<String> = []
        /// The virtual hosts; `/` by default.
        public var virtualHosts = ["/"]
        /// Channels of one connection at most, as offered to clients; 0 for no limit.
        public var channelMax: UInt16 = 2047
        /// Largest frame in octets, as offered to clients, 8192...16777216.
        public var frameMax: UInt32 = 131_072
        /// The heartbeat in seconds, as offered to clients; 0 for none.
        public var heartbeat: UInt16 = 60
        /// The release of RabbitMQ whose behaviour the broker has.
        public let version: RabbitMQVersion
        /// Largest body in octets; a larger one closes its channel (406).
        ///
        /// RabbitMQ's default: 16 MiB since 4.0, 128 MiB before.
        public var maximumMessageSize: Int
        /// Time to acknowledge a delivery; nil for no limit.
        ///
        /// RabbitMQ's default is 30 minutes. A delivery that is not acknowledged in time closes its channel (406). Since 4.3 only quorum queues look at the
        /// time, and send `basic.cancel` to the consumer instead; the arguments `x-consumer-timeout` of the queue and of
        /// the consumer have precedence there.
        public var consumerTimeout: Duration? = .seconds(30 * 60)
        /// A seed: the broker answers as late and as disordered as RabbitMQ may; nil, the default, answers at once and in
        /// order.
        ///
        /// `consume-ok`, `cancel-ok`, deliveries, confirms and `basic.cancel` come from the process of a queue. With a seed
        /// they come a little later, after the replies to requests that were sent in the meantime, and between queues in
        /// any order: deliveries of one consumer between the cancel of another and its reply, confirms out of order and
        /// merged by `multiple`, a close in place of a reply, a cancel by the broker that crosses the client's. For one
        /// queue the order holds. The same seed makes the same choices on each channel; what they meet depends on when
        /// requests arrive, too.
        public var disorderSeed: UInt64?
        /// Octets of messages above which publishers are blocked, as under RabbitMQ's memory alarm.
        public var memoryLimit = 1 << 30
        /// Time a client has from its first octet to `connection.open`.
        public var handshakeTimeout: Duration = .seconds(10)

        /// The defaults of a release of RabbitMQ.
        ///
        /// - Parameter version: The release.
        public init(version: RabbitMQVersion = .v4_3) {
            self.version = version
            self.maximumMessageSize = version.maximumMessageSize
        }

        /// The defaults of a release of RabbitMQ.
        ///
        /// - Parameter version: The release.
        /// - Returns: The options.
        public static func rabbitMQ(_ version: RabbitMQVersion) -> Options { Options(version: version) }
    }

    let core: BrokerCore
    let loop: EventLoop
    private let listening: [(endpoint: Endpoint, address: SocketAddress)]
    private let paths: [String]
    /// The addresses of a simulation; none outside of one.
    private let simulated: [AMQPServerAddress]
    private let options: Options

    /// Starts a broker, which runs until ``shutdown()``.
    ///
    /// - Parameter options: All options.
    /// - Throws: When an address or a certificate cannot be used, or descriptors or threads run out.
    public init(_ options: Options = Options()) async throws {
        var options = options
        options.frameMax = min(max(8192, options.frameMax), 16 << 20)
        self.options = options
        let tls = try BrokerTLS(options)
        let loop = try EventLoop(name: "amqp-broker")
        self.loop = loop
        let core = BrokerCore(loop: loop, options: options)
        self.core = core
        var sockets: [ListeningSocket] = []
        do {
            for endpoint in options.endpoints { sockets.append(try ListeningSocket(endpoint.address)) }
        } catch {
            loop.shutdown()
            throw error
        }
        self.listening = zip(options.endpoints, sockets).compactMap { endpoint, socket in
            socket.localAddress.map { (endpoint, $0) }
        }
        self.paths = options.endpoints.compactMap { if case .unix(let path) = $0 { path } else { nil } }
        self.simulated = []
        let listening = zip(options.endpoints, sockets).map { ($1, $0.usesTLS ? tls : nil) }
        let failure = await Self.run(on: loop) { () -> SystemError? in
            for (socket, tls) in listening {
                let acceptor = BrokerAcceptor(core: core, socket: socket, tls: tls)
                core.acceptors.append(acceptor)
                do throws(SystemError) { try acceptor.start() } catch { return error }
            }
            return nil
        }
        if let failure = failure ?? nil {
            loop.shutdown()
            throw failure
        }
    }

    /// A broker of a simulation, which serves links to these names; its endpoints and certificates are not used.
    package init(_ options: Options, in simulation: Simulation, at addresses: [AMQPServerAddress]) {
        var options = options
        options.frameMax = min(max(8192, options.frameMax), 16 << 20)
        self.options = options
        let loop = simulation.makeLoop(name: "amqp-broker")
        let core = BrokerCore(loop: loop, options: options)
        self.loop = loop
        self.core = core
        self.listening = []
        self.paths = []
        self.simulated = addresses
        for address in addresses {
            simulation.network.listen(at: address.description, on: loop) { core.admit($0) }
        }
    }

    deinit { self.loop.shutdown() }

    /// Runs `body` with a broker and ends the broker afterwards.
    ///
    /// - Parameters:
    ///   - options: All options.
    ///   - body: Gets the broker.
    /// - Returns: The result of `body`.
    /// - Throws: What `body` throws, or that the broker cannot listen.
    @discardableResult
    public static func withBroker<Result>(
        _ options: Options = Options(),
        _ body: (InProcessBroker) async throws -> Result
    ) async throws -> Result {
        let broker = try await InProcessBroker(options)
        let result: Result
        do {
            result = try await body(broker)
        } catch {
            await broker.shutdown()
            throw error
        }
        await broker.shutdown()
        return result
    }

    /// Runs until the task is cancelled, then ends the broker: for a process that is nothing but a broker.
    public func run() async {
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
        await withTaskCancellationHandler {
            for await _ in stream {}
        } onCancel: {
            continuation.finish()
        }
        await self.shutdown()
    }

    /// Drops every link, stops listening and waits for the broker's thread to end; again does nothing.
    public func shutdown() async {
        _ = await Self.run(on: self.loop) { [core = self.core] in core.stop() }
        self.loop.shutdown()
        await self.loop.stopped()
        for path in self.paths { _ = unlink(path) }
    }

    // MARK: how to reach it

    /// The TCP port it listens on without TLS; nil when there is none.
    public var port: UInt16? { self.listening.lazy.filter { !$0.endpoint.usesTLS }.compactMap(\.address.port).first }

    /// The TCP port it listens on with TLS; nil when there is none.
    public var tlsPort: UInt16? { self.listening.lazy.filter { $0.endpoint.usesTLS }.compactMap(\.address.port).first }

    /// A URI of its first endpoint, with the first user by name and first virtual host: `amqp://`, `amqp+unix://`, or
    /// `amqps://` with the authority of ``TLS/authority``.
    public var uri: String { self.uri(of: self.listening.first) }

    /// The `amqps://` URI of its first endpoint with TLS; nil when there is none.
    public var tlsURI: String? { self.listening.first { $0.endpoint.usesTLS }.map { self.uri(of: $0) } }

    private func uri(of listening: (endpoint: Endpoint, address: SocketAddress)?) -> String {
        let user = self.options.users.sorted { $0.key < $1.key }.first
        let login = "\(Self.encoded(user?.key ?? "guest")):\(Self.encoded(user?.value ?? "guest"))"
        let host = Self.encoded(self.options.virtualHosts.first ?? "/")
        guard let (endpoint, address) = listening else { return "amqp://\(login)@127.0.0.1/\(host)" }
        if case .unix(let path) = address { return "amqp+unix://\(login)@\(Self.encoded(path))/\(host)" }
        guard endpoint.usesTLS else { return "amqp://\(login)@\(address)/\(host)" }
        let roots = self.options.tls?.authority.map { "?cacertfile=\(Self.encoded($0))" } ?? ""
        return "amqps://\(login)@\(address)/\(host)\(roots)"
    }

    /// Options of a client that connects to its first endpoint.
    ///
    /// Connecting and operations have a minute each: a process that runs hundreds of tests at once on a busy machine must not
    /// fail one of them by its deadline. Limits are the client's defaults.
    public var configuration: AMQPClientConfiguration {
        let first = self.listening.first
        let address: AMQPServerAddress =
            switch first?.address {
            case .unix(let path): .unix(path: path)
            case .ipv4(let octets, let port):
                .host(octets.map { String($0) }.joined(separator: "."), port: port)
            default: .host("127.0.0.1", port: self.port ?? 5672)
            }
        var configuration = AMQPClientConfiguration(addresses: self.simulated.isEmpty ? [address] : self.simulated)
        configuration.connectTimeout = .seconds(60)
        configuration.operationTimeout = .seconds(60)
        configuration.virtualHost = self.options.virtualHosts.first ?? "/"
        if let user = self.options.users.sorted(by: { $0.key < $1.key }).first {
            configuration.authentication = .plain(username: user.key, password: user.value)
        }
        if first?.endpoint.usesTLS == true {
            configuration.tls = .require(roots: self.options.tls?.authority.map { .file(path: $0) } ?? .system)
        }
        return configuration
    }

    /// Connects a client over a socket pair, without any address.
    ///
    /// - Parameter configuration: The client's options but its addresses; those of ``configuration`` by default.
    /// - Returns: An open connection; the caller closes it.
    /// - Throws: `AMQPError` as `AMQPConnection.connect`.
    public func connect(_ configuration: AMQPClientConfiguration? = nil) async throws -> AMQPConnection {
        let (ours, theirs) = try StreamSocket.pair()
        await self.serve(ours)
        return try await AMQPConnection.connect(over: theirs, configuration ?? self.configuration)
    }

    /// Serves whoever is at the other end of a socket, which belongs to the broker from here on.
    package func serve(_ socket: StreamSocket) async {
        _ = await Self.run(on: self.loop) { [core = self.core] in
            BrokerConnection(core: core, socket).start()
        }
    }

    private static func encoded(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF")
        return text.utf8.reduce(into: "") { result, octet in
            switch octet {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
                result.append(Character(UnicodeScalar(octet)))
            default:
                result.append("%")
                result.append(digits[Int(octet >> 4)])
                result.append(digits[Int(octet & 15)])
            }
        }
    }

    /// Runs `body` on the loop's thread; nil when the loop has ended.
    static func run<Result: Sendable>(on loop: EventLoop, _ body: @escaping @Sendable () -> Result) async -> Result? {
        await withSuspension { continuation in
            let isAccepted = loop.execute { continuation.resume(returning: body()) }
            if !isAccepted { continuation.resume(returning: nil) }
        }
    }

    /// As ``run(on:_:)`` with the state of the broker.
    func onLoop<Result: Sendable>(_ body: @escaping @Sendable (BrokerCore) -> Result) async -> Result? {
        await Self.run(on: self.loop) { [core = self.core] in
            core.beginTurn()
            return body(core)
        }
    }
}

extension InProcessBroker.Endpoint {
    fileprivate var address: SocketAddress {
        switch self {
        case .loopback(let port), .tls(let port): .loopback(port: port)
        case .ipv4(let address, let port): .ipv4(address: address, port: port)
        case .unix(let path): .unix(path: path)
        }
    }

    var usesTLS: Bool {
        if case .tls = self { true } else { false }
    }
}
