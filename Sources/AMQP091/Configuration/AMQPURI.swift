// SPDX-License-Identifier: Apache-2.0
internal import SecretValues

// AMQPURI: parses amqp://user:password@host:port/vhost?heartbeat=10 by RabbitMQ's URI specification.
// A Unix socket is written as amqp+unix://user:password@%2Frun%2Fbroker.sock/vhost: its percent-encoded path replaces
// the host.
// Not here: the options that the parts set (AMQPClientConfiguration).
// Error texts name the invalid part and contain nothing of the URI: in a malformed one, such as with a
// raw ? or / in the password, any part of the text may be a piece of the password.

/// The parts of an `amqp://`, `amqps://` or `amqp+unix://` URI, percent-decoded.
public struct AMQPURI: Hashable, Sendable {
    /// The host name or address; IPv6 literals without their brackets.
    public var host = "localhost"
    /// The port, 1...65535; 5672 by default, with `amqps://` 5671.
    public var port: UInt16 = 5672
    /// True for `amqps://`.
    public var usesTLS = false
    /// The absolute path of a Unix socket, from `amqp+unix://`; nil for a host and a port.
    public var unixPath: String?
    /// The user name.
    public var username = "guest"
    /// The password; excluded from descriptions and reflection.
    public var password: String {
        get { self.secret }
        set { self.secret = newValue }
    }
    @Secret private var secret = "guest"
    /// The virtual host: `/` if the URI has no path, empty if the path is a single slash.
    public var virtualHost = "/"
    /// The query parameters, in order.
    public var parameters: [Parameter] = []

    /// A query parameter.
    ///
    /// Its value, which may be the password of a key, is excluded from descriptions and reflection.
    public struct Parameter: Hashable, Sendable {
        /// The name, percent-decoded.
        public var name: String {
            get { self.hiddenName }
            set { self.hiddenName = newValue }
        }
        /// The value, percent-decoded.
        public var value: String {
            get { self.hiddenValue }
            set { self.hiddenValue = newValue }
        }
        @Secret private var hiddenName: String
        @Secret private var hiddenValue: String

        init(name: String, value: String) {
            self.hiddenName = name
            self.hiddenValue = value
        }
    }

    /// Parses a URI.
    ///
    /// - Throws: ``AMQPError`` with code `.invalidConfiguration` that names the invalid part.
    public init(_ text: String) throws(AMQPError) {
        let octets = Array(text.utf8)
        guard let schemeEnd = Self.find("://", in: octets) else {
            throw Self.invalid("no scheme: it starts with amqp://")
        }
        let scheme = String(decoding: octets[..<schemeEnd], as: UTF8.self).lowercased()
        guard ["amqp", "amqps", "amqp+unix"].contains(scheme) else {
            throw Self.invalid("the scheme is not amqp, amqps or amqp+unix")
        }
        self.usesTLS = scheme == "amqps"
        if self.usesTLS { self.port = 5671 }
        var rest = octets[(schemeEnd + 3)...]
        guard !rest.contains(UInt8(ascii: "#")) else { throw Self.invalid("it has a fragment; write # as %23") }
        let at = UInt8(ascii: "@")
        let authority = rest.prefix { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") }
        if rest[authority.endIndex...].contains(at), !authority.contains(at) {
            throw Self.invalid(
                "an @ comes after a / or ?: in a password write / as %2F and ? as %3F; elsewhere @ as %40"
            )
        }
        if let question = rest.firstIndex(of: UInt8(ascii: "?")) {
            self.parameters = try Self.parameters(rest[(question + 1)...])
            rest = rest[..<question]
        }
        if let slash = rest.firstIndex(of: UInt8(ascii: "/")) {
            let path = rest[(slash + 1)...]
            guard !path.contains(UInt8(ascii: "/")) else {
                throw Self.invalid("the virtual host has a slash; write / as %2f")
            }
            guard !path.contains(UInt8(ascii: "@")) else {
                throw Self.invalid("the virtual host has an @: write / in a password as %2f, and @ as %40")
            }
            self.virtualHost = try Self.decode(path, part: "virtual host")
            rest = rest[..<slash]
        }
        if let at = rest.lastIndex(of: UInt8(ascii: "@")) {
            let userInfo = rest[..<at]
            rest = rest[(at + 1)...]
            if let colon = userInfo.firstIndex(of: UInt8(ascii: ":")) {
                self.username = try Self.decode(userInfo[..<colon], part: "user name")
                self.password = try Self.decode(userInfo[(colon + 1)...], part: "password")
            } else {
                self.username = try Self.decode(userInfo, part: "user name")
            }
        }
        if scheme == "amqp+unix" { try self.readPath(rest) } else { try self.readAuthority(rest) }
    }

    private mutating func readPath(_ authority: ArraySlice<UInt8>) throws(AMQPError) {
        let path = try Self.decode(authority, part: "path of the socket")
        guard path.utf8.first == UInt8(ascii: "/") else {
            throw Self.invalid("the path of the socket is not absolute; write / as %2F")
        }
        self.unixPath = path
    }

    private mutating func readAuthority(_ authority: ArraySlice<UInt8>) throws(AMQPError) {
        var portText: ArraySlice<UInt8>?
        if authority.first == UInt8(ascii: "[") {
            guard let close = authority.firstIndex(of: UInt8(ascii: "]")) else {
                throw Self.invalid("the IPv6 address has no closing bracket")
            }
            guard close > authority.startIndex + 1 else {
                throw Self.invalid("the brackets of an IPv6 address are empty")
            }
            let address = authority[(authority.startIndex + 1)..<close]
            // RFC 6874 writes the % before a zone as %25; a zone after a bare % is accepted unchanged.
            let isEncoded = Self.find("%25", in: Array(address)) != nil
            self.host =
                isEncoded
                ? try Self.decode(address, part: "IPv6 address") : String(decoding: address, as: UTF8.self)
            let rest = authority[(close + 1)...]
            if !rest.isEmpty {
                guard rest.first == UInt8(ascii: ":") else { throw Self.invalid("text behind the IPv6 address") }
                portText = rest.dropFirst()
            }
        } else {
            var name = authority
            if let colon = authority.lastIndex(of: UInt8(ascii: ":")) {
                portText = authority[(colon + 1)...]
                name = authority[..<colon]
                guard !name.contains(UInt8(ascii: ":")) else {
                    throw Self.invalid("an IPv6 address stands in brackets: [::1]")
                }
            }
            if !name.isEmpty { self.host = try Self.decode(name, part: "host") }
        }
        if let portText, !portText.isEmpty {
            guard let number = UInt16(String(decoding: portText, as: UTF8.self)), number > 0 else {
                throw Self.invalid("the port is not a number from 1 to 65535")
            }
            self.port = number
        }
    }

    private static func parameters(_ query: ArraySlice<UInt8>) throws(AMQPError) -> [Parameter] {
        var result: [Parameter] = []
        for (index, item) in query.split(separator: UInt8(ascii: "&")).enumerated() {
            let equals = item.firstIndex(of: UInt8(ascii: "=")) ?? item.endIndex
            guard !item[..<equals].contains(UInt8(ascii: "@")) else {
                throw Self.invalid("the name of a parameter has an @: write ? in a password as %3F, and @ as %40")
            }
            let name = try Self.decode(item[..<equals], part: "name of parameter \(index + 1)")
            let value = try Self.decode(
                item[min(equals + 1, item.endIndex)...],
                part: "value of parameter \(index + 1)"
            )
            result.append(Parameter(name: name, value: value))
        }
        return result
    }

    private static func decode(_ octets: ArraySlice<UInt8>, part: String) throws(AMQPError) -> String {
        var result: [UInt8] = []
        result.reserveCapacity(octets.count)
        var index = octets.startIndex
        while index < octets.endIndex {
            let octet = octets[index]
            index += 1
            guard octet == UInt8(ascii: "%") else {
                result.append(octet)
                continue
            }
            guard index + 1 < octets.endIndex, let high = Self.hex(octets[index]), let low = Self.hex(octets[index + 1])
            else { throw Self.invalid("the \(part) has a % that two hexadecimal digits do not follow") }
            result.append(high << 4 | low)
            index += 2
        }
        guard let text = String(validating: result, as: UTF8.self) else {
            throw Self.invalid("the \(part) is not UTF-8 after percent-decoding")
        }
        return text
    }

    private static func hex(_ octet: UInt8) -> UInt8? {
        switch octet {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): octet - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): octet - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): octet - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    private static func find(_ needle: String, in octets: [UInt8]) -> Int? {
        let pattern = Array(needle.utf8)
        guard octets.count >= pattern.count else { return nil }
        return (0...(octets.count - pattern.count)).first { octets[$0...].starts(with: pattern) }
    }

    private static func invalid(_ reason: String) -> AMQPError {
        AMQPError(.invalidConfiguration, "the URI cannot be used: \(reason)", isSafeToRetry: true)
    }
}

extension AMQPURI.Parameter: CustomStringConvertible {
    /// The name if it is known, without the value.
    public var description: String { Self.isKnown(self.name) ? "\(self.name)=***" : "***" }

    /// True for the name of a parameter that this client or RabbitMQ's clients read, which is no part of a password.
    static func isKnown(_ name: String) -> Bool { self.knownNames.contains(name) }

    /// Parameters of ``AMQPClientConfiguration/init(uri:)``.
    static let supportedNames = [
        "heartbeat", "connection_timeout", "channel_max", "frame_max", "connection_name", "auth_mechanism",
        "cacertfile",
        "certfile", "keyfile", "password", "verify", "server_name_indication",
    ]

    private static let knownNames = Set(
        Self.supportedNames + [
            "blocked_connection_timeout", "client_properties", "connection_attempts", "connectiontimeout", "depth",
            "fail_if_no_peer_cert", "locale", "retry_delay", "socket_timeout", "ssl_options", "tcp_options",
        ]
    )
}

extension AMQPURI: CustomStringConvertible {
    /// The URI without its password.
    public var description: String {
        let virtualHost = self.virtualHost == "/" ? "%2f" : self.virtualHost
        if let path = self.unixPath {
            let name = path.split(separator: "/", omittingEmptySubsequences: false).joined(separator: "%2F")
            return "amqp+unix://\(self.username):***@\(name)/\(virtualHost)"
        }
        let zoned = self.host.split(separator: "%", omittingEmptySubsequences: false).joined(separator: "%25")
        let name = self.host.contains(":") ? "[\(zoned)]" : self.host
        return "\(self.usesTLS ? "amqps" : "amqp")://\(self.username):***@\(name):\(self.port)/\(virtualHost)"
    }
}
