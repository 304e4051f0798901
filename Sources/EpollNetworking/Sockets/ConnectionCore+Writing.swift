// SPDX-License-Identifier: Apache-2.0
import Glibc
import SystemPackage

// Writing: on the caller's thread, straight from the caller's octets; no buffer in between. A write returns when the
// kernel has taken everything; while the kernel takes nothing the caller is parked. One writer at a time; others
// queue in order. A write that ends early after the kernel took a part ends the writing side for good, because what
// follows would be taken for its rest.

extension ConnectionCore {
    /// Gets the writing side, in turn.
    func acquireWriter(until deadline: MonotonicTime) async throws(NetworkError) {
        if try self.flow.withLock({ (flow) throws(NetworkError) in try flow.beginWrite() }) { return }
        let id = self.flow.withLock { $0.makeID() }
        let wake = await withTaskCancellationHandler {
            await withUnsafeContinuation { (waiter: FlowWaiter) in
                let (result, mustArm) = self.flow.withLock { flow -> (ConnectionFlow.QueueResult, Bool) in
                    (flow.queueWriter(id, waiter, until: deadline), deadline < flow.armedDeadline)
                }
                switch result {
                case .mine: waiter.resume(returning: .ready)
                case .wake(let wake): waiter.resume(returning: wake)
                case .queued: if mustArm { self.arm(deadline) }
                }
            }
        } onCancel: {
            self.flow.withLock { $0.takeQueued(id) }?.resume(returning: .cancelled)
        }
        switch wake {
        case .cancelled: throw .taskCancelled("Writing")
        case .timedOut: throw .stalled(self.name)
        case .ended: throw self.flow.withLock { $0.writeFailure } ?? .closed
        case .ready:
            // The side is ours, but the writer before may have ended it.
            if let failure = self.flow.withLock({ $0.writeFailure }) {
                self.releaseWriter()
                throw failure
            }
        }
    }

    func releaseWriter(isFinal: Bool = false, failure: NetworkError? = nil) {
        let (next, isEnding) = self.flow.withLock { flow in
            (flow.endWrite(isFinal: isFinal, failure: failure), flow.mayCloseDescriptor)
        }
        next?.resume(returning: .ready)
        if isEnding { self.callLoop() }
    }

    /// Waits until the kernel takes octets again; the caller has the writing side.
    func waitToWrite(until deadline: MonotonicTime) async throws(NetworkError) {
        let wake = await withTaskCancellationHandler {
            await withUnsafeContinuation { (waiter: FlowWaiter) in
                let (wake, mustArm) = self.flow.withLock { flow -> (Wake?, Bool) in
                    let wake = flow.parkWriter(waiter, until: deadline)
                    return (wake, wake == nil && deadline < flow.armedDeadline)
                }
                if let wake { waiter.resume(returning: wake) } else if mustArm { self.arm(deadline) }
            }
        } onCancel: {
            self.flow.withLock { $0.takeWriter() }?.resume(returning: .cancelled)
        }
        switch wake {
        case .cancelled: throw .taskCancelled("Writing")
        case .timedOut: throw .stalled(self.name)
        case .ready, .ended: if let failure = self.flow.withLock({ $0.readFailure }) { throw failure }
        }
    }

    /// Hands `count` octets to the kernel; `send` writes from an offset on and says how many were taken.
    ///
    /// The caller has the writing side and gives it back.
    func send(
        _ count: Int,
        until deadline: MonotonicTime,
        _ send: (Int) -> IOResult
    ) async throws(NetworkError) {
        var sent = 0
        while sent < count {
            switch send(sent) {
            case .count(let taken): sent += taken
            case .endOfStream: throw .closed
            case .failed(let error): throw NetworkError(connection: self.name, error)
            case .wouldBlock:
                do throws(NetworkError) {
                    try await self.waitToWrite(until: deadline)
                } catch {
                    throw sent == 0 ? error : error.afterPart
                }
            }
        }
    }

    /// Writes octets in one piece.
    func write(_ octets: RawSpan, timeout: Duration?) async throws(NetworkError) {
        let deadline = self.deadline(timeout, default: self.writeTimeout)
        try await self.acquireWriter(until: deadline)
        do throws(NetworkError) {
            #if TLS
                if let link = self.tls {
                    try await self.send(octets, through: link, until: deadline)
                    return self.releaseWriter()
                }
            #endif
            try await self.send(octets.byteCount, until: deadline) { offset in
                octets.withUnsafeBytes { self.socket.write(UnsafeRawBufferPointer(rebasing: $0[offset...])) }
            }
        } catch {
            throw self.writeEnded(error)
        }
        self.releaseWriter()
    }

    /// Writes several chunks with as few system calls as the kernel allows.
    func write(_ chunks: [ByteChunk], timeout: Duration?) async throws(NetworkError) {
        let deadline = self.deadline(timeout, default: self.writeTimeout)
        try await self.acquireWriter(until: deadline)
        var cursor = ChunkCursor(chunks)
        let total = cursor.remaining
        do throws(NetworkError) {
            #if TLS
                if let link = self.tls {
                    for chunk in chunks { try await self.send(chunk.bytes, through: link, until: deadline) }
                    return self.releaseWriter()
                }
            #endif
            try await self.send(total, until: deadline) { _ in
                let result = cursor.withVectors { self.socket.write(vectors: $0) }
                if case .count(let count) = result { cursor.advance(count) }
                return result
            }
        } catch {
            throw self.writeEnded(error)
        }
        self.releaseWriter()
    }

    func writeEnded(_ error: NetworkError) -> NetworkError {
        let isGivenUp = error.kind == .cancelled || error.kind == .timedOut
        // Given up before the first octet: as if it had not been. Given up in the middle: nothing can follow.
        self.releaseWriter(
            isFinal: isGivenUp && !error.leavesConnectionUsable,
            failure: isGivenUp || error == .closed ? nil : error
        )
        return error
    }

    /// Ends the writing half when everything before it was written.
    func finish(timeout: Duration?) async throws(NetworkError) {
        let deadline = self.deadline(timeout, default: self.writeTimeout)
        do throws(NetworkError) {
            try await self.acquireWriter(until: deadline)
        } catch {
            if error == .finished { return }
            throw error
        }
        #if TLS
            if let link = self.tls {
                link.engine.withLock { $0.finish() }
                do throws(NetworkError) { try await self.flush(link, until: deadline) } catch {
                    throw self.writeEnded(error.afterPart)
                }
            }
        #endif
        self.socket.finishWriting()
        self.releaseWriter(isFinal: true)
    }
}
