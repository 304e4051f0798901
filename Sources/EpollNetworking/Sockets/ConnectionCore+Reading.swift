// SPDX-License-Identifier: Apache-2.0
import SystemPackage

// Reading: on the caller's thread, without waiting when there is something; else the caller is parked until the loop
// reports readiness. A read that leaves room in its buffer has emptied the socket, so that the next one parks without
// a system call. Between two reads a connection holds no buffer unless the last chunk is still in use.
//
// Most connections of a server wait here, each in a task that keeps the frames of its async functions. Functions that
// do not wait are therefore marked @inline(never): inlined, their variables would be in the frame of one that does.
// Together the frames fit into the first block of a task, of 1 KiB; one more, and it has a second.

extension ConnectionCore {
    /// Claims the reading side, unless a read would find nothing.
    func startRead() throws(NetworkError) -> Bool {
        switch self.flow.withLock({ $0.beginRead() }) {
        case .go: return true
        case .wait: return false
        case .failed(let error): throw error
        }
    }

    /// Reads what is there into `room`, which is not empty, and gives the reading side back; nil when there is nothing.
    ///
    /// - Parameters:
    ///   - room: Where the octets go.
    ///   - storage: Where `room` is, to be kept for the next read.
    /// - Returns: How many octets; 0 at the end of the stream.
    /// - Throws: Why nothing can be read any more.
    func performRead(
        into room: UnsafeMutableRawBufferPointer,
        of storage: ChunkStorage? = nil
    ) throws(NetworkError) -> Int? {
        if self.usesQuickAck { try? self.socket.setQuickAck(true) }
        var count: Int?
        var failure: NetworkError?
        switch self.socket.read(into: room) {
        case .count(let read): count = read
        case .endOfStream: count = 0
        case .wouldBlock: break
        case .failed(let error): failure = NetworkError(connection: self.name, error)
        }
        // The end of the stream can be read again; a filled buffer may have left something.
        let mayHaveMore = count == room.count || count == 0
        let isEnding = self.flow.withLock { flow in
            flow.endRead(mayHaveMore: mayHaveMore, failure: failure)
            if let storage, count != 0 { flow.spare = storage }
            return flow.mayCloseDescriptor
        }
        if isEnding { self.callLoop() }
        if let failure { throw failure }
        return count
    }

    /// Waits until a read may find something.
    func waitToRead(until deadline: MonotonicTime, _ what: String = "Reading") async throws(NetworkError) {
        #if TLS
            self.flushAnswers()
        #endif
        let wake = await withTaskCancellationHandler {
            await withUnsafeContinuation { (waiter: FlowWaiter) in
                let (wake, mustArm) = self.flow.withLock { flow -> (Wake?, Bool) in
                    let wake = flow.parkReader(waiter, until: deadline)
                    return (wake, wake == nil && deadline < flow.armedDeadline)
                }
                if let wake { waiter.resume(returning: wake) } else if mustArm { self.arm(deadline) }
            }
        } onCancel: {
            self.flow.withLock { $0.takeReader() }?.resume(returning: .cancelled)
        }
        try self.checkWake(wake, what)
    }

    /// Throws what ended the wait, unless reading may go on.
    @inline(never)
    private func checkWake(_ wake: Wake, _ what: String) throws(NetworkError) {
        switch wake {
        case .ready, .ended: return
        case .cancelled: throw .taskCancelled(what)
        case .timedOut: throw .silent(self.name)
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
        let deadline = self.deadline(timeout, default: self.readTimeout)
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
        #if TLS
            if let link = self.tls { return try self.takeChunk(through: link) }
        #endif
        while true {
            var (start, spare) = self.flow.withLock { ($0.beginRead(), $0.spare.take()) }
            switch start {
            case .go: break
            case .wait:
                if let storage = spare.take() { self.loop.chunks.giveBack(storage) }
                return .nothing
            case .failed(let error): throw error
            }
            let storage = self.reusable(spare.take())
            guard let count = try self.performRead(into: storage.room, of: storage) else { continue }
            if count > 0 { return .octets(ByteChunk(storage, count: count)) }
            self.loop.chunks.giveBack(storage)
            return .end
        }
    }

    /// The storage of the last chunk when nobody looks at it any more, or another.
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
        let deadline = self.deadline(timeout, default: self.readTimeout)
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
            let deadline = self.deadline(timeout, default: self.readTimeout)
            while true {
                let result = octets.withUnsafeMutableBytes {
                    self.attempt(UnsafeMutableRawBufferPointer(rebasing: $0[filled...]))
                }
                if let read = try result.get() {
                    if read == 0 { return try Self.ended(after: filled) }
                    filled += read
                    break
                }
                try await self.waitToRead(until: deadline)
            }
        }
        return octets
    }

    private static func ended(after count: Int) throws(NetworkError) -> [UInt8]? {
        if count == 0 { return nil }
        throw NetworkError(kind: .reset, text: "The peer finished after \(count) octets of more that were expected.")
    }

    /// One attempt to read; nil when it must wait.
    private func attempt(_ room: UnsafeMutableRawBufferPointer) -> Result<Int?, NetworkError> {
        Result { () throws(NetworkError) in
            #if TLS
                if let link = self.tls { return try self.receive(into: room, through: link) }
            #endif
            return try self.startRead() ? self.performRead(into: room) : nil
        }
    }
}
