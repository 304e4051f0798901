// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import Glibc
import SystemPackage

// Writing: on the caller's thread, straight from the caller's octets; no buffer in between. A write returns when the
// kernel has taken everything; while the kernel takes nothing the caller is parked. One writer at a time; others
// queue in order. A write that ends early after the kernel took a part ends the writing half for good, because what
// follows would be taken for its rest.

extension ConnectionCore {
    /// The limits of a call; the clock is only read where there is one.
    @inline(never)
    func limit(_ timeout: Duration?, _ total: Duration?) -> WriteLimit {
        WriteLimit(timeout: timeout ?? self.terms.writeTimeout, end: total.map { .now + $0 } ?? .distantFuture)
    }

    /// Waits until the writing side, which another has, is handed over: in a frame of its own, which is large.
    @inline(never)
    func waitForTurn(_ limit: WriteLimit) async throws(NetworkError) {
        let id = self.flow.withLock { $0.makeID() }
        let wake = await withCancellableSuspension(
            onCancel: { self.flow.withLock { $0.takeQueued(id) }?.resume(returning: .cancelled) },
            { (waiter: FlowWaiter) in
                let (result, armed) = self.flow.withLock { flow in
                    (flow.queueWriter(id, waiter, limit), flow.armedDeadline)
                }
                switch result {
                case .mine: waiter.resume(returning: .ready)
                case .wake(let wake): waiter.resume(returning: wake)
                case .queued(let deadline): if deadline < armed { self.arm(deadline) }
                }
            }
        )
        switch wake {
        case .cancelled: throw .taskCancelled("Writing")
        case .timedOut: throw .stalled(self.name)
        case .ended: throw self.flow.withLock { $0.writeFailure } ?? .closed
        case .ready:
            let side = self.handedWriteSide()
            // The writer before may have ended it.
            if let failure = self.flow.withLock({ $0.writeFailure }) { throw failure }
            side.leave()
        }
    }

    /// Waits until the kernel takes octets again.
    ///
    /// Only the holder of the writing side may: it is asked for as a proof.
    func waitToWrite(_ side: borrowing WriteSide, until deadline: MonotonicTime) async throws(NetworkError) {
        let wake = await withCancellableSuspension(
            onCancel: { self.flow.withLock { $0.takeWriter() }?.resume(returning: .cancelled) },
            { (waiter: FlowWaiter) in
                let (wake, mustArm) = self.flow.withLock { flow -> (Wake?, Bool) in
                    let wake = flow.parkWriter(waiter, until: deadline)
                    return (wake, wake == nil && deadline < flow.armedDeadline)
                }
                if let wake { waiter.resume(returning: wake) } else if mustArm { self.arm(deadline) }
                if wake == nil { FairShare.renew() }
            }
        )
        switch wake {
        case .cancelled: throw .taskCancelled("Writing")
        case .timedOut: throw .stalled(self.name)
        case .ready, .ended: if let failure = self.flow.withLock({ $0.readFailure }) { throw failure }
        }
    }

    /// Sends until `attempt` has nothing left; it sends what the kernel takes, and answers nil when that was the last.
    ///
    /// The time limit begins anew whenever this kernel or the peer's has taken something: this one reports room only when a
    /// third of its buffer is free.
    func send(
        _ side: borrowing WriteSide,
        _ limit: WriteLimit,
        hasBegun: Bool = false,
        _ attempt: () throws(NetworkError) -> (taken: Int, isDone: Bool)
    ) async throws(NetworkError) {
        var hasBegun = hasBegun
        var deadline: MonotonicTime?
        var undelivered = 0
        while true {
            let (taken, isDone) = try attempt()
            FairShare.charge(octets: taken)
            if taken > 0 {
                hasBegun = true
                if deadline.take() != nil { self.noteProgress() }
            }
            if isDone { return }
            if taken > 0 {
                if FairShare.isUsedUp { await FairShare.yield() }
                continue
            }
            if deadline == nil, limit.timeout != nil { undelivered = side.undelivered }
            let end = deadline ?? limit.deadline()
            deadline = end
            do throws(NetworkError) {
                try await self.waitToWrite(side, until: end)
            } catch {
                if error.kind == .timedOut, MonotonicTime.now < limit.end {
                    let before = undelivered
                    undelivered = side.undelivered
                    if undelivered < before {
                        deadline = limit.deadline()
                        self.noteProgress()
                        continue
                    }
                }
                throw hasBegun ? error.afterPart : error
            }
        }
    }

    @inline(never)
    private func noteProgress() {
        let now = MonotonicTime.now
        self.flow.withLock { $0.noteProgress(at: now) }
    }

    /// The result of one attempt: the progress it made, and whether that was the last.
    private func progress(
        _ end: StreamEngine.SendEnd,
        _ moved: Int,
        _ side: borrowing WriteSide,
        since before: Int
    ) throws(NetworkError) -> (taken: Int, isDone: Bool) {
        switch end {
        case .drained: return (moved, true)
        case .full: return (moved + side.sentCount - before, false)
        case .failed(let error): throw self.writeFailure(error)
        }
    }

    /// An alert of the peer before it hung up, such as a refused certificate, is more specific than the system's error.
    private func writeFailure(_ error: SystemError) -> NetworkError {
        // A reader that waits finds it by itself.
        if self.isSecured, let side = (try? self.takeReadSide(isLook: true)) ?? nil {
            side.lookForAlert()
            side.end(.more)
        }
        return self.failure(error)
    }

    /// Writes octets in one piece.
    func write(_ octets: RawSpan, _ limit: WriteLimit) async throws(NetworkError) {
        if FairShare.isUsedUp { await FairShare.yield() }
        if try !self.beginsWriting() { try await self.waitForTurn(limit) }
        let side = self.handedWriteSide()
        do throws(NetworkError) {
            var sent = 0
            try await self.send(side, limit) { () throws(NetworkError) in
                let (before, offset) = (side.sentCount, sent)
                let end = octets.withUnsafeBytes { side.send($0, from: &sent) }
                return try self.progress(end, sent - offset, side, since: before)
            }
        } catch {
            throw self.writeEnded(side, error)
        }
        side.end(.open)
    }

    /// Writes several chunks with as few system calls as the kernel allows.
    func write(_ chunks: [ByteChunk], _ limit: WriteLimit) async throws(NetworkError) {
        if FairShare.isUsedUp { await FairShare.yield() }
        if try !self.beginsWriting() { try await self.waitForTurn(limit) }
        let side = self.handedWriteSide()
        var cursor = ChunkCursor(chunks)
        do throws(NetworkError) {
            try await self.send(side, limit) { () throws(NetworkError) in
                let (before, remaining) = (side.sentCount, cursor.remaining)
                let end = side.send(from: &cursor)
                return try self.progress(end, remaining - cursor.remaining, side, since: before)
            }
        } catch {
            throw self.writeEnded(side, error)
        }
        side.end(.open)
    }

    /// Gives the writing side back after a failure.
    ///
    /// Given up before the first octet: as if it had not been. Given up in the middle: nothing can follow, and the peer is
    /// told so by the end of the stream; with TLS it lacks the close_notify.
    func writeEnded(_ side: consuming WriteSide, _ error: NetworkError) -> NetworkError {
        switch error.kind {
        case .cancelled, .timedOut, .closed:
            if error.underlying != nil { break }
            if error.leavesConnectionUsable || !error.isAfterPart {
                side.end(.open)
            } else {
                // An end before the reset could be taken for the end of everything.
                if self.flow.withLock({ $0.ending != .reset }) { side.finishWriting() }
                side.end(.cut)
            }
            return error
        default: break
        }
        side.end(.open, failure: error)
        return error
    }

    /// Ends the writing half when everything before it was written.
    func finish(_ limit: WriteLimit) async throws(NetworkError) {
        do throws(NetworkError) {
            if try !self.beginsWriting() { try await self.waitForTurn(limit) }
        } catch {
            if error == .finished { return }
            throw error
        }
        let side = self.handedWriteSide()
        do throws(NetworkError) {
            try await self.send(side, limit, hasBegun: true) { () throws(NetworkError) in
                let before = side.sentCount
                let end = StreamEngine.end(side.sendGoodbye())
                return try self.progress(end, 0, side, since: before)
            }
        } catch {
            throw self.writeEnded(side, error.afterPart)
        }
        side.finishWriting()
        side.end(.finished)
    }
}
