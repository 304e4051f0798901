// SPDX-License-Identifier: Apache-2.0
import Synchronization

// Ledger: every message that arrived, of all streams and consumers, and what is missing at the end.

/// What the consumers of a run have received.
final class Ledger: Sendable {
    /// The mark of this run in its messages.
    let run: UInt32
    /// How many streams there are.
    let streamCount: Int
    private let streams: Mutex<[SequenceCheck]>
    /// Numbers of whose publish nobody knows how it ended.
    private let forgotten = Mutex<[(stream: Int, numbers: Range<UInt64>)]>([])

    init(run: UInt32, streams: Int) {
        self.run = run
        self.streamCount = streams
        self.streams = Mutex(Array(repeating: SequenceCheck(), count: streams))
    }

    /// Takes the arrivals of one consumer.
    func insert(_ arrivals: [Arrivals]) {
        self.streams.withLock { streams in
            for arrival in arrivals {
                streams[arrival.stream].insert(
                    arrival.first,
                    count: arrival.count,
                    isRedelivered: arrival.isRedelivered
                )
            }
        }
    }

    /// True when a message has arrived before.
    func hasArrived(_ number: UInt64, stream: Int) -> Bool {
        self.streams.withLock { $0[stream].received(in: number..<number &+ 1) > 0 }
    }

    /// Different messages that have arrived.
    var received: UInt64 { self.streams.withLock { $0.reduce(0) { $0 + $1.received } } }

    /// Different messages of each stream that have arrived.
    var receivedByStream: [UInt64] { self.streams.withLock { $0.map(\.received) } }

    /// Takes numbers out of what must arrive: the connection was lost before the broker's word on them came.
    func forget(_ stream: Int, _ numbers: Range<UInt64>) {
        guard !numbers.isEmpty else { return }
        self.forgotten.withLock { $0.append((stream, numbers)) }
    }

    /// How many numbers were taken out, and how many of those arrived all the same.
    var forgottenCounts: (all: UInt64, arrived: UInt64) {
        let forgotten = self.forgotten.withLock { $0 }
        return self.streams.withLock { streams in
            var sum: (all: UInt64, arrived: UInt64) = (0, 0)
            for entry in forgotten {
                sum.all += UInt64(entry.numbers.count)
                sum.arrived += streams[entry.stream].received(in: entry.numbers)
            }
            return sum
        }
    }

    /// Arrivals of a message that had arrived before, not counting those marked redelivered.
    var duplicated: UInt64 { self.streams.withLock { $0.reduce(0) { $0 + $1.duplicated } } }
}

/// Messages of one stream that arrived one behind the other.
struct Arrivals: Hashable, Sendable {
    var stream: Int
    var first: UInt64
    var count: UInt64
    var isRedelivered = false
}

/// One consumer's part of the ledger: it hands its arrivals over in batches, so that a message costs no lock.
struct ConsumerLedger {
    let ledger: Ledger
    private(set) var order: OrderCheck
    private var batch: [Arrivals] = []
    private let streamCount: Int

    init(_ ledger: Ledger) {
        self.ledger = ledger
        self.streamCount = ledger.streamCount
        self.order = OrderCheck(streams: ledger.streamCount)
        self.batch.reserveCapacity(Self.batchSize)
    }

    private static let batchSize = 64

    /// Notes a message.
    ///
    /// - Returns: False when it is not one of this run.
    mutating func insert(_ header: MessageHeader, isRedelivered: Bool) -> Bool {
        guard header.run == self.ledger.run, header.stream < self.streamCount else { return false }
        let stream = Int(header.stream)
        self.order.insert(header.sequence, stream: stream, isRedelivered: isRedelivered)
        if let last = self.batch.indices.last, self.batch[last].stream == stream,
            self.batch[last].isRedelivered == isRedelivered,
            self.batch[last].first &+ self.batch[last].count == header.sequence
        {
            self.batch[last].count += 1
        } else {
            self.batch.append(Arrivals(stream: stream, first: header.sequence, count: 1, isRedelivered: isRedelivered))
            if self.batch.count >= Self.batchSize { self.flush() }
        }
        return true
    }

    /// True when a message of the run, which is marked redelivered, has arrived before.
    mutating func hasArrived(_ header: MessageHeader) -> Bool {
        guard header.run == self.ledger.run, header.stream < self.streamCount, header.sequence < .max else {
            return false
        }
        self.flush()
        return self.ledger.hasArrived(header.sequence, stream: Int(header.stream))
    }

    /// Hands over what was noted since the last batch.
    mutating func flush() {
        guard !self.batch.isEmpty else { return }
        self.ledger.insert(self.batch)
        self.batch.removeAll(keepingCapacity: true)
    }
}
