// SPDX-License-Identifier: Apache-2.0
import DequeModule
import EpollNetworking

// Batches and streams of a client's publisher: receipts, asked for in order, so that a batch or a stream goes on over
// the loss of a connection.

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

    nonisolated(nonsending) func publish<Source: AsyncSequence>(
        stream: Source,
        to destination: AMQPDestination,
        mandatory: Bool,
        maxInFlight: Int?,
        site: CallSite,
        timeout: Duration?,
        onOutcome: ((AMQPPublishOutcome) -> Void)?
    ) async throws -> AMQPPublishSummary where Source.Element == AMQPMessage {
        let limit = min(maxInFlight ?? .max, self.maxInFlight)
        var unconfirmed = Deque<AMQPPublishReceipt>()
        var summary = AMQPPublishSummary()
        func ended(_ outcome: AMQPPublishOutcome) {
            summary.add(outcome)
            onOutcome?(outcome)
        }
        func collect() {
            while let outcome = unconfirmed.first?.knownOutcome {
                unconfirmed.removeFirst()
                ended(outcome)
            }
        }
        var failure: (any Error)?
        do {
            for try await message in stream {
                collect()
                // Half of them at a time: one wake-up for many.
                if unconfirmed.count >= limit {
                    while unconfirmed.count > limit / 2, let first = unconfirmed.popFirst() {
                        ended(await first.outcome(timeout: timeout))
                    }
                }
                do throws(AMQPError) {
                    let receipt = try await self.enqueue(
                        message,
                        to: destination,
                        mandatory: mandatory,
                        site: site,
                        deadline: self.deadline(timeout)
                    )
                    unconfirmed.append(receipt)
                } catch {
                    // Those before it are told of first.
                    while let first = unconfirmed.popFirst() { ended(await first.outcome(timeout: timeout)) }
                    ended(.notSent(error))
                    guard error.code == .invalidArgument else { throw error }
                }
            }
        } catch {
            failure = error
        }
        while let first = unconfirmed.popFirst() { ended(await first.outcome(timeout: timeout)) }
        if let failure { throw failure }
        return summary
    }
}
