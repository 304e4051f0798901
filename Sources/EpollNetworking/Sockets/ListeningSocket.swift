// SPDX-License-Identifier: Apache-2.0
import CEpoll
import Glibc
import SystemPackage

// ListeningSocket: an owned, non-blocking descriptor that peers connect to, and the calls on it. It knows no loop.

package final class ListeningSocket: Sendable {
    let socket: StreamSocket

    /// Binds and listens.
    ///
    /// Port 0 lets the kernel choose; ask `localAddress`. `prepare` is called on the bound socket before anyone can
    /// connect; accepted sockets inherit what it sets.
    package init(
        _ address: SocketAddress,
        backlog: Int = 1024,
        reusePort: Bool = false,
        prepare: (StreamSocket) throws(SystemError) -> Void = { _ in }
    ) throws(SystemError) {
        let socket = try StreamSocket(family: address.family)
        if address.port != nil {
            try SystemCall.checking("setsockopt SO_REUSEADDR") { cepoll_set_reuse_address(socket.descriptor, 1) }
            if reusePort {
                try SystemCall.checking("setsockopt SO_REUSEPORT") { cepoll_set_reuse_port(socket.descriptor, 1) }
            }
        }
        try address.withSockaddr { (base, length) throws(SystemError) -> Void in
            try SystemCall.checking("bind") { cepoll_bind(socket.descriptor, base, length) }
        }
        try prepare(socket)
        try SystemCall.checking("listen") { cepoll_listen(socket.descriptor, CInt(clamping: backlog)) }
        self.socket = socket
    }

    package var descriptor: CInt { self.socket.descriptor }
    package var localAddress: SocketAddress? { self.socket.localAddress }

    /// Takes a waiting connection; nil when there is none.
    ///
    /// A peer that left before is skipped.
    package func accept() throws(SystemError) -> StreamSocket? { try self.socket.accept() }

    package func close() { self.socket.close() }
}

extension StreamSocket {
    func accept() throws(SystemError) -> StreamSocket? {
        while true {
            let result = SystemCall.retrying { cepoll_accept(self.descriptor) }
            if result >= 0 { return StreamSocket(owning: result, isUnix: self.isUnix) }
            switch -result {
            case EAGAIN: return nil
            // accept(2): errors of the new connection, not of the listener.
            case ECONNABORTED, EPROTO, ENETDOWN, ENONET, EHOSTDOWN, EHOSTUNREACH, ENETUNREACH: continue
            default: throw SystemError(code: result, call: "accept4")
            }
        }
    }
}
