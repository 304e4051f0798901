// SPDX-License-Identifier: Apache-2.0
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
        var sent: [Result<AMQPPublishReceipt, AMQPError>] = []
        sent.reserveCapacity(messages.underestimatedCount)
        var end: AMQPError?
        for message in messages {
            if let end {
                sent.append(.failure(end))
                continue
            }
            do throws(AMQPError) {
                let receipt = try await self.enqueue(
                    message,
                    to: destination,
                    mandatory: mandatory,
                    site: site,
                    deadline: deadline
                )
                sent.append(.success(receipt))
            } catch {
                // A message that cannot be encoded is its own affair; all else concerns those behind it too.
                if error.code != .invalidArgument { end = error }
                sent.append(.failure(error))
            }
        }
        var outcomes: [AMQPPublishOutcome] = []
        outcomes.reserveCapacity(sent.count)
        for result in sent {
            switch result {
            case .success(let receipt): outcomes.append(await receipt.outcome(timeout: max(.zero, deadline - .now)))
            case .failure(let error): outcomes.append(.notSent(error))
            }
        }
        return outcomes
    }
}
