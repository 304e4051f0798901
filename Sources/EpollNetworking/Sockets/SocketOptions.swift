// SPDX-License-Identifier: Apache-2.0

// SocketOptions: what a new connection's socket is set to, as a value. Options of TCP are not applied to Unix sockets.

package struct SocketOptions: Hashable, Sendable {
    /// Small writes leave at once.
    package var noDelay = true
    /// The kernel probes an idle connection.
    package var keepAlive = false
    /// How long sent octets may stay unacknowledged; nil leaves the system's default (minutes).
    package var userTimeout: Duration?
    /// Size of the kernel's send buffer in octets; nil leaves the kernel to tune it, which is right for far hosts.
    package var sendBuffer: Int?

    package init() {}

    func apply(to socket: StreamSocket, family: SocketAddress) throws(SystemError) {
        if let sendBuffer = self.sendBuffer { try socket.setSendBuffer(octets: sendBuffer) }
        switch family {
        case .unix, .abstract: return
        case .ipv4, .ipv6: break
        }
        try socket.setNoDelay(self.noDelay)
        if self.keepAlive { try socket.setKeepAlive(true) }
        guard let userTimeout = self.userTimeout else { return }
        let (seconds, attoseconds) = userTimeout.components
        // Clamped to 24 days: the kernel refuses what does not fit its signed milliseconds.
        let milliseconds = min(max(0, seconds), 2_000_000) * 1000 + max(0, attoseconds / 1_000_000_000_000_000)
        try socket.setUserTimeout(milliseconds: UInt32(clamping: milliseconds))
    }
}
