// SPDX-License-Identifier: Apache-2.0
import EpollNetworking

// AMQPClientConfiguration: every option of a connection, as a value with defaults.
// Not here: reading a URI (AMQPURI) and negotiating with the broker (TuneNegotiation).

/// Where a broker listens.
public struct AMQPServerAddress: Hashable, Sendable, CustomStringConvertible {
    /// The host name or address; not used with a Unix socket.
    public var host: String
    /// The port, 1...65535; not used with a Unix socket.
    public var port: UInt16
    /// The path of a Unix socket, at most 107 octets; nil for a host and a port.
    public var unixPath: String?

    /// A host and a port.
    public static func host(_ host: String, port: UInt16 = 5672) -> AMQPServerAddress {
        AMQPServerAddress(host: host, port: port)
    }

    /// A Unix socket in the file system of this machine.
    public static func unix(path: String) -> AMQPServerAddress {
        AMQPServerAddress(host: "localhost", port: 5672, unixPath: path)
    }

    /// `host:port`, an IPv6 address in brackets; `unix:` and the path of a Unix socket.
    public var description: String {
        if let path = self.unixPath { return "unix:\(path)" }
        return self.host.contains(":") ? "[\(self.host)]:\(self.port)" : "\(self.host):\(self.port)"
    }
}

/// Every option of a connection.
public struct AMQPClientConfiguration: Hashable, Sendable {
    /// The brokers to try, in order.
    public var addresses: [AMQPServerAddress]
    /// The virtual host; `/` by default.
    public var virtualHost = "/"
    /// Who the client is; `guest` with password `guest` by default, which brokers accept from loopback only.
    public var authentication = AMQPAuthentication.plain(username: "guest", password: "guest")
    /// How connections use TLS; nil, the default, sends everything in the clear.
    ///
    /// Needs the package's trait `TLS`. Brokers listen for it on another port, usually 5671.
    public var tls: AMQPTLSConfiguration?
    /// The name the broker's management pages show, empty for none.
    public var connectionName = ""
    /// Time from the first octet of name resolution to `connection.open-ok`; 10 s by default.
    public var connectTimeout: Duration = .seconds(10)
    /// Time a call waits for its reply or for room when it names no timeout of its own; 30 s by default.
    public var operationTimeout: Duration = .seconds(30)
    /// The client writes something in every half of it, and gives the broker up after one and a half of it and half a second
    /// of silence.
    ///
    /// Whole seconds, 0...65535; 0 asks for none. The lower of both sides' wishes holds. 30 s by default.
    public var heartbeat: Duration = .seconds(30)
    /// Channels to ask for, 1...65535; the lower of both sides' wishes holds.
    ///
    /// 2047 by default.
    public var channelMax: UInt16 = 2047
    /// Largest frame to ask for in octets, 8192...2147483647; the lower of both sides' wishes holds.
    ///
    /// 131072 by default.
    public var frameMax: UInt32 = 131_072
    /// Largest body accepted from the broker, in octets, 0...1073741824 (1 GiB); 16 MiB by default.
    ///
    /// A larger one is read past and not kept. What becomes of its message ``oversizedDeliveries`` says; the consumer and
    /// its connection are not affected. A reply of that size fails its RPC call with `.bodyTooLarge`.
    public var maximumBodySize = 16 << 20
    /// What becomes of a delivery whose body is larger than ``maximumBodySize``; `.reject` by default.
    public var oversizedDeliveries = AMQPOversizedDeliveryPolicy.reject
    /// Octets of deliveries one consumer holds before the connection stops reading; 1 MiB by default.
    ///
    /// While a call waits for the broker's answer, which may stand behind deliveries, reading goes on up to 16 times as
    /// many. A consumer without a prefetch, or with automatic acknowledgement, that leaves even more unread keeps answers
    /// from being read: calls on its connection then wait until it reads, or time out and say so.
    public var consumerBufferSize = 1 << 20
    /// How long a connection leaves deliveries in its socket, so that several are read at once; zero for never.
    ///
    /// Only while they come one by one and more than four in that time, nobody waits for an answer of the broker, and the
    /// rate does not fall by it: then a delivery is late by this much at most, and costs a fraction of the processor's
    /// time. At most a tenth of a second; 300 us by default.
    public var deliveryCoalescing: Duration = .microseconds(300)
    /// The broker's time for settling a delivery, after which it closes the channel (RabbitMQ's `consumer_timeout`), or,
    /// since 4.3 and for quorum queues only, cancels the consumer.
    ///
    /// At four fifths of it the client logs a warning that names the delivery, and tells
    /// ``AMQPConnection/lateDeliveries``; nil for neither. 30 min by default, which is RabbitMQ's own.
    public var acknowledgementTimeout: Duration? = .seconds(1800)
    /// How ``AMQPClient`` makes its connections again when they are lost; not used by ``AMQPConnection``.
    public var recovery = AMQPRecoveryPolicy()
    /// Octets waiting to be written above which a publish waits; 1 MiB by default.
    public var writeBufferSize = 1 << 20
    /// The socket's send buffer in octets, nil for the system's own; 256 KiB by default, right on loopback and LAN.
    public var socketSendBufferSize: Int? = 256 << 10

    /// How connections report spans, where a tracer is set up.
    public var tracing = AMQPTracingConfiguration()

    /// Options for these brokers, all else by default.
    public init(addresses: [AMQPServerAddress] = [.host("localhost")]) {
        self.addresses = addresses
    }

    /// Options read from a URI.
    ///
    /// Understood behind the question mark: `heartbeat` (seconds), `connection_timeout` (milliseconds), `channel_max`,
    /// `frame_max`, `connection_name`, `auth_mechanism` (`plain`, `amqplain` or `external`; repeated, the preferred
    /// first). With `amqps://` also `cacertfile`, `certfile`, `keyfile`, `password` (of the key), `verify`
    /// (`verify_peer` or `verify_none`) and `server_name_indication`. Others are refused.
    ///
    /// - Throws: ``AMQPError`` with code `.invalidConfiguration` that names the wrong part.
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

    /// A name that is not well known is left out: it may be a piece of a password with a raw `?` or `&`.
    private static func unknown(_ parameter: AMQPURI.Parameter, number: Int) -> AMQPError {
        let name = AMQPURI.Parameter.isKnown(parameter.name) ? ", \(parameter.name)," : ""
        let supported = AMQPURI.Parameter.supportedNames.joined(separator: ", ")
        return Self.invalid("URI parameter \(number)\(name) is not supported; supported are \(supported)")
    }

    private static func invalid(_ text: String) -> AMQPError {
        AMQPError(.invalidConfiguration, text, isSafeToRetry: true)
    }

    /// Whether this build can do TLS.
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
            case "verify_none": tls.verification = .insecureNothing
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

    /// Throws when an option is outside its range, before anything is resolved or connected.
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
