// SPDX-License-Identifier: Apache-2.0
// Endpoint: where to connect to or listen on, as users name it. SocketAddress is what the kernel is given.

/// A place to connect to, or to listen on.
public enum Endpoint: Hashable, Sendable, CustomStringConvertible {
    /// A host by name or by number, and a port.
    ///
    /// A name is looked up, and its addresses are tried side by side (RFC 8305). A listener takes the first; its port 0
    /// lets the kernel choose.
    case host(String, port: UInt16)
    /// An address as the kernel knows it.
    case address(SocketAddress)

    /// `host:port`, or the address.
    public var description: String {
        switch self {
        case .host(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .address(let address): address.description
        }
    }
}
