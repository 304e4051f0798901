// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import EpollConcurrency
import EpollNetworking

// DelayedRejections: deliveries whose handler has failed and whose rejection is delayed, so that a message that always
// fails is not redelivered in a tight loop. One per call of process. A delay occupies no handler and holds no
// octets of the message; the message occupies a place in the prefetch. Any thread.

final class DelayedRejections: Sendable {
    private struct State {
        var next = 0
        var waits: [Int: Task<Void, Never>] = [:]
    }

    private let state = Locked(State())

    /// Maximum number of concurrent delays; further handlers wait.
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
                // Cancelled when the consumer ends, which ends the delay.
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

    /// Rejects all pending deliveries; no more are added.
    nonisolated(nonsending) func finish() async {
        let waits = self.state.withLock { $0.waits.sorted { $0.key < $1.key }.map(\.value) }
        for wait in waits { wait.cancel() }
        for wait in waits { await wait.value }
    }
}

extension ChannelSession {
    /// Rejects a delivery with requeue, with a span if tracing has data for it.
    fileprivate func reject(_ tag: UInt64, facts: MessageFacts?, site: CallSite) {
        let watch = facts.map { self.driver.observation.start(.reject, $0) }
        do throws(AMQPError) {
            try self.refuse(tag, requeue: true, isRejection: true, site: site)
            watch?.end(isTimed: false)
        } catch {
            // Settled by the handler, or the channel has ended: then the broker has requeued it.
            watch?.end(error, isTimed: false)
        }
    }
}
