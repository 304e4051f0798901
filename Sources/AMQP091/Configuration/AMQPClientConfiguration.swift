// SPDX-License-Identifier: Apache-2.0
import EpollNetworking

// AMQPClientConfiguration: every option of a connection, as a value with defaults.
// Not here: parsing a URI (AMQPURI) and negotiation with the broker (TuneNegotiation).

/// The address of a broker.
public struct AMQPServerAddress: Hashable, Sendable, CustomStringConvertible {
    /// The host name or address; not used with a Unix socket.
    public var host: String
    /// The port, 1...65535; not used with a Unix socket.
    public var port: UInt16
    /// The path of a Unix socket, at most 107 octets; nil for a host and a port.
    public var unixPath: String?

    /// Creates an address of a host and a port.
    public static func host(_ host: String, port: UInt16 = 5672) -> AMQPServerAddress {
        AMQPServerAddress(host: host, port: port)
    }

    /// Creates an address of a Unix socket.
    public static func unix(path: String) -> AMQPServerAddress {
        AMQPServerAddress(host: "localhost", port: 5672, unixPath: path)
    }

    /// `host:port`, an IPv6 address in brackets; `unix:` and the path of a Unix socket.
    public var description: String {
        if let path = self.unixPath { return "unix:\(path)" }
        return self.host.contains(":") ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)"
    }
}

/// All options of a connection.
public struct AMQPClientConfiguration: Hashable, Sendable {
    /// The addresses of the brokers, in order.
    public var addresses: [AMQPServerAddress]
    /// The virtual host; `/` by default.
    public var virtualHost = "/"
    /// The credentials; `guest` with password `guest` by default, which brokers accept from loopback only.
    public var authentication = AMQPAuthentication.plain(username: "guest", password: "guest")
    /// The TLS options; nil, the default, for no TLS.
    ///
    /// Needs the package's trait `TLS`. Brokers use a separate port for TLS, usually 5671.
    public var tls: AMQPTLSConfiguration?
    /// The connection name shown by the management plugin; empty for none.
    public var connectionName = ""
    /// Timeout from the start of name resolution to `connection.open-ok`; 10 s by default.
    public var connectTimeout: Duration = .seconds(10)
    /// Default timeout of calls that wait for a reply or for room; 30 s by default.
    public var operationTimeout: Duration = .seconds(30)
    /// The heartbeat interval: the client writes at least every half interval, and considers the broker dead after one and a
    /// half intervals and half a second of silence.
    ///
    /// Whole seconds, 0...65535; 0 requests none. The lower of both sides' values is used. 30 s by default.
    public var heartbeat: Duration = .seconds(30)
    /// Maximum number of channels, 1...65535; the lower of both sides' values is used.
    ///
    /// 2047 by default.
    public var channelMax: UInt16 = 2047
    /// Maximum frame size in octets, 8192...2147483647; the lower of both sides' values is used.
    ///
    /// 131072 by default.
    public var frameMax: UInt32 = 131_072
    /// Maximum size of a received body in octets, 0...1073741824 (1 GiB); 16 MiB by default.
    ///
    /// A larger body is discarded. ``oversizedDeliveries`` decides about its message; the consumer and
    /// its connection are not affected. A larger reply fails its RPC call with `.bodyTooLarge`.
    public var maximumBodySize = 16 << 20
    /// The treatment of a delivery whose body is larger than ``maximumBodySize``; `.reject` by default.
    public var oversizedDeliveries = AMQPOversizedDeliveryPolicy.reject
    /// Size of unread deliveries of one consumer, in octets, above which the connection pauses reading; 1 MiB by default.
    ///
    /// While a call waits for a reply, which may be queued after deliveries, reading continues up to 16 times this
    /// size. If a consumer without a prefetch, or with automatic acknowledgement, leaves even more unread, replies are
    /// not read: calls on its connection then wait until it reads, or time out with that reason.
    public var consumerBufferSize = 1 << 20
    /// Longest delay before a read, so that several deliveries can be read together; zero disables it.
    ///
    /// It applies only while more than four deliveries per delay arrive one by one, no call waits for a reply, and the
    /// rate does not fall: then a delivery is delayed by at most this time, and costs a fraction of the processor
    /// time. At most 100 ms; 300 us by default.
    public var deliveryCoalescing: Duration = .microseconds(300)
    /// The broker's acknowledgement timeout, after which it closes the channel (RabbitMQ's `consumer_timeout`), or,
    /// since 4.3 and for quorum queues only, cancels the consumer.
    ///
    /// At four fifths of it the client logs a warning with the delivery, and emits it in
    /// ``AMQPConnection/lateDeliveries``; nil for neither. 30 min by default, as in RabbitMQ.
    public var acknowledgementTimeout: Duration? = .seconds(1800)
    /// The recovery policy of ``AMQPClient``; not used by ``AMQPConnection``.
    public var recovery = AMQPRecoveryPolicy()
    /// Size of the write buffer in octets above which a publish waits; 1 MiB by default.
    public var writeBufferSize = 1 << 20
    /// Size of the socket's send buffer in octets, nil for the kernel's; 256 KiB by default, for loopback and LAN.
    public var socketSendBufferSize: Int? = 256 << 10

    /// The tracing options, used if a tracer is bootstrapped.
    public var tracing = AMQPTracingConfiguration()

    /// Creates a configuration for these brokers with defaults.
    public init(addresses: [AMQPServerAddress] = [.host("localhost")]) {
        self.addresses = addresses
    }

    /// Creates a configuration from a URI.
    ///
    /// Query parameters: `heartbeat` (seconds), `connection_timeout` (milliseconds), `channel_max`,
    /// `frame_max`, `connection_name`, `auth_mechanism` (`plain`, `amqplain` or `external`; repeated, the preferred
    /// first). With `amqps://` also `cacertfile`, `certfile`, `keyfile`, `password` (of the key), `verify`
    /// (`verify_peer` or `verify_none`) and `server_name_indication`. Others are refused.
    ///
    /// - Throws: ``AMQPError`` with code `.invalidConfiguration` that names the invalid part.
    public init(uri: String) throws(AMQPError) {
        let parsed = try AMQPURI(uri)
        self.init(addresses: [parsed.unixPath.map { .unix(path: $0) } ?? .host(parsed.host, port: parsed.port)])
        self.virtualHost = parsed.virtualHost
        if parsed.usesTLS {
            self.tls = .require()
            guard Self.hasTLS else {
                throw AMQPError(.invalidConfiguration, ConnectionTLS.noTLS, isSafeToRetry: true)
            }
        }
        var mechanisms: [AMQPAuthentication.Mechanism] = []
        for (index, parameter) in parsed.parameters.enumerated() {
            switch parameter.name {
            case "heartbeat": self.heartbeat = .seconds(Int64(try Self.number(parameter, 0...65535)))
            case "connection_timeout":
                self.connectTimeout = .milliseconds(Int64(try Self.number(parameter, 1...86_400_000)))
            case "channel_max": self.channelMax = UInt16(try Self.number(parameter, 1...65535))
            case "frame_max": self.frameMax = UInt32(try Self.number(parameter, 8192...0x7FFF_FFFF))
            case "connection_name": self.connectionName = parameter.value
            case "auth_mechanism":
                guard let mechanism = AMQPAuthentication.Mechanism(named: parameter.value) else {
                    throw Self.invalid("auth_mechanism is not plain, amqplain or external")
                }
                mechanisms.append(mechanism)
            case "cacertfile", "certfile", "keyfile", "password", "verify", "server_name_indication":
                try self.readTLS(parameter)
            default:
                throw Self.unknown(parameter, number: index + 1)
            }
        }
        self.authentication = .plain(
            username: parsed.username,
            password: parsed.password,
            mechanisms: mechanisms.isEmpty ? [.plain] : mechanisms
        )
        try self.validate()
    }

    /// An unknown name is omitted: it may be part of a password with a raw `?` or `&`.
    private static func unknown(_ parameter: AMQPURI.Parameter, number: Int) -> AMQPError {
        let name = AMQPURI.Parameter.isKnown(parameter.name) ? ", \(parameter.name)," : ""
        let supported = AMQPURI.Parameter.supportedNames.joined(separator: ", ")
        return Self.invalid("URI parameter \(number)\(name) is not supported; supported are \(supported)")
    }

    private static func invalid(_ text: String) -> AMQPError {
        AMQPError(.invalidConfiguration, text, isSafeToRetry: true)
    }

    /// True if this build supports TLS.
    static var hasTLS: Bool { TLSContext.isAvailable }

    private mutating func readTLS(_ parameter: AMQPURI.Parameter) throws(AMQPError) {
        guard var tls = self.tls else { throw Self.invalid("\(parameter.name) needs amqps://") }
        guard !parameter.value.isEmpty else { throw Self.invalid("\(parameter.name) is empty") }
        switch parameter.name {
        case "cacertfile": tls.roots = .file(path: parameter.value)
        case "certfile": tls.certificateChain = parameter.value
        case "keyfile": tls.privateKey = parameter.value
        case "password": tls.privateKeyPassword = parameter.value
        case "server_name_indication": tls.serverName = parameter.value
        default:
            switch parameter.value {
            case "verify_peer": tls.verification = .full
            case "verify_none": tls.verification = .insecureNone
            default: throw Self.invalid("verify is not verify_peer or verify_none")
            }
        }
        self.tls = tls
    }

    private static func number(_ parameter: AMQPURI.Parameter, _ range: ClosedRange<Int>) throws(AMQPError) -> Int {
        guard let value = Int(parameter.value), range.contains(value) else {
            throw AMQPError(
                .invalidConfiguration,
                "\(parameter.name) is not a number from \(range.lowerBound) to \(range.upperBound)",
                isSafeToRetry: true
            )
        }
        return value
    }

    /// Throws if an option is outside its range, before anything is resolved or connected.
    func validate() throws(AMQPError) {
        func require(_ holds: Bool, _ sentence: String) throws(AMQPError) {
            guard holds else { throw AMQPError(.invalidConfiguration, sentence, isSafeToRetry: true) }
        }
        try require(!self.addresses.isEmpty, "no broker address is given")
        try require(!self.authentication.mechanisms.isEmpty, "no mechanism to log in with is given")
        try require(self.addresses.allSatisfy { $0.port > 0 }, "a port is 0; ports are 1 to 65535")
        try require(
            self.addresses.allSatisfy { 1...107 ~= ($0.unixPath ?? "/").utf8.count },
            "the path of a Unix socket is not 1 to 107 octets"
        )
        try require(self.frameMax >= 8192, "frameMax is below 8192, the least RabbitMQ accepts")
        try require(self.frameMax <= 0x7FFF_FFFF, "frameMax is above 2147483647")
        try require(self.channelMax >= 1, "channelMax is 0; it is at least 1")
        try require(self.connectTimeout > .zero, "connectTimeout is not above zero")
        try require(self.operationTimeout > .zero, "operationTimeout is not above zero")
        try require(self.heartbeat >= .zero && self.heartbeat <= .seconds(65535), "heartbeat is not 0 to 65535 s")
        try require(self.heartbeat.components.attoseconds == 0, "heartbeat is not in whole seconds")
        try require(self.virtualHost.utf8.count <= 255, "the virtual host is longer than 255 octets")
        try require(0...(1 << 30) ~= self.maximumBodySize, "maximumBodySize is not 0 to 1073741824 octets")
        try require(self.consumerBufferSize > 0, "consumerBufferSize is not above zero")
        let coalescing = self.deliveryCoalescing
        try require(coalescing >= .zero && coalescing <= .milliseconds(100), "deliveryCoalescing is not 0 to 100 ms")
        try require(self.acknowledgementTimeout ?? .seconds(1) > .zero, "acknowledgementTimeout is not above zero")
        try require(self.recovery.confirmTimeout ?? .seconds(1) > .zero, "recovery.confirmTimeout is not above zero")
        try require(self.writeBufferSize > 0, "writeBufferSize is not above zero")
    }
}
