// SPDX-License-Identifier: Apache-2.0

// ConnectionFlow: who reads, who writes and who waits on one connection. A value behind the lock of ConnectionCore;
// it makes no system call and resumes nobody: it hands out the waiters to resume.
//
// A side (reading, writing) is idle, active (a thread is inside a system call, or was just woken to make one), or
// parked. The descriptor may be closed only while neither side is active.
//
//   reading:  idle -> active -> idle          idle -> parked -> idle (woken, tries again)
//   writing:  idle -> active -> (parked -> active)* -> next in the queue, or idle

/// Why a waiting call goes on.
enum Wake: Sendable {
    /// Try again: there may be readiness, or a failure to find.
    case ready
    case cancelled
    case timedOut
    /// The connection ended before the caller's turn came.
    case ended
}

typealias FlowWaiter = UnsafeContinuation<Wake, Never>

/// A waiter and what it is to be told, once the lock is released.
struct FlowResumption {
    let waiter: FlowWaiter
    let wake: Wake
    func resume() { self.waiter.resume(returning: self.wake) }
}

struct ConnectionFlow: ~Copyable {
    enum Side {
        case idle
        case active
        case parked(FlowWaiter)
    }

    enum Ending { case open, close, reset }

    /// A writer that waits for those before it.
    struct QueuedWriter {
        let id: UInt64
        let waiter: FlowWaiter
        let deadline: MonotonicTime
    }

    private(set) var reader = Side.idle
    private(set) var writer = Side.idle
    private var queue: [QueuedWriter] = []
    private var nextID: UInt64 = 0
    private var readDeadline = MonotonicTime.distantFuture
    private var writeDeadline = MonotonicTime.distantFuture
    /// When the loop's timer will look; never later than any deadline.
    var armedDeadline = MonotonicTime.distantFuture

    /// Whether a read may find something: cleared by a read that emptied the socket, set by the loop.
    private var isReadable = true
    /// The peer is gone or done: every read tells something, and no further event will.
    private var isReadableForGood = false
    private var isWritable = true
    private(set) var isWriteFinished = false
    private(set) var ending = Ending.open
    private(set) var failure: NetworkError?
    /// A chunk between two reads.
    var spare: ChunkStorage?
    var isDescriptorClosed = false

    /// Why nothing can be read any more.
    var readFailure: NetworkError? { self.ending != .open ? .closed : self.failure }

    /// Why nothing can be written any more.
    var writeFailure: NetworkError? { self.isWriteFinished ? .finished : self.readFailure }

    /// Whether the descriptor must go, and nobody is using it.
    var mayCloseDescriptor: Bool {
        guard self.ending != .open, !self.isDescriptorClosed else { return false }
        if case .active = self.reader { return false }
        if case .active = self.writer { return false }
        return true
    }
}

extension ConnectionFlow {
    /// Nothing can be read or written any more; nobody is woken.
    mutating func fail(_ error: NetworkError) {
        if self.failure == nil { self.failure = error }
    }
}

// MARK: - Reading

extension ConnectionFlow {
    enum ReadStart {
        case go
        case wait
        case failed(NetworkError)
    }

    mutating func beginRead() -> ReadStart {
        if let failure = self.readFailure { return .failed(failure) }
        guard case .idle = self.reader else { return .failed(.busy) }
        guard self.isReadable else { return .wait }
        self.reader = .active
        // Before the call: an event during it must not be lost.
        self.isReadable = self.isReadableForGood
        return .go
    }

    mutating func endRead(mayHaveMore: Bool, failure: NetworkError? = nil) {
        self.reader = .idle
        if mayHaveMore { self.isReadable = true }
        if let failure, self.failure == nil { self.failure = failure }
    }

    /// Parks the reader; nil when it is to wait.
    mutating func parkReader(_ waiter: FlowWaiter, until deadline: MonotonicTime) -> Wake? {
        if Task.isCancelled { return .cancelled }
        guard !self.isReadable, self.readFailure == nil, case .idle = self.reader else { return .ready }
        self.reader = .parked(waiter)
        self.readDeadline = deadline
        return nil
    }

    mutating func takeReader() -> FlowWaiter? {
        guard case .parked(let waiter) = self.reader else { return nil }
        self.reader = .idle
        self.readDeadline = .distantFuture
        return waiter
    }
}

// MARK: - Writing

extension ConnectionFlow {
    /// Takes the writing side; false when another has it.
    mutating func beginWrite() throws(NetworkError) -> Bool {
        if let failure = self.writeFailure { throw failure }
        guard case .idle = self.writer else { return false }
        self.writer = .active
        self.isWritable = false
        return true
    }

    enum QueueResult {
        case mine
        case queued
        case wake(Wake)
    }

    mutating func queueWriter(_ id: UInt64, _ waiter: FlowWaiter, until deadline: MonotonicTime) -> QueueResult {
        if Task.isCancelled { return .wake(.cancelled) }
        if self.writeFailure != nil { return .wake(.ended) }
        if case .idle = self.writer {
            self.writer = .active
            return .mine
        }
        self.queue.append(QueuedWriter(id: id, waiter: waiter, deadline: deadline))
        return .queued
    }

    mutating func makeID() -> UInt64 {
        self.nextID &+= 1
        return self.nextID
    }

    mutating func takeQueued(_ id: UInt64) -> FlowWaiter? {
        guard let index = self.queue.firstIndex(where: { $0.id == id }) else { return nil }
        return self.queue.remove(at: index).waiter
    }

    /// The socket is full: parks the one that has the writing side; nil when it is to wait.
    mutating func parkWriter(_ waiter: FlowWaiter, until deadline: MonotonicTime) -> Wake? {
        if Task.isCancelled { return .cancelled }
        if self.readFailure != nil { return .ready }
        if self.isWritable {
            self.isWritable = false
            return .ready
        }
        self.writer = .parked(waiter)
        self.writeDeadline = deadline
        return nil
    }

    /// Takes the parked writer, which has the writing side still.
    mutating func takeWriter() -> FlowWaiter? {
        guard case .parked(let waiter) = self.writer else { return nil }
        self.writer = .active
        self.writeDeadline = .distantFuture
        return waiter
    }

    /// Gives the writing side back; the next in the queue has it then.
    mutating func endWrite(isFinal: Bool = false, failure: NetworkError? = nil) -> FlowWaiter? {
        self.isWritable = true
        if isFinal { self.isWriteFinished = true }
        if let failure, self.failure == nil { self.failure = failure }
        guard !self.queue.isEmpty else {
            self.writer = .idle
            return nil
        }
        return self.queue.removeFirst().waiter
    }
}

// MARK: - What the loop tells

extension ConnectionFlow {
    mutating func received(_ events: ReadyEvents) -> (reader: FlowWaiter?, writer: FlowWaiter?) {
        let isOver = events.isHangup || events.contains(.error)
        var reader: FlowWaiter?
        if isOver || events.contains(.readable) {
            self.isReadable = true
            if isOver { self.isReadableForGood = true }
            reader = self.takeReader()
        }
        guard events.contains(.writable) || events.contains(.error) else { return (reader, nil) }
        self.isWritable = true
        let writer = self.takeWriter()
        // Given to the writer that is woken.
        if writer != nil { self.isWritable = false }
        return (reader, writer)
    }

    /// Takes those whose deadline has passed, and says when to look again.
    mutating func expire(at now: MonotonicTime, into resumptions: inout [FlowResumption]) {
        if self.readDeadline <= now, let waiter = self.takeReader() {
            resumptions.append(FlowResumption(waiter: waiter, wake: .timedOut))
        }
        if self.writeDeadline <= now, let waiter = self.takeWriter() {
            resumptions.append(FlowResumption(waiter: waiter, wake: .timedOut))
        }
        var next = min(self.readDeadline, self.writeDeadline)
        if !self.queue.isEmpty {
            for queued in self.queue where queued.deadline <= now {
                resumptions.append(FlowResumption(waiter: queued.waiter, wake: .timedOut))
            }
            self.queue.removeAll { $0.deadline <= now }
            for queued in self.queue { next = min(next, queued.deadline) }
        }
        self.armedDeadline = next
    }

    /// Ends both directions; those who wait are to be resumed and will find it ended.
    mutating func end(_ ending: Ending, failure: NetworkError? = nil, into resumptions: inout [FlowResumption]) {
        // A reset may overtake a close that waits for a thread inside a call, not the other way round.
        if self.ending == .open || ending == .reset { self.ending = ending }
        if let failure, self.failure == nil { self.failure = failure }
        if let waiter = self.takeReader() { resumptions.append(FlowResumption(waiter: waiter, wake: .ready)) }
        // It has the writing side still, and gives it back.
        if let waiter = self.takeWriter() { resumptions.append(FlowResumption(waiter: waiter, wake: .ready)) }
        for queued in self.queue { resumptions.append(FlowResumption(waiter: queued.waiter, wake: .ended)) }
        self.queue = []
        self.spare = nil
    }
}
