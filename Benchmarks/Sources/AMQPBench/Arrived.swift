// SPDX-License-Identifier: Apache-2.0
import AMQP091

// Arrived: what had to arrive in a run, and what of it is nowhere. All but the question to the broker is pure.

/// The arrivals of a run that is over.
struct Arrived: Sendable {
    var counts: Report.Counts
    var options: RunOptions
    /// Different messages of the run that arrived intact, or all that arrived where they have no number.
    var arrived: UInt64
    var corrupted: UInt64 = 0
    /// Numbers of whose publish nobody knows how it ended, because the connection was lost.
    var forgotten: UInt64 = 0
    /// Those of them that arrived all the same.
    var forgottenArrived: UInt64 = 0

    /// Messages that consumers must get: those the broker took, or all without confirms.
    static func expected(_ counts: Report.Counts, _ options: RunOptions) -> UInt64 {
        options.confirms == nil ? counts.published - min(counts.published, counts.returned) : counts.confirmed
    }

    /// Messages that the broker took and that did not arrive.
    var lost: UInt64 {
        let there = self.arrived + self.corrupted
        guard self.forgotten > 0 else {
            let expected = Self.expected(self.counts, self.options)
            return expected - min(expected, there)
        }
        // Told number by number: a message of unknown fate that arrived must not stand in for a lost one.
        let known = self.counts.published - min(self.counts.published, self.forgotten)
        let refused = self.counts.nacked + self.counts.returned
        let found = there - min(there, self.forgottenArrived)
        return known - min(known, found + refused)
    }

    /// The same of any run, asking the broker where there were no consumers.
    ///
    /// - Parameters:
    ///   - queue: The queues of the run.
    ///   - interruption: Whether a signal ended it.
    ///   - connection: Where to ask.
    /// - Returns: How many are nowhere.
    /// - Throws: `AMQPError`.
    func lost(
        _ queue: QueueUnderTest,
        interruption: Interruption,
        on connection: AMQPConnection
    ) async throws -> UInt64 {
        let options = self.options
        if options.producers == 0 {
            guard queue.isGenerated, interruption.signal == nil, options.exitWhen == nil else { return 0 }
            let expected = UInt64(options.count ?? 0)
            return expected - min(expected, self.arrived + self.corrupted)
        }
        // Other instances get some of it, or the routing is not ours.
        if options.instances != nil { return 0 }
        if options.consumers > 0 { return options.predeclared == true && options.exchange != nil ? 0 : self.lost }
        // Without consumers, what the broker took must be in the queue.
        guard queue.isGenerated, options.confirms != nil, options.queueArguments == nil else { return 0 }
        let there = UInt64(try await queue.messageCount(on: connection))
        return self.counts.confirmed - min(self.counts.confirmed, there)
    }
}

extension Arrived {
    /// Those of a load.
    init(_ load: Load, _ counts: Report.Counts, _ options: RunOptions, _ verify: Report.Verification) {
        let forgotten = load.ledger.forgottenCounts
        self.init(
            counts: counts,
            options: options,
            arrived: options.isNumbered ? verify.arrived : counts.consumed,
            corrupted: verify.corrupted,
            forgotten: forgotten.all,
            forgottenArrived: forgotten.arrived
        )
    }
}
