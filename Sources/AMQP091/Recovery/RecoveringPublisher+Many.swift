// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking

// Batches of a client's publisher: receipts, asked for in order, so that a batch goes on over the loss of a connection.

extension RecoveringPublisher {
    nonisolated(nonsending) func publish(
        contentsOf messages: some Sequence<AMQPMessage>,
        to destination: AMQPDestination,
        mandatory: Bool,
        site: CallSite,
        deadline: MonotonicTime
    ) async -> [AMQPPublishOutcome] {
        var messages = Array(messages)
        let watch = try? await self.core(until: deadline).watchBatch(of: messages.count, to: destination)
        if let watch { for index in messages.indices { watch.inject(into: &messages[index].properties) } }
        var outcomes = [AMQPPublishOutcome?](repeating: nil, count: messages.count)
        var rest = Array(messages.indices)
        var attempts = 0
        // Messages behind the one that closed the channel were not processed: they are published again. So is what it was closed for
        // because an exchange of the topology was missing: they all have one exchange.
        while !rest.isEmpty {
            var sent: [(index: Int, receipt: AMQPPublishReceipt)] = []
            var end: AMQPError?
            for index in rest {
                if let end {
                    outcomes[index] = .notSent(end)
                    continue
                }
                do throws(AMQPError) {
                    let receipt = try await self.enqueue(
                        messages[index],
                        to: destination,
                        mandatory: mandatory,
                        site: site,
                        deadline: deadline,
                        isWatched: false
                    )
                    sent.append((index, receipt))
                } catch {
                    // A message that cannot be encoded is its own affair; all else concerns those after it too.
                    if error.code != .invalidArgument { end = error }
                    outcomes[index] = .notSent(error)
                }
            }
            rest = []
            for (index, receipt) in sent {
                let outcome = await receipt.outcome(timeout: max(.zero, deadline - .now))
                outcomes[index] = outcome
                guard self.outbox == nil, self.isOpen, !Task.isCancelled, MonotonicTime.now < deadline else { continue }
                switch outcome {
                case .notSent(let error) where error.isNotSentBecauseGone: rest.append(index)
                case .refused(let error) where self.missing.mayPublishAgain(after: error, &attempts): rest.append(index)
                default: break
                }
            }
        }
        let result = outcomes.map { $0 ?? .notSent(Self.closed) }
        watch?.end(result.lazy.compactMap(\.error).first)
        return result
    }
}
