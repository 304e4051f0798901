// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import SystemPackage

// Reading: on the caller's thread, without waiting when there is something; else the caller is parked until the loop
// reports readiness. A read that leaves room in its buffer has emptied the socket, so that the next one parks without
// a system call; not so where a read stops at a mark (urgent data of TCP, descriptors on a Unix socket). Between two
// reads a connection holds no buffer unless the last chunk is still in use.
//
// Most connections of a server wait here, each in a task that keeps the frames of its async functions. Functions that
// do not wait are therefore marked @inline(never): inlined, their variables would be in the frame of one that does.
// Together the frames fit into the first block of a task, of 1 KiB; one more, and it has a second.

extension ConnectionCore {
    /// Reads what is there into `room`, which is not empty, and gives the reading side back; nil when there is nothing.
    ///
    /// - Parameters:
    ///   - side: The reading side.
    ///   - room: Where the octets go.
    ///   - storage: Where `room` is, to be kept for the next read.
    /// - Returns: How many octets; 0 at the end of the stream.
    /// - Throws: Why nothing can be read any more.
    func performRead(
        _ side: consuming ReadSide,
        into room: UnsafeMutableRawBufferPointer,
        of storage: ChunkStorage? = nil
    ) throws(NetworkError) -> Int? {
        let (result, effect) = side.read(into: room)
        return try self.readEnded(side, result, effect, of: storage)
    }

    /// Gives the reading side back after a read.
    func readEnded(
        _ side: consuming ReadSide,
        _ result: IOResult,
        _ effect: ReadReadiness.Effect,
        of storage: ChunkStorage? = nil
    ) throws(NetworkError) -> Int? {
        switch result {
        case .count(let count):
            FairShare.charge(octets: count)
            side.end(effect, keeping: storage)
            return count
        case .endOfStream:
            if let failure = side.end(effect) { throw failure }
            return 0
        case .wouldBlock:
            side.end(effect, keeping: storage)
            return nil
        case .failed(let error):
            let failure = self.failure(error)
            side.end(effect, failure: failure)
            throw failure
        }
    }

    /// Waits until a read may find something.
    func waitToRead(until deadline: MonotonicTime, _ what: ReadWait = .octets) async throws(NetworkError) {
        let wake = await withCancellableSuspension(self) { (waiter: FlowWaiter) in
            let (wake, mustArm) = self.flow.withLock { flow -> (Wake?, Bool) in
                let wake = flow.parkReader(waiter, until: deadline)
                return (wake, wake == nil && deadline < flow.armedDeadline)
            }
            if let wake { waiter.resume(returning: wake) } else if mustArm { self.arm(deadline) }
            if wake == nil { FairShare.renew() }
        }
        try self.checkWake(wake, what)
    }

    /// The task of the reader was cancelled.
    func taskCancelled() { self.flow.withLock { $0.takeReader() }?.resume(returning: .cancelled) }

    /// The event a reader waits for; errors name it.
    enum ReadWait: String {
        case octets = "Reading"
        case handshake = "The TLS handshake"
        case peer = "Accepting"
    }

    /// Throws what ended the wait, unless reading may continue.
    @inline(never)
    private func checkWake(_ wake: Wake, _ what: ReadWait) throws(NetworkError) {
        switch wake {
        case .ready, .ended: return
        case .cancelled: throw .taskCancelled(what.rawValue)
        case .timedOut: throw what == .peer ? .nobodyConnected : .silent(self.name)
        }
    }

    /// Has the loop look at the deadlines again.
    func arm(_ deadline: MonotonicTime) {
        self.flow.withLock { $0.armedDeadline = min($0.armedDeadline, deadline) }
        self.callLoop()
    }

    /// When a call that began now has waited long enough.
    @inline(never)
    func deadline(_ timeout: Duration?, default fallback: Duration?) -> MonotonicTime {
        guard let timeout = timeout ?? fallback else { return .distantFuture }
        return .now + timeout
    }

    /// What an attempt to read a chunk found.
    enum Arrival {
        case octets(ByteChunk)
        /// The peer has finished.
        case end
        /// A wait must come first.
        case nothing
    }

    /// The next octets, or nil at the end of the stream.
    func readChunk(timeout: Duration?) async throws(NetworkError) -> ByteChunk? {
        if FairShare.isUsedUp { await FairShare.yield() }
        let deadline = self.deadline(timeout, default: self.terms.readTimeout)
        while true {
            switch try self.takeChunk() {
            case .octets(let chunk): return chunk
            case .end: return nil
            case .nothing: try await self.waitToRead(until: deadline)
            }
        }
    }

    /// One attempt to read a chunk, without waiting.
    @inline(never)
    private func takeChunk() throws(NetworkError) -> Arrival {
        while true {
            var spare: ChunkStorage?
            guard let side = try self.takeReadSide(&spare) else {
                if let storage = spare.take() { self.loop.chunks.release(storage) }
                return .nothing
            }
            let storage = self.reusable(spare.take())
            guard let count = try self.performRead(side, into: storage.room, of: storage) else { continue }
            if count > 0 { return .octets(ByteChunk(storage, count: count)) }
            self.loop.chunks.release(storage)
            return .end
        }
    }

    /// The storage of the last chunk when nobody refers to it any more, or another.
    func reusable(_ storage: consuming ChunkStorage?) -> ChunkStorage {
        if var storage, isKnownUniquelyReferenced(&storage) { return storage }
        return self.loop.chunks.take()
    }
}

// MARK: - Into the caller's memory
// Unsafe: the rooms below are handed to the kernel only inside the closures that lend them; while a call waits, no
// pointer to them exists.

extension ConnectionCore {
    func read(into buffer: inout OutputRawSpan, timeout: Duration?) async throws(NetworkError) -> Int {
        if buffer.freeCapacity == 0 { return 0 }
        if FairShare.isUsedUp { await FairShare.yield() }
        let deadline = self.deadline(timeout, default: self.terms.readTimeout)
        while true {
            let result = buffer.withUnsafeMutableBytes { room, initialized in
                let result = self.attempt(UnsafeMutableRawBufferPointer(rebasing: room[initialized...]))
                if case .success(let count?) = result { initialized += count }
                return result
            }
            if let count = try result.get() { return count }
            try await self.waitToRead(until: deadline)
        }
    }

    func read(exactly count: Int, timeout: Duration?) async throws(NetworkError) -> [UInt8]? {
        var octets = [UInt8](repeating: 0, count: max(0, count))
        var filled = 0
        while filled < octets.count {
            if FairShare.isUsedUp { await FairShare.yield() }
            let deadline = self.deadline(timeout, default: self.terms.readTimeout)
            while true {
                let result = octets.withUnsafeMutableBytes {
                    self.attempt(UnsafeMutableRawBufferPointer(rebasing: $0[filled...]))
                }
                if let read = try result.get() {
                    if read == 0 { return try Self.ended(after: filled, of: count) }
                    filled += read
                    break
                }
                try await self.waitToRead(until: deadline)
            }
        }
        return octets
    }

    private static func ended(after count: Int, of expected: Int) throws(NetworkError) -> [UInt8]? {
        if count == 0 { return nil }
        throw NetworkError(kind: .reset, text: "The peer finished after \(count) of \(expected) expected octets.")
    }

    /// One attempt to read; nil when it must wait.
    private func attempt(_ room: UnsafeMutableRawBufferPointer) -> Result<Int?, NetworkError> {
        Result { () throws(NetworkError) in
            guard let side = try self.takeReadSide() else { return nil }
            return try self.performRead(side, into: room)
        }
    }
}
