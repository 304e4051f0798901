// SPDX-License-Identifier: Apache-2.0

// ByteTransport: moves the octets of a StreamEngine through a socket (SocketTransport), a socket with TLS (TLSTransport),
// or memory (MemoryTransport), so that tests replace sockets. It never waits, and knows no owner and no budget.
// Threads: the one holder of the right to write calls `write` and `flush`; the loop's thread calls everything else.

/// The octets of one stream, in both directions.
package protocol ByteTransport: AnyObject {
    /// Reads what is there, at most the room's size.
    ///
    /// `isCut` is set when the read may have stopped before the last octet that is there, although room was left.
    func read(into room: UnsafeMutableRawBufferPointer, isCut: inout Bool) -> IOResult

    /// Takes octets, as many as possible now.
    func write(_ octets: UnsafeRawBufferPointer) -> IOResult

    /// Sends what the transport has to send itself; `.count` when nothing is left and `write` takes octets.
    func flush() -> IOResult

    /// Whether all writing is done by the loop's thread, through `flush`: a handshake and a cipher stand in between.
    var isSecured: Bool { get }

    /// Whether something is to be sent: by the handshake, or as an answer to what was read.
    var hasOutput: Bool { get }

    /// Whether plaintext may pass; at once where there is no handshake.
    var isEstablished: Bool { get }

    /// Why a call answered `.failed`, where that says more than the system's error.
    var failure: NetworkError? { get }

    /// Says that nothing more follows (close_notify), if it is taken at once.
    func sayGoodbye()

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

    /// Has `handler` told, on the loop's thread, what became possible.
    func watch(_ handler: any SocketHandler, on loop: EventLoop) throws(SystemError)

    /// Ends that; before `close`.
    func unwatch()

    /// Whether `readable` is reported; at first it is.
    func setReportsReadable(_ reports: Bool)
}

extension ByteTransport {
    package var isSecured: Bool { false }
    package var hasOutput: Bool { false }
    package var isEstablished: Bool { true }
    package var failure: NetworkError? { nil }
    package var session: TLSSession? { nil }
    package func sayGoodbye() {}
    package func flush() -> IOResult { .count(0) }
}

/// A registration of a descriptor with a loop.
struct SocketWatch {
    private var watched: (loop: EventLoop, id: RegistrationID)?

    mutating func begin(
        _ socket: StreamSocket,
        _ handler: any SocketHandler,
        on loop: EventLoop
    ) throws(SystemError) {
        self.watched = (loop, try loop.register(socket.descriptor, handler: handler))
    }

    mutating func end() {
        if let watched = self.watched.take() { watched.loop.deregister(watched.id) }
    }

    func setReportsReadable(_ reports: Bool) {
        if let watched { watched.loop.setReportsReadable(reports, of: watched.id) }
    }
}

/// A socket, in the clear.
package final class SocketTransport: ByteTransport {
    private let own: StreamSocket
    private var registration = SocketWatch()

    package init(_ socket: StreamSocket) { self.own = socket }

    package func read(into room: UnsafeMutableRawBufferPointer, isCut: inout Bool) -> IOResult {
        self.own.read(into: room, isCut: &isCut)
    }

    package func write(_ octets: UnsafeRawBufferPointer) -> IOResult { self.own.write(octets) }
    package func finishWriting() { self.own.finishWriting() }
    package func shutdownBoth() { self.own.shutdownBoth() }
    package func reset() { self.own.reset() }
    package func close() { self.own.close() }
    package var socket: StreamSocket? { self.own }
    package var undelivered: Int { self.own.unsentCount }

    package func watch(_ handler: any SocketHandler, on loop: EventLoop) throws(SystemError) {
        try self.registration.begin(self.own, handler, on: loop)
    }

    package func unwatch() { self.registration.end() }

    package func setReportsReadable(_ reports: Bool) { self.registration.setReportsReadable(reports) }
}
