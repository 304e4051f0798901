// SPDX-License-Identifier: Apache-2.0
// ListenerOptions: how a listener takes connections, as a value.

/// Settings of a listener.
public struct ListenerOptions: Sendable {
    /// Connections the kernel keeps until they are accepted; capped by `net.core.somaxconn`.
    public var backlog = 1024
    /// One listening socket per loop of the group (`SO_REUSEPORT`), among which the kernel spreads connections.
    ///
    /// TCP only. Otherwise one socket, and the connections go to the loops in turn.
    public var reusePort = false
    /// The loops; nil takes the shared group.
    public var group: EventLoopGroup?
    /// Connections served at once by ``StreamListener/serve(on:onError:_:)``, at least 1; more wait in the backlog.
    public var maximumConnections = 65_536
    /// The permissions of a Unix socket's file, such as `0o660`; nil leaves them to the process's mask.
    public var permissions: UInt32?
    /// Settings of every accepted connection.
    public var connection = SocketOptions()

    /// The settings that suit most servers.
    public init() {}
}
