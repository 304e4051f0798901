// SPDX-License-Identifier: Apache-2.0

// AMQPURI: reads amqp://user:password@host:port/vhost?heartbeat=10 as RabbitMQ's URI specification has it.
// A Unix socket is named by amqp+unix://user:password@%2Frun%2Fbroker.sock/vhost: its path, percent-encoded, in the
// place of the host.
// Not here: what the parts mean for a connection (AMQPClientConfiguration).
// Error texts name the part that is wrong and never show the user name or the password.

/// The parts of an `amqp://`, `amqps://` or `amqp+unix://` URI, percent-decoded.
public struct AMQPURI: Hashable, Sendable {
    /// The host name or address; IPv6 literals without their brackets.
    public var host = "localhost"
    /// The port, 1...65535; 5672 unless named, with `amqps://` 5671.
    public var port: UInt16 = 5672
    /// Whether it is `amqps://`.
    public var usesTLS = false
    /// The absolute path of a Unix socket, from `amqp+unix://`; nil for a host and a port.
    public var unixPath: String?
    /// The user name.
    public var username = "guest"
    /// The password.
    public var password = "guest"
    /// The virtual host: `/` when the URI has no path, empty when the path is a lone slash.
    public var virtualHost = "/"
    /// The parameters behind the question mark, in order.
    public var parameters: [Parameter] = []

    /// One parameter behind the question mark.
    public struct Parameter: Hashable, Sendable {
        /// The name, percent-decoded.
        public var name: String
        /// The value, percent-decoded.
        public var value: String
    }

    /// Reads a URI.
    ///
    /// - Throws: ``AMQPError`` with code `.invalidConfiguration` that names the wrong part.
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
        if let fragment = rest.firstIndex(of: UInt8(ascii: "#")) {
            guard fragment == rest.endIndex else { throw Self.invalid("it has a fragment; write # as %23") }
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
            self.host = String(decoding: authority[(authority.startIndex + 1)..<close], as: UTF8.self)
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
        for item in query.split(separator: UInt8(ascii: "&")) {
            let equals = item.firstIndex(of: UInt8(ascii: "=")) ?? item.endIndex
            let name = try Self.decode(item[..<equals], part: "parameter name")
            let value = try Self.decode(item[min(equals + 1, item.endIndex)...], part: "value of \(name)")
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

extension AMQPURI: CustomStringConvertible {
    /// The URI without its password.
    public var description: String {
        let virtualHost = self.virtualHost == "/" ? "%2f" : self.virtualHost
        if let path = self.unixPath {
            let name = path.split(separator: "/", omittingEmptySubsequences: false).joined(separator: "%2F")
            return "amqp+unix://\(self.username):***@\(name)/\(virtualHost)"
        }
        let name = self.host.contains(":") ? "[\(self.host)]" : self.host
        return "\(self.usesTLS ? "amqps" : "amqp")://\(self.username):***@\(name):\(self.port)/\(virtualHost)"
    }
}
