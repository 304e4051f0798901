// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency

// ConnectionFlow: which tasks read, write and wait on one connection. A value behind the lock of ConnectionCore; it makes
// no system call and resumes nobody: it hands out the waiters to resume.
//
// A side (reading, writing) is idle, active (a thread is inside a system call, or was just woken to make one), or
// parked. Who holds a side may make system calls; the loop may only while neither side is active and the connection is
// ending.
//
//   reading:  idle -> active -> idle          idle -> parked -> idle (woken, tries again)
//   writing:  idle -> active -> (parked -> active)* -> next in the queue, or idle

/// Why a waiting call continues.
enum Wake: Sendable {
    /// Try again: there may be readiness, or a failure to find.
    case ready
    case cancelled
    case timedOut
    /// The connection ended before the caller's turn came.
    case ended
}

typealias FlowWaiter = Suspension<Wake>

/// A waiter and its result, for after the lock.
struct FlowResumption {
    let waiter: FlowWaiter
    let wake: Wake
    func resume() { self.waiter.resume(returning: self.wake) }
}

/// How long a write may take: without progress, and in all.
struct WriteLimit {
    let timeout: Duration?
    /// When the call ends in any case.
    let end: MonotonicTime

    static let none = WriteLimit(timeout: nil, end: .distantFuture)

    /// When a wait that begins now has lasted too long.
    func deadline(from start: MonotonicTime = .now) -> MonotonicTime {
        guard let timeout = self.timeout else { return self.end }
        return min(self.end, start + timeout)
    }

    var isEndless: Bool { self.timeout == nil && self.end == .distantFuture }
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
        let limit: WriteLimit
        let start: MonotonicTime

        /// The progress of those before it is progress for it too.
        func deadline(_ lastProgress: MonotonicTime) -> MonotonicTime {
            self.limit.isEndless ? .distantFuture : self.limit.deadline(from: max(self.start, lastProgress))
        }
    }

    private(set) var reader = Side.idle
    /// A writer that failed has the reading side for a moment, to look for an alert.
    private var isLookedAt = false
    private(set) var writer = Side.idle
    private var queue: [QueuedWriter] = []
    private var nextID: UInt64 = 0
    private var readDeadline = MonotonicTime.distantFuture
    private var writeDeadline = MonotonicTime.distantFuture
    /// When a writer that had waited could send again.
    private var lastProgress = MonotonicTime(nanoseconds: 0)
    /// When the loop's timer fires next; never later than any deadline.
    var armedDeadline = MonotonicTime.distantFuture

    private var readiness = ReadReadiness()
    private var isWritable = true
    private(set) var isWriteFinished = false
    /// A write was given up in the middle: the peer must not take what it got for everything.
    private(set) var isWriteCut = false
    /// A read has returned the end of the stream.
    private(set) var hasInputEnded = false
    private(set) var ending = Ending.open
    private(set) var failure: NetworkError?
    /// Why writing failed; what the peer had sent before can still be read.
    private(set) var writeBreak: NetworkError?
    /// Why the connection ended, unless this side closed it.
    private var endReason: NetworkError?
    /// A chunk between two reads.
    var spare: ChunkStorage?
    var isDescriptorClosed = false

    /// Tasks that wait until the peer's kernel has all octets.
    private var deliveryWaiters: [NetworkOutcome<Void>] = []
    private(set) var delivery: Result<Void, NetworkError>?

    /// Why nothing can be read any more.
    var readFailure: NetworkError? { self.ending != .open ? self.endReason ?? .closed : self.failure }

    /// Why nothing can be written any more.
    var writeFailure: NetworkError? {
        self.isWriteFinished ? self.endReason ?? .finished : self.readFailure ?? self.writeBreak
    }

    /// Whether an ending connection may wait for its peer: not when it broke, or is reset.
    var mayLinger: Bool { self.ending == .close && !self.isBroken && self.endReason == nil }

    /// Whether the peer is lost.
    private(set) var isBroken = false

    /// Whether the connection is ending, and no task is using the descriptor: the loop has it to itself.
    var isLeftToLoop: Bool {
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
        // A violation of TLS is told to the peer, which is still there.
        if error.underlying != nil { self.isBroken = true }
    }
}

// MARK: - Reading

extension ConnectionFlow {
    enum ReadStart {
        case go
        case wait
        case failed(NetworkError)
    }

    mutating func beginRead(isLook: Bool = false) -> ReadStart {
        if let failure = self.readFailure { return .failed(failure) }
        guard case .idle = self.reader else { return self.isLookedAt ? .wait : .failed(.busy) }
        guard self.readiness.isReadable else { return .wait }
        self.reader = .active
        self.isLookedAt = isLook
        self.readiness.begin()
        return .go
    }

    /// Another transport took the place of the socket, and may have octets already.
    mutating func transportChanged() { _ = self.readiness.received(.readable) }

    /// Gives the reading side back; answers why an end of the stream is not the end of everything.
    mutating func endRead(_ effect: ReadReadiness.Effect, failure: NetworkError? = nil) -> NetworkError? {
        self.reader = .idle
        self.isLookedAt = false
        self.readiness.ended(effect)
        if effect == .ended {
            self.hasInputEnded = true
            // The kernel reports a reset once, and the writer got it.
            if let writeBreak = self.writeBreak { self.fail(writeBreak) }
        }
        if let failure { self.fail(failure) }
        return self.failure
    }

    /// Parks the reader; nil when it is to wait.
    mutating func parkReader(_ waiter: FlowWaiter, until deadline: MonotonicTime) -> Wake? {
        if Task.isCancelled { return .cancelled }
        guard !self.readiness.isReadable, self.readFailure == nil, case .idle = self.reader else { return .ready }
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
        /// Queued, and when it has waited long enough.
        case queued(MonotonicTime)
        case wake(Wake)
    }

    mutating func queueWriter(_ id: UInt64, _ waiter: FlowWaiter, _ limit: WriteLimit) -> QueueResult {
        if Task.isCancelled { return .wake(.cancelled) }
        if self.writeFailure != nil { return .wake(.ended) }
        if case .idle = self.writer {
            self.writer = .active
            return .mine
        }
        let start = limit.isEndless ? MonotonicTime(nanoseconds: 0) : .now
        let queued = QueuedWriter(id: id, waiter: waiter, limit: limit, start: start)
        self.queue.append(queued)
        return .queued(queued.deadline(self.lastProgress))
    }

    var queuedCount: Int { self.queue.count }

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

    /// Octets were taken after a wait: those in the queue are not stalled.
    mutating func noteProgress(at now: MonotonicTime) { self.lastProgress = now }

    /// How a holder of the writing side gives it back.
    enum WriteEnd {
        /// Others may write.
        case open
        /// The writing half is ended, after everything.
        case finished
        /// The writing half is ended, in the middle of a write.
        case cut
    }

    /// Gives the writing side back; the next in the queue has it then.
    mutating func endWrite(_ end: WriteEnd = .open, failure: NetworkError? = nil) -> FlowWaiter? {
        self.isWritable = true
        if end != .open { self.isWriteFinished = true }
        if end == .cut { self.isWriteCut = true }
        if let failure {
            if self.writeBreak == nil { self.writeBreak = failure }
            if failure.underlying != nil { self.isBroken = true }
        }
        guard !self.queue.isEmpty else {
            self.writer = .idle
            return nil
        }
        return self.queue.removeFirst().waiter
    }
}

// MARK: - Events of the loop

extension ConnectionFlow {
    mutating func received(_ events: ReadyEvents) -> (reader: FlowWaiter?, writer: FlowWaiter?) {
        let reader = self.readiness.received(events) ? self.takeReader() : nil
        guard events.has(.writable) || events.has(.error) else { return (reader, nil) }
        self.isWritable = true
        let writer = self.takeWriter()
        // Given to the writer that is woken.
        if writer != nil { self.isWritable = false }
        return (reader, writer)
    }

    /// Takes those whose deadline has passed, and computes when to look again.
    mutating func expire(at now: MonotonicTime, into resumptions: inout [FlowResumption]) {
        if self.readDeadline <= now, let waiter = self.takeReader() {
            resumptions.append(FlowResumption(waiter: waiter, wake: .timedOut))
        }
        if self.writeDeadline <= now, let waiter = self.takeWriter() {
            resumptions.append(FlowResumption(waiter: waiter, wake: .timedOut))
        }
        var next = min(self.readDeadline, self.writeDeadline)
        if !self.queue.isEmpty {
            let progress = self.lastProgress
            for queued in self.queue where queued.deadline(progress) <= now {
                resumptions.append(FlowResumption(waiter: queued.waiter, wake: .timedOut))
            }
            self.queue.removeAll { $0.deadline(progress) <= now }
            for queued in self.queue { next = min(next, queued.deadline(progress)) }
        }
        self.armedDeadline = next
    }

    /// Ends both directions; those who wait are to be resumed and find it ended.
    ///
    /// - Parameters:
    ///   - ending: How; a reset overtakes a close that is under way, not the other way round.
    ///   - reason: Why, when it is not this side that closes.
    ///   - resumptions: Gets the waiters.
    mutating func end(_ ending: Ending, reason: NetworkError? = nil, into resumptions: inout [FlowResumption]) {
        if self.ending == .open { self.endReason = reason }
        if self.ending == .open || ending == .reset { self.ending = ending }
        if let waiter = self.takeReader() { resumptions.append(FlowResumption(waiter: waiter, wake: .ready)) }
        // It has the writing side still, and gives it back.
        if let waiter = self.takeWriter() { resumptions.append(FlowResumption(waiter: waiter, wake: .ready)) }
        for queued in self.queue { resumptions.append(FlowResumption(waiter: queued.waiter, wake: .ended)) }
        self.queue = []
        self.spare = nil
    }
}

// MARK: - Delivery of everything that was written

extension ConnectionFlow {
    /// Has `waiter` decided when the peer's kernel has everything; the result when that is known.
    mutating func awaitDelivery(_ waiter: NetworkOutcome<Void>) -> Result<Void, NetworkError>? {
        if let delivery = self.delivery { return delivery }
        self.deliveryWaiters.append(waiter)
        return nil
    }

    var isDeliveryAwaited: Bool { !self.deliveryWaiters.isEmpty }

    /// The first result counts; the waiters to decide.
    mutating func endDelivery(_ result: Result<Void, NetworkError>) -> [NetworkOutcome<Void>] {
        if self.delivery == nil { self.delivery = result }
        defer { self.deliveryWaiters = [] }
        return self.deliveryWaiters
    }
}
