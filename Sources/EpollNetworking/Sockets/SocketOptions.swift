// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// SocketOptions: what a new connection's socket is set to, and how long its calls wait, as a value. Options of TCP are
// not applied to Unix sockets.

/// Settings of a connection.
public struct SocketOptions: Hashable, Sendable {
    /// Small writes leave at once (`TCP_NODELAY`); true unless changed.
    public var noDelay = true
    /// The kernel probes an idle connection (`SO_KEEPALIVE`); false unless changed.
    public var keepAlive = false
    /// When and how often the kernel probes; nil leaves the system's defaults (hours).
    ///
    /// Looked at only with ``keepAlive``.
    public var keepAliveProbes: KeepAlive?
    /// How long sent octets may stay unacknowledged before the kernel gives the connection up (`TCP_USER_TIMEOUT`).
    ///
    /// Milliseconds count, up to 24 days; nil leaves the system's default (minutes).
    public var userTimeout: Duration?
    /// Size of the kernel's send buffer in octets (`SO_SNDBUF`); nil leaves the kernel to tune it.
    ///
    /// 256 KiB is good on a loopback or a local network; a far host needs the kernel's own tuning.
    public var sendBuffer: Int?
    /// Size of the kernel's receive buffer in octets (`SO_RCVBUF`); nil leaves the kernel to tune it, which is faster.
    public var receiveBuffer: Int?
    /// Acknowledges at once what was read (`TCP_QUICKACK`), at the cost of one system call per read.
    public var quickAck = false
    /// How long a read waits for octets; nil waits until there are some.
    public var readTimeout: Duration?
    /// How long a write waits without progress; nil waits until the peer takes octets.
    ///
    /// Whatever the peer takes begins the time anew. The parameter `within` of a write limits the call in all.
    public var writeTimeout: Duration?
    /// How long a connection that was closed waits for its peer to take what was written and to end too.
    ///
    /// 5 s unless changed, counted from the last octet that moved, and six times that in all; meanwhile its descriptor is in
    /// use, and what the peer sends is discarded. Zero closes at once, which can destroy what is on its way to the peer.
    public var lingerTime = Duration.seconds(5)

    /// The probes of an idle connection.
    public struct KeepAlive: Hashable, Sendable {
        /// Idle time before the first probe; whole seconds, at least 1.
        public var idle: Duration
        /// Time between two probes; whole seconds, at least 1.
        public var interval: Duration
        /// Unanswered probes after which the connection is lost, at least 1.
        public var count: Int

        /// Probes after `idle`, every `interval`, and gives up after `count`.
        public init(idle: Duration = .seconds(60), interval: Duration = .seconds(10), count: Int = 3) {
            self.idle = idle
            self.interval = interval
            self.count = count
        }
    }

    /// The settings that suit most programs.
    public init() {}

    func apply(to socket: StreamSocket, family: SocketAddress) throws(SystemError) {
        if let sendBuffer = self.sendBuffer { try socket.setSendBuffer(octets: sendBuffer) }
        if let receiveBuffer = self.receiveBuffer { try socket.setReceiveBuffer(octets: receiveBuffer) }
        switch family {
        case .unix, .abstract: return
        case .ipv4, .ipv6: break
        }
        try socket.setNoDelay(self.noDelay)
        if self.keepAlive {
            try socket.setKeepAlive(true)
            if let probes = self.keepAliveProbes { try socket.setKeepAlive(probes) }
        }
        try self.setUserTimeout(of: socket, isOn: true)
    }

    /// Sets the limit of ``userTimeout``, or takes it away for a time; nothing to do without one.
    package func setUserTimeout(of socket: StreamSocket, isOn: Bool) throws(SystemError) {
        guard let (seconds, attoseconds) = self.userTimeout?.saturated.components else { return }
        // Clamped to 24 days: the kernel refuses what does not fit its signed milliseconds.
        let milliseconds = min(max(0, seconds), 2_000_000) * 1000 + max(0, attoseconds / 1_000_000_000_000_000)
        try socket.setUserTimeout(milliseconds: isOn ? UInt32(clamping: milliseconds) : 0)
    }
}
