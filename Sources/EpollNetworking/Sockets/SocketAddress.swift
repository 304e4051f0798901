// SPDX-License-Identifier: Apache-2.0
package import Glibc

// SocketAddress: where a socket is bound or connected, as a value. Layouts of ip(7), ipv6(7) and unix(7).
// Names of hosts are HostResolver's business.

/// The address of one end of a socket.
public enum SocketAddress: Hashable, Sendable, CustomStringConvertible {
    /// Four octets in network order, and a port.
    case ipv4(address: [UInt8], port: UInt16)
    /// Sixteen octets in network order, a port, and the interface number of a link-local address (else 0).
    case ipv6(address: [UInt8], port: UInt16, scope: UInt32)
    /// A socket in the file system; empty for an unnamed one.
    case unix(path: String)
    /// A socket in Linux's abstract namespace.
    case abstract(name: [UInt8])

    /// The port of an internet address.
    public var port: UInt16? {
        switch self {
        case .ipv4(_, let port), .ipv6(_, let port, _): port
        case .unix, .abstract: nil
        }
    }

    /// `127.0.0.1:5672`, `[::1]:5672`, `unix:/run/x`, `unix:@name`.
    public var description: String {
        switch self {
        case .ipv4(let address, let port): "\(Self.text(AF_INET, address)):\(port)"
        case .ipv6(let address, let port, 0): "[\(Self.text(AF_INET6, address))]:\(port)"
        case .ipv6(let address, let port, let scope): "[\(Self.text(AF_INET6, address))%\(scope)]:\(port)"
        case .unix(let path): "unix:\(path)"
        case .abstract(let name): "unix:@\(String(decoding: name, as: UTF8.self))"
        }
    }

    /// The address without the port; nil for a Unix socket.
    package var numericHost: String? {
        switch self {
        case .ipv4(let address, _): Self.text(AF_INET, address)
        case .ipv6(let address, _, _): Self.text(AF_INET6, address)
        case .unix, .abstract: nil
        }
    }

    /// The host's own IPv4 address.
    package static func loopback(port: UInt16) -> SocketAddress { .ipv4(address: [127, 0, 0, 1], port: port) }

    /// The host's own IPv6 address.
    package static func loopbackV6(port: UInt16) -> SocketAddress {
        .ipv6(address: [UInt8](repeating: 0, count: 15) + [1], port: port, scope: 0)
    }

    package var family: CInt {
        switch self {
        case .ipv4: AF_INET
        case .ipv6: AF_INET6
        case .unix, .abstract: AF_UNIX
        }
    }

    /// From what the kernel filled in; nil for a family not named here, or too few octets.
    package init?(sockaddr octets: UnsafeRawBufferPointer) {
        guard octets.count >= MemoryLayout<sa_family_t>.size else { return nil }
        switch CInt(octets.loadUnaligned(as: sa_family_t.self)) {
        case AF_INET:
            guard octets.count >= MemoryLayout<sockaddr_in>.size else { return nil }
            let port = UInt16(bigEndian: octets.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            self = .ipv4(address: Array(octets[4..<8]), port: port)
        case AF_INET6:
            guard octets.count >= MemoryLayout<sockaddr_in6>.size else { return nil }
            let port = UInt16(bigEndian: octets.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            let scope = octets.loadUnaligned(fromByteOffset: 24, as: UInt32.self)
            self = .ipv6(address: Array(octets[8..<24]), port: port, scope: scope)
        case AF_UNIX:
            let path = octets[2...]
            if path.first == 0 {
                self = .abstract(name: Array(path.dropFirst()))
            } else {
                self = .unix(path: String(decoding: path.prefix { $0 != 0 }, as: UTF8.self))
            }
        default:
            return nil
        }
    }

    /// Runs `body` with the address in the kernel's form; throws ENAMETOOLONG for a path that does not fit.
    package func withSockaddr<Result>(
        _ body: (UnsafeRawPointer, socklen_t) throws(SystemError) -> Result
    ) throws(SystemError) -> Result {
        var octets = [UInt8](repeating: 0, count: MemoryLayout<sockaddr_storage>.size)
        let length: Int
        switch self {
        case .ipv4(let address, let port):
            guard address.count == 4 else { throw SystemError(code: -EINVAL, call: "address") }
            octets.replaceSubrange(2..<8, with: [UInt8(port >> 8), UInt8(port & 255)] + address)
            length = MemoryLayout<sockaddr_in>.size
        case .ipv6(let address, let port, let scope):
            guard address.count == 16 else { throw SystemError(code: -EINVAL, call: "address") }
            octets.replaceSubrange(2..<4, with: [UInt8(port >> 8), UInt8(port & 255)])
            octets.replaceSubrange(8..<24, with: address)
            withUnsafeBytes(of: scope) { octets.replaceSubrange(24..<28, with: $0) }
            length = MemoryLayout<sockaddr_in6>.size
        case .unix(let path):
            // The path and its final zero.
            let count = path.utf8.count
            // The kernel would take it for an abstract name of one zero.
            guard count > 0 else { throw SystemError(code: -EINVAL, call: "address") }
            guard count + 1 <= Self.pathCapacity else { throw SystemError(code: -ENAMETOOLONG, call: "address") }
            guard !path.utf8.contains(0) else { throw SystemError(code: -EINVAL, call: "address") }
            octets.replaceSubrange(2..<2 + count, with: path.utf8)
            length = 2 + count + 1
        case .abstract(let name):
            guard name.count + 1 <= Self.pathCapacity else { throw SystemError(code: -ENAMETOOLONG, call: "address") }
            octets.replaceSubrange(3..<3 + name.count, with: name)
            length = 3 + name.count
        }
        withUnsafeBytes(of: sa_family_t(self.family)) { octets.replaceSubrange(0..<2, with: $0) }
        let outcome = octets.withUnsafeBytes { bytes -> Swift.Result<Result, SystemError> in
            guard let base = bytes.baseAddress else { return .failure(SystemError(code: -EINVAL, call: "address")) }
            do throws(SystemError) { return .success(try body(base, socklen_t(length))) } catch {
                return .failure(error)
            }
        }
        return try outcome.get()
    }

    private static var pathCapacity: Int { MemoryLayout<sockaddr_un>.size - MemoryLayout<sa_family_t>.size }

    private static func text(_ family: CInt, _ address: [UInt8]) -> String {
        guard address.count == (family == AF_INET ? 4 : 16) else { return "?" }
        let characters = [CChar](unsafeUninitializedCapacity: Int(INET6_ADDRSTRLEN)) { buffer, count in
            guard let base = buffer.baseAddress,
                inet_ntop(family, address, base, socklen_t(buffer.count)) != nil
            else { return }
            count = strlen(base)
        }
        return String(decoding: characters.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
