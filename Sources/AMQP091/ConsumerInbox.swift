// SPDX-License-Identifier: Apache-2.0
public import AMQP091Wire
import DequeModule
import EpollNetworking

// ConsumerInbox: where the loop thread leaves the deliveries of one consumer, and where its iterator picks them up.
// The loop fills a batch without a lock and hands it over once per read under a short one; the iterator walks its batch
// with no lock and no suspension and parks once when there is none. Emptied batches go back to be filled again.
// Unsafe: a batch keeps its chunks alive once each, so its entries hold them unretained.

/// Deliveries handed over together.
@usableFromInline
final class DeliveryBatch: @unchecked Sendable {
    @usableFromInline
    struct Entry {
        @usableFromInline let record: DeliveryRecord
        @usableFromInline let chunk: Unmanaged<InboundChunk>

        init(record: DeliveryRecord, chunk: Unmanaged<InboundChunk>) {
            self.record = record
            self.chunk = chunk
        }
    }

    @usableFromInline var entries: [Entry] = []
    private var chunks: [InboundChunk] = []
    private(set) var octets = 0

    /// Appends a delivery; only the loop thread calls this, before the batch is handed over.
    func append(_ record: DeliveryRecord, in chunk: InboundChunk) {
        if self.chunks.last !== chunk { self.chunks.append(chunk) }
        self.entries.append(Entry(record: record, chunk: Unmanaged.passUnretained(chunk)))
        self.octets += Int(record.bodyCount) + Int(record.propertiesCount) + 64
    }

    func removeAll() {
        self.entries.removeAll(keepingCapacity: true)
        self.chunks.removeAll(keepingCapacity: true)
        self.octets = 0
    }
}

/// The buffer between the loop and one consumer.
@usableFromInline
final class ConsumerInbox: @unchecked Sendable {
    private struct State: ~Copyable {
        var ready = Deque<DeliveryBatch>()
        var spare: [DeliveryBatch] = []
        /// Octets handed over and not yet taken back from the iterator.
        var octets = 0
        var parked: UnsafeContinuation<Void, Never>?
        var ending: Ending?
        var holdsBackReading = false
    }

    /// Why no more deliveries come.
    enum Ending: Sendable {
        case cancelledByApplication
        case failed(AMQPError)
    }

    let consumerTag: String
    @usableFromInline let isAutomatic: Bool
    @usableFromInline let channel: ChannelCore
    private let bound: Int
    private let state: Locked<State>
    /// The batch being filled; loop thread only.
    private var filling: DeliveryBatch?

    init(consumerTag: String, isAutomatic: Bool, channel: ChannelCore, bound: Int) {
        self.consumerTag = consumerTag
        self.isAutomatic = isAutomatic
        self.channel = channel
        self.bound = bound
        self.state = Locked(State())
    }

    // MARK: loop thread

    /// Takes a delivery; answers true when the inbox must be handed over at the end of this read.
    func append(_ record: DeliveryRecord, in chunk: InboundChunk) -> Bool {
        if let filling = self.filling {
            filling.append(record, in: chunk)
            return false
        }
        let batch = self.state.withLock { $0.spare.popLast() } ?? DeliveryBatch()
        batch.append(record, in: chunk)
        self.filling = batch
        return true
    }

    /// The tags of what was appended and not yet handed over.
    func forEachUndelivered(_ body: (UInt64) -> Void) {
        guard let batch = self.filling else { return }
        for entry in batch.entries { body(entry.record.tag) }
    }

    /// Hands over what was appended; answers true when the consumer is so far behind that reading should stop.
    func handOver() -> Bool {
        guard let batch = self.filling else { return false }
        self.filling = nil
        let (parked, isFull) = self.state.withLock { state in
            guard state.ending == nil else { return (UnsafeContinuation<Void, Never>?.none, false) }
            state.octets += batch.octets
            state.ready.append(batch)
            let parked = state.parked
            state.parked = nil
            if state.octets > self.bound { state.holdsBackReading = true }
            return (parked, state.holdsBackReading)
        }
        parked?.resume()
        return isFull
    }

    /// True when no more deliveries come.
    var isFinished: Bool { self.state.withLock { $0.ending != nil } }

    /// True while the consumer is too far behind.
    var isFull: Bool { self.state.withLock { $0.holdsBackReading } }

    /// Ends the sequence behind what was handed over.
    ///
    /// Any thread.
    func finish(_ ending: Ending) {
        let parked = self.state.withLock { state -> UnsafeContinuation<Void, Never>? in
            if state.ending == nil { state.ending = ending }
            let parked = state.parked
            state.parked = nil
            return parked
        }
        parked?.resume()
    }

    // MARK: the iterator

    private enum Refill {
        case batch(DeliveryBatch, resumesReading: Bool)
        case ended(Ending)
        case empty
    }

    /// The next batch, or nil at the end; `finished` is the batch the iterator is done with.
    @usableFromInline
    nonisolated(nonsending)
        func next(after finished: consuming DeliveryBatch?) async throws(AMQPError) -> DeliveryBatch?
    {
        var done = finished
        while true {
            let refill = self.state.withLock { state -> Refill in
                var resumes = false
                if let batch = done {
                    state.octets -= batch.octets
                    batch.removeAll()
                    if state.spare.count < 4 { state.spare.append(batch) }
                    if state.holdsBackReading, state.octets <= self.bound / 2 {
                        state.holdsBackReading = false
                        resumes = true
                    }
                }
                if let batch = state.ready.popFirst() { return .batch(batch, resumesReading: resumes) }
                if let ending = state.ending { return .ended(ending) }
                return .empty
            }
            done = nil
            switch refill {
            case .batch(let batch, let resumesReading):
                if resumesReading { self.channel.driver.resumeReading() }
                return batch
            case .ended(.cancelledByApplication): return nil
            case .ended(.failed(let error)): throw error
            case .empty:
                self.channel.driver.resumeReading()
                await self.park()
                if Task.isCancelled { throw AMQPError(.cancelled, "the consuming task was cancelled") }
            }
        }
    }

    nonisolated(nonsending) private func park() async {
        await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                let resumesAtOnce = self.state.withLock { state in
                    guard state.ready.isEmpty, state.ending == nil, !Task.isCancelled, state.parked == nil else {
                        return true
                    }
                    state.parked = continuation
                    return false
                }
                if resumesAtOnce { continuation.resume() }
            }
        } onCancel: {
            let parked = self.state.withLock { state in
                let parked = state.parked
                state.parked = nil
                return parked
            }
            parked?.resume()
        }
    }
}
