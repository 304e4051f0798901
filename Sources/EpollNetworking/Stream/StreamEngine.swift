// SPDX-License-Identifier: Apache-2.0
import SystemPackage

// StreamEngine: one stream for an owner that lives on a loop's thread, as the AMQP client and the test brokers do: when to
// read and how much, what a full socket, a lost peer and the end mean. The owner has the buffers and the meaning; it asks
// for no descriptor and sees no event.
// Not here: tasks that wait on any thread (ConnectionCore, for StreamConnection), which judges reads and ends by the same
// values (ReadReadiness, Linger); how octets move (ByteTransport).
// Loop thread only, but for `send`, which belongs to the one holder of the right to write, and `shutdownBoth`.
// Unsafe: unchecked, because every read touches them; no access lasts while other code runs.
//
//   events -> [streamRoom -> read -> streamReceived]* -> streamRested     at most `readsPerTurn` times, then the next turn
//   events -> streamWritable -> send -> sent(_:)
//   close(), reset() -> no further call to the owner -> [FIN, discard] -> close(2)

/// The owner of a stream, called on the loop's thread.
package protocol StreamOwner: AnyObject {
    /// Where the next octets go, not empty; nil when nothing is to be read until the owner calls `read()`.
    func streamRoom() -> UnsafeMutableRawBufferPointer?

    /// So many octets were put into the room.
    func streamReceived(_ count: Int)

    /// Reading stops for now.
    ///
    /// - Parameter hasEmptied: Whether nothing was left in the socket.
    func streamRested(hasEmptied: Bool)

    /// Writing may succeed again, or the transport has something to send: call `send`.
    func streamWritable()

    /// Nothing more can be read, and everything before was; the owner closes.
    func streamEnded(_ end: StreamEnd)
}

/// Why a stream is over.
package enum StreamEnd: Equatable, Sendable {
    /// The peer has finished.
    case endOfStream
    /// Reading or writing failed; of both, why writing did.
    case failed(SystemError)
    /// The loop has been shut down.
    case loopStopped
}

package final class StreamEngine: SocketHandler, LoopWork, @unchecked Sendable {
    package let loop: EventLoop
    private let transport: any ByteTransport
    /// Only the loop's thread may write.
    package let isSecured: Bool
    private let readsPerTurn: Int

    @exclusivity(unchecked) private var owner: (any StreamOwner)?
    @exclusivity(unchecked) private var readiness = ReadReadiness()
    /// The socket took no more, or was not tried yet: the next event that says writable counts.
    @exclusivity(unchecked) private var awaitsRoom = true
    /// A read is due in the next turn, without an event.
    @exclusivity(unchecked) private var readsAgain = false
    /// Why nothing can be written any more, while what the peer sent before is read.
    private var writeFailure: SystemError?
    private var ending: Ending?

    private final class Ending {
        var linger: Linger
        var timer: TimerID?
        init(_ linger: Linger) { self.linger = linger }
    }

    /// - Parameters:
    ///   - transport: Is taken over.
    ///   - loop: Whose thread reads.
    ///   - readsPerTurn: Reads of this stream per turn of the loop, so that none starves the others.
    package init(_ transport: any ByteTransport, on loop: EventLoop, readsPerTurn: Int) {
        self.transport = transport
        self.loop = loop
        self.readsPerTurn = readsPerTurn
        self.isSecured = transport.isSecured
    }

    /// Begins to report to `owner`, which is kept until the stream is closed.
    package func start(_ owner: any StreamOwner) throws(SystemError) {
        self.owner = owner
        do throws(SystemError) {
            try self.transport.watch(self, on: self.loop)
        } catch {
            self.owner = nil
            throw error
        }
    }

    /// The peer has ended, in some way: no more comes than the kernel holds.
    package var isPeerOver: Bool { self.readiness.isOver }

    /// Whether the transport itself has octets to send, or its handshake is not done.
    package var hasOutput: Bool { self.isSecured && self.transport.hasOutput }

    /// Why the stream broke, where that says more than the system's error.
    package var failure: NetworkError? { self.transport.failure }

    /// For its options and addresses alone; nil when there is none.
    package var socket: StreamSocket? { self.transport.socket }

    /// The parameters of the TLS session, after the handshake.
    package var session: TLSSession? { self.transport.session }

    /// Octets that the peer does not have yet, or has not read where that can be known.
    package var undelivered: Int { self.transport.undelivered }

    /// Whether events say that there is something to read; ends and room to write are always reported.
    package func setReportsReadable(_ reports: Bool) { self.transport.setReportsReadable(reports) }
}

// MARK: - Events

extension StreamEngine {
    package func socketReady(_ events: ReadyEvents) {
        if self.ending != nil { return self.continueEnding(isStopped: events.has(.loopStopped)) }
        if events.has(.loopStopped) {
            self.owner?.streamEnded(.loopStopped)
            return self.close()
        }
        // Each event that says readable says writable too.
        if self.awaitsRoom, events.has(.writable) { self.owner?.streamWritable() }
        if self.readiness.received(events) { self.read() }
    }

    /// A read that is due without an event, or a step of the end.
    package func runOnLoop() {
        if self.ending != nil { return self.continueEnding(isStopped: false) }
        guard self.readsAgain else { return }
        self.read()
    }

    package func loopStopped() { self.ending?.timer = nil }

    /// Reads in the next turn, even without an event.
    package func readAgain() {
        self.readsAgain = true
        self.loop.enqueue(self)
    }
}

// MARK: - Reading

extension StreamEngine {
    /// Reads as long as there is something and the owner has room, within the budget of a turn.
    package func read() {
        self.readsAgain = false
        for _ in 0..<self.readsPerTurn {
            guard let owner = self.owner else { return }
            guard let room = owner.streamRoom() else { return owner.streamRested(hasEmptied: false) }
            self.readiness.begin()
            var isCut = false
            let result = self.receive(into: room, &isCut)
            self.readiness.ended(ReadReadiness.Effect(result, room: room.count, isCut: isCut))
            // Writing may have ended it.
            guard self.owner != nil else { return }
            switch result {
            case .count(let count):
                owner.streamReceived(count)
                guard self.owner != nil else { return }
                if !self.readiness.isReadable { return owner.streamRested(hasEmptied: true) }
            case .wouldBlock:
                owner.streamRested(hasEmptied: true)
                // Everything that the peer sent before has been read.
                if let failure = self.writeFailure { self.owner?.streamEnded(.failed(failure)) }
                return
            case .endOfStream:
                owner.streamRested(hasEmptied: false)
                self.owner?.streamEnded(self.writeFailure.map { .failed($0) } ?? .endOfStream)
                return
            case .failed(let error):
                owner.streamRested(hasEmptied: false)
                self.owner?.streamEnded(.failed(self.writeFailure ?? error))
                return
            }
        }
        self.owner?.streamRested(hasEmptied: false)
        // With edges only, no event would say that there is more.
        if self.owner != nil { self.readAgain() }
    }

    @inline(__always)
    private func receive(into room: UnsafeMutableRawBufferPointer, _ isCut: inout Bool) -> IOResult {
        guard self.isSecured else { return self.transport.read(into: room, isCut: &isCut) }
        let wasEstablished = self.transport.isEstablished
        let result = self.transport.read(into: room, isCut: &isCut)
        // The handshake is done, or the peer is to be answered: what waits may go.
        if self.transport.hasOutput || !wasEstablished, self.transport.failure == nil { self.owner?.streamWritable() }
        return result
    }
}

// MARK: - Writing

extension StreamEngine {
    /// The result of an attempt to send.
    package enum SendEnd: Equatable, Sendable {
        /// The transport has taken everything, and sent what it had itself.
        case drained
        /// It takes no more for now.
        case full
        case failed(SystemError)
    }

    /// Sends octets from `offset` on, which is moved on.
    ///
    /// For the one holder of the right to write: with TLS the loop's thread, else any.
    package func send(_ octets: UnsafeRawBufferPointer, from offset: inout Int) -> SendEnd {
        while true {
            if self.isSecured {
                let result = self.transport.flush()
                guard case .count = result else { return Self.end(result) }
            }
            guard offset < octets.count else { return .drained }
            let result = self.transport.write(UnsafeRawBufferPointer(rebasing: octets[offset...]))
            guard case .count(let count) = result else { return Self.end(result) }
            offset += count
        }
    }

    private static func end(_ result: IOResult) -> SendEnd {
        switch result {
        case .count: .drained
        case .wouldBlock: .full
        case .endOfStream: .failed(SystemError(errno: .brokenPipe, call: "send"))
        case .failed(let error): .failed(error)
        }
    }

    /// Notes on the loop's thread how sending ended; true when more may follow.
    ///
    /// After a failure the peer's last octets are read before the owner is told.
    package func sent(_ end: SendEnd) -> Bool {
        switch end {
        case .drained:
            self.awaitsRoom = false
            return true
        case .full:
            self.awaitsRoom = true
        case .failed(let error):
            if self.writeFailure == nil { self.writeFailure = error }
            self.readiness.writingFailed()
            self.readAgain()
        }
        return false
    }

    /// Whether sending is worth an attempt.
    package var canSend: Bool { self.writeFailure == nil }
}

// MARK: - The end

extension StreamEngine {
    /// Ends the sending half after what was sent.
    package func finishWriting() {
        self.transport.sayGoodbye()
        self.transport.finishWriting()
    }

    /// Ends both directions, while another thread may be sending; `close` follows.
    package func shutdownBoth() {
        self.owner = nil
        self.transport.shutdownBoth()
    }

    /// Closes; the owner is told nothing more.
    ///
    /// - Parameter time: How long the peer may take to read what was sent, and end: at once with zero, and then octets of
    ///   the peer that are unread or under way destroy what it has not read yet (TCP).
    package func close(lingering time: Duration = .zero) {
        self.owner = nil
        guard self.ending == nil else { return }
        self.transport.sayGoodbye()
        guard time > .zero, self.writeFailure == nil, !self.loop.core.hasStopped else { return self.closeNow() }
        self.transport.finishWriting()
        self.ending = Ending(Linger(time, hasFailed: true, at: .now))
        self.continueEnding(isStopped: false)
    }

    /// Drops what the peer does not have yet.
    package func reset() {
        self.owner = nil
        self.ending = nil
        self.transport.unwatch()
        self.transport.reset()
    }

    private func closeNow() {
        // Before the descriptor is closed, so that no event of its successor is taken for one of this.
        self.transport.unwatch()
        self.transport.close()
    }

    /// One step of an ending: discards, and closes when the peer has ended or the time is over.
    private func continueEnding(isStopped: Bool) {
        guard let ending = self.ending else { return }
        if let timer = ending.timer.take() { self.loop.cancel(timer) }
        let now = MonotonicTime.now
        let storage = self.loop.chunks.take()
        defer { self.loop.chunks.giveBack(storage) }
        let transport = self.transport
        var isCut = false
        let found = Linger.discard(into: storage.room) { transport.read(into: $0, isCut: &isCut) }
        switch found {
        case .moved: ending.linger.moved(at: now)
        case .more: self.loop.enqueue(self)
        case .nothing: break
        case .ended, .failed:
            self.ending = nil
            return self.closeNow()
        }
        guard !isStopped, let next = ending.linger.next(at: now, isAwaited: false) else {
            self.ending = nil
            return self.closeNow()
        }
        ending.timer = self.loop.schedule(self, at: next)
    }
}
