// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking

// DelayedRejections: the deliveries whose handler has failed and that are rejected some time later, so that a message
// that always fails is not redelivered at once for ever. One per call of process. A wait keeps no handler's place and no
// octets of the message; the message keeps its place in the prefetch. Any thread.

final class DelayedRejections: Sendable {
    private struct State {
        var next = 0
        var waits: [Int: Task<Void, Never>] = [:]
    }

    private let state = Locked(State())

    /// Waits at a time; the handlers after that wait for their own.
    private static let limit = 1024

    /// Rejects the delivery after the delay, or at the end of the consumer if that comes first.
    ///
    /// - Returns: At once, unless there are too many.
    nonisolated(nonsending) func add(_ delivery: AMQPDelivery, after delay: Duration, site: CallSite) async {
        let core = delivery.batch.channel
        let tag = delivery.record.tag
        let facts = core.isTracing ? delivery.facts : nil
        let (wait, isFull) = self.state.withLock { state in
            let number = state.next
            state.next += 1
            let wait = Task {
                // Cancelled when the consumer ends: then the delay is over.
                try? await core.driver.loop.sleep(for: delay)
                core.reject(tag, facts: facts, site: site)
                self.remove(number)
            }
            state.waits[number] = wait
            return (wait, state.waits.count > Self.limit)
        }
        if isFull { await wait.value }
    }

    private func remove(_ number: Int) { self.state.withLock { $0.waits[number] = nil } }

    /// Rejects what is left; no more is added.
    nonisolated(nonsending) func finish() async {
        let waits = self.state.withLock { Array($0.waits.values) }
        for wait in waits { wait.cancel() }
        for wait in waits { await wait.value }
    }
}

extension ChannelSession {
    /// Rejects a delivery that returns to its queue, with a span where there are facts for it.
    fileprivate func reject(_ tag: UInt64, facts: MessageFacts?, site: CallSite) {
        let watch = facts.map { self.driver.observation.start(.reject, $0) }
        do throws(AMQPError) {
            try self.refuse(tag, requeue: true, isRejection: true, site: site)
            watch?.end(isTimed: false)
        } catch {
            // Settled by the handler, or the channel is gone: then the broker has put it back itself.
            watch?.end(error, isTimed: false)
        }
    }
}
