// SPDX-License-Identifier: Apache-2.0
// ByteTransport: moves the octets of a StreamEngine: a socket (StreamSocket), TLS on another transport (TLSTransport), or
// memory (MemoryTransport), so that tests replace sockets. It never waits, and knows no owner and no budget.
// Threads: one holder of the right to read and one of the right to write may call it at the same time; the loop's thread
// watches and closes.

/// The octets of one stream, in both directions.
package protocol ByteTransport: AnyObject {
    /// Reads what is there, at most the room's size.
    ///
    /// `isCut` is set when the read may have stopped before the last octet that is there, although room was left.
    func read(into room: UnsafeMutableRawBufferPointer, isCut: inout Bool) -> IOResult

    /// Takes octets, as many as possible now.
    func write(_ octets: UnsafeRawBufferPointer) -> IOResult

    /// Takes octets of several chunks, as many as possible now; only of a transport that is not secured.
    func write(from cursor: ChunkCursor) -> IOResult

    /// Sends the transport's own octets; `.count` when nothing is left and `write` takes octets.
    func flush() -> IOResult

    /// As `flush`, at the end: without a step of a handshake.
    func sendRest() -> IOResult

    /// Whether a handshake and a cipher stand in between: what `write` took is sent by `flush`.
    var isSecured: Bool { get }

    /// Whether something is to be sent: by the handshake, or as an answer to what was read.
    var hasOutput: Bool { get }

    /// Octets that `flush` has sent so far: the progress of a writer that waits.
    var sentCount: Int { get }

    /// Whether plaintext may pass; at once where there is no handshake.
    var isEstablished: Bool { get }

    /// The failure behind `.failed`, where it is more specific than the system's error.
    var failure: NetworkError? { get }

    /// Announces that nothing more follows (close_notify), once.
    func sayGoodbye()

    /// Reads octets that nobody wants, as they came.
    func discard(into room: UnsafeMutableRawBufferPointer) -> IOResult

    /// Ends the sending half, after everything that was written.
    func finishWriting()

    /// Ends both directions and keeps the descriptor: for another thread inside a call.
    func shutdownBoth()

    /// Drops what was not sent; the peer sees a reset where the transport has one.
    func reset()

    /// Gives the descriptor back; further calls do nothing.
    func close()

    /// For its options and addresses alone; nil when there is none.
    var socket: StreamSocket? { get }

    /// The parameters of the TLS session, after a handshake.
    var session: TLSSession? { get }

    /// Octets that the peer does not have yet, or has not read where that can be known.
    var undelivered: Int { get }

    /// Reports events to `handler`, on the loop's thread.
    func watch(_ handler: any SocketHandler, on loop: EventLoop) throws(SystemError)

    /// Ends that; before `close`.
    func unwatch()

    /// Whether `readable` is reported; at first it is.
    func setReportsReadable(_ reports: Bool)
}

extension ByteTransport {
    package var isSecured: Bool { false }
    package var hasOutput: Bool { false }
    package var sentCount: Int { 0 }
    package var isEstablished: Bool { true }
    package var failure: NetworkError? { nil }
    package var session: TLSSession? { nil }
    package func sayGoodbye() {}
    package func flush() -> IOResult { .count(0) }
    package func sendRest() -> IOResult { .count(0) }

    package func discard(into room: UnsafeMutableRawBufferPointer) -> IOResult {
        var isCut = false
        return self.read(into: room, isCut: &isCut)
    }

    package func write(from cursor: ChunkCursor) -> IOResult {
        cursor.withFirst { self.write($0) }
    }
}

/// A socket, in the clear.
extension StreamSocket: ByteTransport {
    package var socket: StreamSocket? { self }
    package var undelivered: Int { self.unsentCount }

    package func write(from cursor: ChunkCursor) -> IOResult { cursor.withVectors { self.write(vectors: $0) } }

    package func watch(_ handler: any SocketHandler, on loop: EventLoop) throws(SystemError) {
        self.watched = Registered(loop: loop, id: try loop.register(self.descriptor, handler: handler))
    }

    package func unwatch() {
        if let watched = self.watched.take() { watched.loop.deregister(watched.id) }
    }

    package func setReportsReadable(_ reports: Bool) {
        if let watched = self.watched { watched.loop.setReportsReadable(reports, of: watched.id) }
    }

    /// The registration of the descriptor with a loop.
    struct Registered {
        let loop: EventLoop
        let id: RegistrationID
    }
}
