// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule
public import EpollConcurrency
import EpollNetworking

// ConsumerInbox: where the loop thread leaves the deliveries of one consumer, and where its iterator picks them up.
// The loop fills a batch without a lock and hands it over once per read under a short one; the iterator walks its batch
// with no lock and no suspension and parks once when there is none. Emptied batches go back to be filled again.

/// A loop over the deliveries of one consumer, as long as somebody walks it.
@usableFromInline
final class DeliveryReader: Sendable {}

/// The tasks that wait for a batch: one, unless several read the same deliveries.
private struct ParkedReaders {
    private var first: Suspension<Void>?
    private var others: [Suspension<Void>] = []

    var isEmpty: Bool { self.first == nil }

    mutating func append(_ reader: Suspension<Void>) {
        if self.first == nil { self.first = reader } else { self.others.append(reader) }
    }

    /// All of them, to be resumed after unlocking; each looks again for what it waits for.
    mutating func takeAll() -> ParkedReaders {
        guard self.first != nil else { return ParkedReaders() }
        defer { self = ParkedReaders() }
        return self
    }

    func resume() {
        self.first?.resume()
        for reader in self.others { reader.resume() }
    }
}

/// The buffer between the loop and one consumer.
@usableFromInline
final class ConsumerInbox: CancellableWait, @unchecked Sendable {
    private struct State: ~Copyable {
        var ready = Deque<DeliveryBatch>()
        /// The batch an iterator walks through.
        var current: DeliveryBatch?
        /// Who walks through it; nobody but this knows it any more when a loop was left in the middle.
        ///
        /// Not weak: every use of an object that was ever referenced weakly is dearer.
        var reader: DeliveryReader?
        var spare: [DeliveryBatch] = []
        /// Octets handed over and not yet taken by the iterator.
        var octets = 0
        var parked = ParkedReaders()
        var ending: Ending?
        var holdsBackReading = false
        /// The tags nobody will read, once the consumer was abandoned; nil before.
        var abandoned: [UInt64]?
        /// `basic.cancel` is under way: its reply stands behind deliveries, so no bound stops reading.
        var isBeingCancelled = false
        /// The broker has cancelled the consumer and its tag may be another's, though the sequence has not ended yet.
        var isCancelledByBroker = false
        /// The tags of those of them that the buffer does not take, to be returned with `cancel-ok`.
        var overflow: [UInt64] = []

        /// Whether a loop still walks through `current`.
        mutating func isBeingRead() -> Bool { self.reader != nil && !isKnownUniquelyReferenced(&self.reader) }

        /// Whether the consumer has caught up just now.
        mutating func resumesReading(bound: Int) -> Bool {
            guard self.holdsBackReading, self.octets <= bound / 2 else { return false }
            self.holdsBackReading = false
            return true
        }

        mutating func abandon(_ batch: DeliveryBatch) {
            batch.pieces?.drop()
            guard !batch.isAutomatic else { return }
            for index in batch.readCount..<batch.count { self.abandoned?.append(batch.records[index].tag) }
        }

        /// Whether the batch came behind `basic.cancel` and more than the buffer takes; then it is kept as tags only.
        ///
        /// All behind the first such one are, so that what returns to the queue is in order. Of deliveries that are
        /// acknowledged automatically none is, because the broker has forgotten them.
        mutating func overflows(_ batch: DeliveryBatch, limit: Int) -> Bool {
            guard self.isBeingCancelled, !batch.isAutomatic, self.octets > limit || !self.overflow.isEmpty else {
                return false
            }
            batch.pieces?.drop()
            for index in 0..<batch.count { self.overflow.append(batch.records[index].tag) }
            return true
        }
    }

    /// Why no more deliveries come.
    enum Ending: Sendable {
        case cancelledByApplication
        case failed(AMQPError)
    }

    let consumerTag: String
    /// The consumer tag as a short string of the protocol.
    let tagOctets: [UInt8]
    let queue: String
    let isAutomatic: Bool
    let channel: ChannelSession
    /// Another inbox follows when this one is lost: what nobody has read by then will be delivered again.
    let isRecovering: Bool
    private let bound: Int
    private let state: Locked<State>
    /// The batch being filled; loop thread only.
    private var filling: DeliveryBatch?

    /// Batches that wait to be filled again, at most.
    private static let spareLimit = 8

    init(
        consumerTag: String,
        queue: String,
        isAutomatic: Bool,
        channel: ChannelSession,
        bound: Int,
        isRecovering: Bool = false
    ) {
        self.isRecovering = isRecovering
        self.consumerTag = consumerTag
        self.tagOctets = [UInt8(truncatingIfNeeded: consumerTag.utf8.count)] + consumerTag.utf8
        self.queue = queue
        self.isAutomatic = isAutomatic
        self.channel = channel
        self.bound = bound
        self.state = Locked(State())
    }

    // MARK: loop thread

    /// The batch that takes the next delivery of this chunk, and whether the consumer is too far behind.
    ///
    /// Of a batch that is full or of another chunk, the inbox is handed over before.
    func batch(for chunk: InboundChunk) -> (batch: DeliveryBatch, isFull: Bool) {
        if let filling = self.filling {
            if filling.chunk === chunk, !filling.isFull { return (filling, self.isFull) }
            self.handOver()
        }
        let (spare, isFull) = self.state.withLock { ($0.spare.popLast(), $0.holdsBackReading) }
        spare?.reuse(for: chunk)
        let batch =
            spare
            ?? DeliveryBatch(channel: self.channel, queue: self.queue, isAutomatic: self.isAutomatic, chunk: chunk)
        self.filling = batch
        return (batch, isFull)
    }

    /// Takes a batch of its own, behind what came before it; it is handed over with the end of the read.
    func append(_ batch: DeliveryBatch) {
        self.handOver()
        self.filling = batch
    }

    /// Hands over what was appended; answers true when the consumer is so far behind that reading should stop.
    @discardableResult
    func handOver() -> Bool {
        guard let batch = self.filling else { return self.isFull }
        self.filling = nil
        if self.isAutomatic { self.channel.markAutomatic(batch) }
        if self.channel.driver.observation.metrics != nil { self.channel.count(batch) }
        self.channel.lastDeliveryTag = max(self.channel.lastDeliveryTag, batch.lastTag)
        let (parked, isFull) = self.state.withLock { state in
            guard state.ending == nil else { return (ParkedReaders(), false) }
            guard state.abandoned == nil else {
                state.abandon(batch)
                return (ParkedReaders(), false)
            }
            if state.overflows(batch, limit: Self.hardLimit * self.bound) { return (ParkedReaders(), false) }
            state.octets += batch.octets
            state.ready.append(batch)
            if state.octets > self.bound, !state.isBeingCancelled { state.holdsBackReading = true }
            return (state.parked.takeAll(), state.holdsBackReading)
        }
        parked.resume()
        return isFull
    }

    /// Counts octets of a body that has arrived and is not yet read; answers true when reading should stop.
    func hold(_ octets: Int) -> Bool {
        self.state.withLock { state in
            guard state.abandoned == nil, state.ending == nil else { return false }
            state.octets += octets
            if state.octets > self.bound, !state.isBeingCancelled { state.holdsBackReading = true }
            return state.holdsBackReading
        }
    }

    /// Octets that were held are read, or not wanted any more; any thread.
    func release(_ octets: Int) {
        let resumes = self.state.withLock { state in
            // An abandoned inbox has forgotten what it held.
            state.octets = max(0, state.octets - octets)
            return state.resumesReading(bound: self.bound)
        }
        if resumes { self.channel.driver.resumeReading() }
    }

    /// The batch a loop was left in, unless its body comes in pieces, which may be incomplete.
    var leftBatch: DeliveryBatch? { self.state.withLock { $0.current?.pieces == nil ? $0.current : nil } }

    /// True when no more deliveries come.
    var isFinished: Bool { self.state.withLock { $0.ending != nil } }

    /// True when the broker has cancelled the consumer, though the sequence has not ended yet.
    var isCancelledByBroker: Bool { self.state.withLock { $0.isCancelledByBroker } }

    /// The broker sent `basic.cancel`.
    func cancelledByBroker() { self.state.withLock { $0.isCancelledByBroker = true } }

    /// True when nobody will read any more.
    var isAbandoned: Bool { self.state.withLock { $0.abandoned != nil } }

    /// True while the consumer is too far behind.
    var isFull: Bool { self.state.withLock { $0.holdsBackReading } }

    /// True while the consumer is so far behind that reading stops even if others wait for the broker's answers.
    var isOverfull: Bool { self.state.withLock { $0.octets > Self.hardLimit * self.bound } }

    /// How many times the bound the buffer may hold while somebody waits for an answer behind the deliveries.
    private static let hardLimit = 16

    /// Whether a task waits for the next delivery; any thread.
    var hasWaitingReader: Bool { self.state.withLock { !$0.parked.isEmpty } }

    /// Ends the sequence behind what was handed over.
    ///
    /// Any thread.
    func finish(_ ending: Ending) {
        let parked = self.state.withLock { state in
            if state.ending == nil { state.ending = ending }
            return state.parked.takeAll()
        }
        parked.resume()
    }

    /// Nobody will read any more: lets go of what was handed over, and of all that still comes before the end.
    ///
    /// Any thread. Without this a full buffer would keep the reply to `basic.cancel` from being read.
    func abandon() {
        self.state.withLock { state in
            guard state.abandoned == nil else { return }
            state.abandoned = []
            if let current = state.current { state.abandon(current) }
            state.current = nil
            for batch in state.ready { state.abandon(batch) }
            state.ready = []
            state.octets = 0
            state.holdsBackReading = false
        }
        self.channel.driver.resumeReading()
    }

    /// `basic.cancel` is about to be sent: its reply is read however much is delivered before it.
    ///
    /// Any thread; the loop looks again whether to read when it writes the cancel.
    func beginCancel() {
        self.state.withLock { state in
            state.isBeingCancelled = true
            state.holdsBackReading = false
        }
    }

    /// The tags of the deliveries nobody has read, once; after the end.
    func takeUnread() -> [UInt64] {
        self.state.withLock { state in
            defer { state.abandoned = [] }
            return state.abandoned ?? []
        }
    }

    /// The tags of the deliveries that the buffer did not take, once; after the end.
    func takeOverflow() -> [UInt64] {
        self.state.withLock { state in
            defer { state.overflow = [] }
            return state.overflow
        }
    }

    // MARK: the iterator

    private enum Refill {
        case batch(DeliveryBatch, resumesReading: Bool)
        case ended(Ending)
        case empty
    }

    /// The next batch; `finished` is the one the reader has walked through.
    ///
    /// Of a batch in whose middle another reader has stopped, the rest is next.
    @inline(__always)
    nonisolated(nonsending) func next(
        after finished: consuming DeliveryBatch?,
        for reader: DeliveryReader
    ) async throws(AMQPError) -> DeliveryBatch? {
        var done = finished
        while true {
            let refill = self.state.withLock { state -> Refill in
                if let left = state.current, left.readCount < left.count, !state.isBeingRead() {
                    state.reader = reader
                    return .batch(left, resumesReading: false)
                }
                state.current = nil
                if state.ending != nil { self.dropLost(&state) }
                let batch = state.ready.popFirst()
                // Where there is nothing to go on with, what was published has been waiting long enough.
                if batch != nil { self.reuse(&done, in: &state) }
                // What is being read is no longer waiting: a reader may wait for the broker in the middle of it.
                if let batch { state.octets -= batch.octets }
                state.current = batch
                if state.reader !== reader { state.reader = reader }
                let resumes = state.resumesReading(bound: self.bound)
                if let batch { return .batch(batch, resumesReading: resumes) }
                guard let ending = state.ending else { return .empty }
                // The loop goes on with the next inbox, which asks whether it is the only one to know the reader.
                state.reader = nil
                return .ended(ending)
            }
            switch refill {
            case .batch(let batch, let resumesReading):
                if resumesReading { self.channel.driver.resumeReading() }
                return batch
            case .ended(.cancelledByApplication): return nil
            case .ended(.failed(let error)): throw error
            case .empty:
                self.channel.driver.loop.endTickIfIdle()
                guard await self.park(letGoOf: &done) else {
                    throw AMQPError(.cancelled, "the consuming task was cancelled")
                }
            }
        }
    }

    /// Keeps a batch for later deliveries; one of which somebody kept a delivery is theirs.
    private func reuse(_ finished: inout DeliveryBatch?, in state: inout State) {
        // The thread sanitizer does not see that whoever let go of the batch before had read it before, and would report
        // every write as a race. It does see the end of a batch.
        if ThreadSanitizer.isOn { return }
        guard isKnownUniquelyReferenced(&finished), let batch = finished, batch.bodyError == nil else { return }
        guard state.spare.count < ConsumerInbox.spareLimit else { return }
        batch.recycle()
        state.spare.append(batch)
    }

    /// Drops what the broker delivers again, because the channel that would settle it is gone, or it has taken it back.
    private func dropLost(_ state: inout State) {
        guard !self.isAutomatic, !state.ready.isEmpty, case .failed(let error)? = state.ending,
            self.isRecovering && error.scope != .operation || error.code == .acknowledgementTimedOut
        else { return }
        state.ready = []
        state.octets = 0
    }

    /// Lets go of what nobody has read, for its return to the queue; what is being read is read to its end.
    ///
    /// Any thread. The consumer is about to be cancelled.
    func stop() {
        self.state.withLock { state in
            guard state.abandoned == nil else { return }
            state.abandoned = []
            for batch in state.ready { state.abandon(batch) }
            state.ready = []
            state.octets = 0
            state.holdsBackReading = false
        }
        self.channel.driver.resumeReading()
    }

    /// Lets go of the batch that was walked through, and waits for another; answers false where the task was cancelled before.
    ///
    /// Of a task that is cancelled while it waits, the wait is over, and the next one answers. So a batch that came at the
    /// same time is not left behind.
    @inline(__always)
    nonisolated(nonsending) private func park(letGoOf finished: inout DeliveryBatch?) async -> Bool {
        var mayWait = true
        await withCancellableSuspension(self) { (continuation: Suspension<Void>) in
            let isParked = self.state.withLock { state in
                self.reuse(&finished, in: &state)
                mayWait = !Task.isCancelled
                guard mayWait, state.ready.isEmpty, state.ending == nil else { return false }
                state.parked.append(continuation)
                return true
            }
            finished = nil
            if !isParked { continuation.resume() }
        }
        return mayWait
    }

    /// The task that waits for a batch was cancelled.
    @usableFromInline
    func taskCancelled() {
        let parked = self.state.withLock { $0.parked.takeAll() }
        parked.resume()
    }
}
