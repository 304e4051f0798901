// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import SystemPackage

// StreamEngine: one stream: its events, when to read and how much, what a full socket, a lost peer and the end mean. Two kinds
// of owners use it. An owner on the loop's thread (the AMQP client and the test brokers) has octets read into its room within a
// budget. ConnectionCore, whose tasks read and write on any thread, gets the events as they are, and moves octets with `receive`
// and `send` while it holds a side; its end is the same.
// Not here: tasks that wait (ConnectionCore), how octets move (ByteTransport), how long an end may take (Linger).
// Loop thread only, except: `send` belongs to the one holder of the right to write, `receive` to that of the right to read;
// `secure` to the holder of both; `shutdownBoth` and `abandon` as documented.
//
//   events -> [streamRoom -> read -> streamReceived]* -> streamRested     at most `readsPerTurn` times, then the next turn
//   events -> streamWritable -> send -> sent(_:)
//   close(), reset() -> no further call to the owner -> [rest, FIN, discard] -> close(2)

/// The owner of a stream, called on the loop's thread.
package protocol StreamOwner: AnyObject {
    /// Takes an event; true when the owner deals with it, false when the engine is to write and read.
    func streamReady(_ events: ReadyEvents) -> Bool

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

extension StreamOwner {
    package func streamReady(_ events: ReadyEvents) -> Bool { false }
}

/// The observer of an end in order, called on the loop's thread.
protocol StreamEndObserver: AnyObject {
    /// Whether somebody waits until the peer's system has everything.
    var awaitsDelivery: Bool { get }
    /// The peer's system has everything that was written.
    func streamDelivered()
    /// The peer was lost before that.
    func streamLost(_ error: SystemError)
    /// The descriptor is about to be closed.
    func streamClosing()
    /// The descriptor has been closed.
    func streamClosed(isLoopStopped: Bool)
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
    private var transport: any ByteTransport
    /// Whether a cipher stands in between: then an owner on the loop's thread writes on that thread only.
    package private(set) var isSecured: Bool
    private let readsPerTurn: Int

    private var owner: (any StreamOwner)?
    private var readiness = ReadReadiness()
    /// The socket took no more, or was not tried yet: the next event that says writable counts.
    private var awaitsRoom = true
    /// A read is due in the next turn, without an event.
    private var readsAgain = false
    /// Why nothing can be written any more, while what the peer sent before is read.
    private var writeFailure: SystemError?
    private var ending: Ending?

    private final class Ending {
        var linger: Linger
        var timer: TimerID?
        let terms: EndTerms
        /// The sending half has been ended.
        var isFinished: Bool

        init(_ terms: EndTerms) {
            self.terms = terms
            self.isFinished = terms.isWriteFinished
            self.linger = Linger(terms.time, hasFailed: terms.hasFailed, at: .now)
        }
    }

    /// The state of a stream when its end begins.
    struct EndTerms {
        /// How long the peer may take without progress; zero closes at once.
        var time: Duration
        /// After a violation, which the peer only needs to learn of.
        var hasFailed = true
        /// The peer has ended already.
        var hasInputEnded = false
        /// The sending half has been ended already.
        var isWriteFinished = false
        /// A write was given up in the middle: the end must not look like one in order.
        var isWriteCut = false
        var observer: (any StreamEndObserver)?
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
            self.isWatched = true
        } catch {
            self.owner = nil
            throw error
        }
    }

    /// Whether the loop reports events.
    private(set) var isWatched = false

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
        if self.owner?.streamReady(events) == true {
            // The last event.
            if events.has(.loopStopped) { self.owner = nil }
            return
        }
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

    /// One read, for the holder of the right to read.
    func receive(into room: UnsafeMutableRawBufferPointer) -> (IOResult, ReadReadiness.Effect) {
        var isCut = false
        let result = self.transport.read(into: room, isCut: &isCut)
        return (result, ReadReadiness.Effect(result, room: room.count, isCut: isCut))
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

    /// Sends chunks from where the cursor stands, which is moved on.
    ///
    /// Small chunks share a system call, and with TLS a record.
    func send(from cursor: inout ChunkCursor) -> SendEnd {
        guard self.isSecured else {
            while cursor.remaining > 0 {
                let result = self.transport.write(from: cursor)
                guard case .count(let count) = result else { return Self.end(result) }
                cursor.advance(count)
            }
            return .drained
        }
        let storage = self.loop.chunks.take()
        defer { self.loop.chunks.release(storage) }
        while true {
            let result = self.transport.flush()
            guard case .count = result else { return Self.end(result) }
            guard cursor.remaining > 0 else { return .drained }
            let filled = cursor.copy(into: storage.room)
            let written = self.transport.write(UnsafeRawBufferPointer(rebasing: storage.room[..<filled]))
            guard case .count(let count) = written else { return Self.end(written) }
            cursor.advance(count)
        }
    }

    /// Octets that a cipher's output has sent so far: the progress of a writer that waits.
    var sentCount: Int { self.isSecured ? self.transport.sentCount : 0 }

    static func end(_ result: IOResult) -> SendEnd {
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
            #if DELIBERATE_FAULTS
                if DeliberateFault.happens(.roomForgotten) { return false }
            #endif
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

    /// Announces the end to the peer, and sends what is left; `.count` when that is all.
    func sendGoodbye() -> IOResult {
        self.transport.sayGoodbye()
        return self.transport.sendRest()
    }

    /// Ends the sending half alone, without an announcement.
    func cutWriting() { self.transport.finishWriting() }

    /// Closes; the owner is told nothing more.
    ///
    /// - Parameter time: How long the peer may take to read what was sent, and end: at once with zero, and then octets of
    ///   the peer that are unread or under way destroy what it has not read yet (TCP).
    package func close(lingering time: Duration = .zero) {
        self.close(EndTerms(time: self.writeFailure == nil ? time : .zero))
    }

    /// Closes; the owner is told nothing more, the observer is.
    func close(_ terms: EndTerms) {
        self.owner = nil
        guard self.ending == nil else { return }
        let ending = Ending(terms)
        self.ending = ending
        guard terms.time > .zero, !self.loop.core.hasStopped else {
            // As much of it as the kernel takes at once.
            if !terms.isWriteCut, !terms.isWriteFinished { _ = self.sendGoodbye() }
            return self.closeNow(isReset: false)
        }
        self.continueEnding(isStopped: false)
    }

    /// Drops what the peer does not have yet.
    package func reset() {
        self.owner = nil
        if self.ending == nil { self.ending = Ending(EndTerms(time: .zero)) }
        self.closeNow(isReset: true)
    }

    /// As `reset`, reported to the observer.
    func reset(_ observer: any StreamEndObserver) {
        if self.ending == nil { self.ending = Ending(EndTerms(time: .zero, observer: observer)) }
        self.reset()
    }

    /// Closes the descriptor when there is no loop any more; any thread.
    func abandon(isReset: Bool) {
        if isReset { self.transport.reset() } else { self.transport.close() }
    }

    private func closeNow(isReset: Bool, isLoopStopped: Bool = false) {
        guard let ending = self.ending.take() else { return }
        if let timer = ending.timer { self.loop.cancel(timer) }
        // Before the descriptor is closed, so that no event of its successor is taken for one of this.
        self.transport.unwatch()
        ending.terms.observer?.streamClosing()
        if isReset { self.transport.reset() } else { self.transport.close() }
        ending.terms.observer?.streamClosed(isLoopStopped: isLoopStopped)
    }

    /// Advances the end; for every event, and when a time is over.
    private func continueEnding(isStopped: Bool) {
        guard let ending = self.ending else { return }
        if let timer = ending.timer.take() { self.loop.cancel(timer) }
        let next = self.lingerStep(ending, at: .now)
        // An observer may have reset it.
        guard self.ending === ending else { return }
        guard !isStopped, let next else { return self.closeNow(isReset: false, isLoopStopped: isStopped) }
        ending.timer = self.loop.schedule(self, at: next)
    }

    /// Sends, finishes and discards as far as that is possible now; nil when the descriptor is to be closed, else when to
    /// look again.
    private func lingerStep(_ ending: Ending, at now: MonotonicTime) -> MonotonicTime? {
        let terms = ending.terms
        var hasSentAll = true
        if !ending.isFinished {
            switch terms.isWriteCut ? .count(0) : self.sendGoodbye() {
            case .count where terms.hasInputEnded:
                // close(2) ends the sending half, and nothing can arrive that would make it a reset.
                terms.observer?.streamDelivered()
                return nil
            case .count:
                if self.remaining == 0 { terms.observer?.streamDelivered() }
                self.transport.finishWriting()
                ending.isFinished = true
            case .wouldBlock: hasSentAll = false
            case .endOfStream: return nil
            case .failed(let error):
                terms.observer?.streamLost(error)
                return nil
            }
        }
        let found = terms.hasInputEnded ? .ended : self.discardInput()
        if found == .moved { ending.linger.moved(at: now) }
        if hasSentAll {
            let remaining = self.remaining
            if remaining == 0 || found == .ended { terms.observer?.streamDelivered() }
            ending.linger.remains(remaining, at: now)
        }
        switch found {
        case .ended: if hasSentAll { return nil }
        case .failed(let error):
            terms.observer?.streamLost(error)
            return nil
        case .moved, .nothing: break
        case .more: self.loop.enqueue(self)
        }
        return ending.linger.next(at: now, isAwaited: terms.observer?.awaitsDelivery ?? false)
    }

    /// Octets that the peer's system does not have yet; a Unix socket hands them over at once.
    private var remaining: Int {
        guard let socket = self.transport.socket else { return 0 }
        return socket.isUnix ? 0 : socket.unsentCount
    }

    /// Reads what the peer still sends; nobody wants it.
    private func discardInput() -> Linger.Discarded {
        let storage = self.loop.chunks.take()
        defer { self.loop.chunks.release(storage) }
        return Linger.discard(into: storage.room) { self.transport.discard(into: $0) }
    }
}

// MARK: - TLS

extension StreamEngine {
    /// TLS on top of the transport, for the handshake; `secure` follows.
    func makeTLS(_ engine: consuming TLSEngine) -> TLSTransport { TLSTransport(self.transport, engine) }

    /// Everything goes through TLS from now on; for the holder of both sides.
    func secure(_ transport: TLSTransport) {
        self.transport = transport
        self.isSecured = true
    }

    /// After the peer hung up: an alert that it sent before becomes the failure; for the holder of the right to read.
    func lookForAlert() { (self.transport as? TLSTransport)?.lookForAlert() }
}
