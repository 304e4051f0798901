// SPDX-License-Identifier: Apache-2.0
public import CEpoll
import EpollConcurrency
package import Glibc
public import Synchronization

// StreamSocket: one owned, non-blocking stream descriptor and the calls on it. It knows no loop and keeps no buffer.
// Reading and writing may happen on two threads at once. Whoever calls close() must know that no other thread is
// inside a call, or the kernel may hand the number to another file meanwhile: shut down first, close later.

/// What one read or write did.
@frozen @usableFromInline package enum IOResult: Equatable, Sendable {
    /// So many octets moved; zero only for an empty buffer.
    case count(Int)
    /// Nothing moved: wait for readiness.
    case wouldBlock
    /// The peer sends no more (reads only).
    case endOfStream
    case failed(SystemError)
}

@usableFromInline package final class StreamSocket: @unchecked Sendable {
    /// The number; -1 once it was closed, so that a late call meets no other file of that number.
    @inlinable package var descriptor: CInt { self.number.load(ordering: .relaxed) }
    @usableFromInline let number: Atomic<CInt>
    /// Unix sockets can carry descriptors, at which a read stops.
    package let isUnix: Bool
    /// This side has ended its writing half.
    private let hasFinished = Atomic(false)
    /// Where events of the descriptor go; loop thread only.
    var watched: Registered?

    /// Takes ownership of a non-blocking descriptor.
    package init(owning descriptor: CInt, isUnix: Bool? = nil) {
        self.number = Atomic(descriptor)
        self.isUnix = isUnix ?? (cepoll_family(descriptor) == AF_UNIX)
    }

    deinit { self.close() }

    /// Reads what is there, at most the buffer's size.
    @inlinable package func read(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
        guard let base = buffer.baseAddress, buffer.count > 0 else { return .count(0) }
        let count = SystemCall.retrying { cepoll_recv(self.descriptor, base, buffer.count) }
        if count > 0 { return .count(count) }
        return count == 0 ? .endOfStream : Self.failure(count, "recv")
    }

    /// As `read(into:)`; tells whether the read may have stopped before the last octet that is there.
    package func read(into buffer: UnsafeMutableRawBufferPointer, isCut: inout Bool) -> IOResult {
        guard self.isUnix, let base = buffer.baseAddress, buffer.count > 0 else {
            let result = self.read(into: buffer)
            return result == .endOfStream && self.isReset ? Self.failure(-Int(ECONNRESET), "recv") : result
        }
        var flag: CInt = 0
        let count = SystemCall.retrying { cepoll_recv_message(self.descriptor, base, buffer.count, &flag) }
        isCut = flag != 0
        if count > 0 { return .count(count) }
        return count == 0 ? .endOfStream : Self.failure(count, "recvmsg")
    }

    /// Whether the end of the stream is that of a reset: the kernel reports a reset once, and a writer may have got it.
    ///
    /// After a peer's ordinary end a connection waits for this side's (CLOSE_WAIT). If that came before, it is closed too.
    private var isReset: Bool {
        !self.hasFinished.load(ordering: .relaxed) && cepoll_tcp_is_closed(self.descriptor) != 0
    }

    /// Hands octets to the kernel, as many as it takes.
    @inlinable package func write(_ octets: UnsafeRawBufferPointer) -> IOResult {
        guard let base = octets.baseAddress, octets.count > 0 else { return .count(0) }
        let count = SystemCall.retrying { cepoll_send(self.descriptor, base, octets.count) }
        return count >= 0 ? .count(count) : Self.failure(count, "send")
    }

    /// Hands several buffers to the kernel in one call; at most 1024 of them (IOV_MAX) are looked at.
    package func write(vectors: UnsafeBufferPointer<iovec>) -> IOResult {
        guard let base = vectors.baseAddress, vectors.count > 0 else { return .count(0) }
        let limit = min(vectors.count, 1024)
        let count = SystemCall.retrying { cepoll_send_vectors(self.descriptor, base, limit) }
        return count >= 0 ? .count(count) : Self.failure(count, "sendmsg")
    }

    /// Tells the peer that no more octets follow.
    package func finishWriting() {
        self.hasFinished.store(true, ordering: .relaxed)
        _ = cepoll_shutdown_write(self.descriptor)
    }

    /// Ends both directions but keeps the descriptor: another thread inside a call gets an error, not a stranger's file.
    package func shutdownBoth() {
        self.hasFinished.store(true, ordering: .relaxed)
        _ = cepoll_shutdown_both(self.descriptor)
    }

    /// Closes at once and drops what was not sent; the peer sees a reset.
    package func reset() {
        let descriptor = self.number.exchange(-1, ordering: .acquiringAndReleasing)
        guard descriptor >= 0 else { return }
        _ = cepoll_set_linger_zero(descriptor)
        _ = cepoll_close(descriptor)
    }

    /// Closes the descriptor; further calls do nothing.
    package func close() {
        let descriptor = self.number.exchange(-1, ordering: .acquiringAndReleasing)
        if descriptor >= 0 { _ = cepoll_close(descriptor) }
    }

    /// Two sockets connected with each other, without an address.
    package static func pair() throws(SystemError) -> (StreamSocket, StreamSocket) {
        var descriptors: [CInt] = [-1, -1]
        try SystemCall.checking("socketpair") { cepoll_socketpair(&descriptors) }
        return (StreamSocket(owning: descriptors[0], isUnix: true), StreamSocket(owning: descriptors[1], isUnix: true))
    }

    /// Octets handed to the kernel that the peer has not read (Unix sockets) or not acknowledged (TCP).
    package var unsentCount: Int { max(0, Int(cepoll_unsent(self.descriptor))) }

    /// Takes the error the kernel keeps for this socket.
    package func takePendingError() -> SystemError? {
        let code = cepoll_pending_error(self.descriptor)
        if code == 0 { return nil }
        return SystemError(code: code > 0 ? -code : code, call: code > 0 ? "connect" : "getsockopt")
    }

    @usableFromInline static func failure(_ code: Int, _ call: String) -> IOResult {
        code == -Int(EAGAIN) ? .wouldBlock : .failed(SystemError(code: code, call: call))
    }
}

// MARK: - Options

extension StreamSocket {
    /// Sends small writes at once (TCP only).
    package func setNoDelay(_ enabled: Bool) throws(SystemError) {
        try SystemCall.checking("setsockopt TCP_NODELAY") { cepoll_set_no_delay(self.descriptor, enabled ? 1 : 0) }
    }

    /// Lets the kernel probe an idle connection.
    package func setKeepAlive(_ enabled: Bool) throws(SystemError) {
        try SystemCall.checking("setsockopt SO_KEEPALIVE") { cepoll_set_keep_alive(self.descriptor, enabled ? 1 : 0) }
    }

    /// How long sent octets may stay unacknowledged before the kernel ends the connection; 0 is its default.
    package func setUserTimeout(milliseconds: UInt32) throws(SystemError) {
        try SystemCall.checking("setsockopt TCP_USER_TIMEOUT") {
            cepoll_set_user_timeout(self.descriptor, milliseconds)
        }
    }

    /// Fixes the size of the kernel's send buffer, which ends its automatic tuning.
    package func setSendBuffer(octets: Int) throws(SystemError) {
        try SystemCall.checking("setsockopt SO_SNDBUF") {
            cepoll_set_send_buffer(self.descriptor, CInt(clamping: octets))
        }
    }

    /// Fixes the size of the kernel's receive buffer, which ends its automatic tuning.
    package func setReceiveBuffer(octets: Int) throws(SystemError) {
        try SystemCall.checking("setsockopt SO_RCVBUF") {
            cepoll_set_receive_buffer(self.descriptor, CInt(clamping: octets))
        }
    }

    /// When the probes of an idle connection begin, their distance, and how many may go unanswered (TCP only).
    package func setKeepAlive(_ probes: SocketOptions.KeepAlive) throws(SystemError) {
        try SystemCall.checking("setsockopt TCP_KEEPIDLE") {
            cepoll_set_keep_alive_times(
                self.descriptor,
                CInt(clamping: max(1, probes.idle.saturated.components.seconds)),
                CInt(clamping: max(1, probes.interval.saturated.components.seconds)),
                CInt(clamping: max(1, probes.count))
            )
        }
    }

    /// Acknowledges what arrives next at once; the kernel soon falls back to its own judgement.
    package func setQuickAck(_ enabled: Bool) throws(SystemError) {
        try SystemCall.checking("setsockopt TCP_QUICKACK") { cepoll_set_quick_ack(self.descriptor, enabled ? 1 : 0) }
    }

    package var localAddress: SocketAddress? { self.address(cepoll_local_address) }
    package var peerAddress: SocketAddress? { self.address(cepoll_peer_address) }

    private func address(
        _ call: (CInt, UnsafeMutableRawPointer, UnsafeMutablePointer<socklen_t>) -> CInt
    ) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutableBytes(of: &storage) { bytes in
            guard let base = bytes.baseAddress, call(self.descriptor, base, &length) == 0 else { return nil }
            return SocketAddress(sockaddr: UnsafeRawBufferPointer(rebasing: bytes.prefix(Int(length))))
        }
    }
}
