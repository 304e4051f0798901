// SPDX-License-Identifier: Apache-2.0
import AMQP091
import EpollConcurrency
import EpollNetworking

// PromiseConsumer: the consumer of one run of the model (PromiseRun): what it has seen, and why it ended. It starts again
// when it ended for a reason that the run has ordered.

final class PromiseConsumer: Sendable {
    /// How deliveries are processed.
    enum Style: Sendable, CaseIterable {
        case loop, one, several
    }

    private struct State {
        var seen: Set<String> = []
        /// Deliveries that came a second time and do not say so.
        var twice: [String] = []
        var failures: [String] = []
    }

    private struct Failed: Error {}

    private let state = Locked(State())
    private let client: AMQPClient
    private let style: Style

    init(_ client: AMQPClient, _ style: Style) {
        self.client = client
        self.style = style
    }

    /// The bodies seen, bodies that came twice as new, and ends without an ordered reason.
    var account: (seen: Set<String>, twice: [String], failures: [String]) {
        self.state.withLock { ($0.seen, $0.twice, $0.failures) }
    }

    func hasSeen(_ bodies: some Sequence<String>) -> Bool {
        self.state.withLock { state in bodies.allSatisfy { state.seen.contains($0) } }
    }

    /// Consumes until the task is cancelled.
    func run() async {
        while !Task.isCancelled {
            do {
                try await self.client.consume("q", prefetch: 4) { try await self.consume($0) }
                return self.failed("the sequence ended by itself")
            } catch let error as AMQPError {
                switch error.code {
                case .cancelled: return
                // A settlement was refused, as ordered.
                case .channelClosed where error.replyText.contains("settlement"): continue
                default: return self.failed("\(error)")
                }
            } catch {
                return self.failed("\(error)")
            }
        }
    }

    private func consume(_ deliveries: AMQPDeliveries) async throws {
        switch self.style {
        case .loop:
            for try await delivery in deliveries {
                _ = self.saw(delivery)
                try delivery.ack()
            }
        case .one, .several:
            try await deliveries.process(maxConcurrency: self.style == .one ? 1 : 3) { delivery in
                // Every fourth delivery fails the first time.
                if self.saw(delivery), delivery.body.count % 4 == 3 { throw Failed() }
            }
        }
    }

    /// - Returns: Whether it is seen for the first time.
    private func saw(_ delivery: AMQPDelivery) -> Bool {
        let body = PromiseRun.name(delivery.body.string)
        return self.state.withLock { state in
            let isFirst = state.seen.insert(body).inserted
            if !isFirst, !delivery.redelivered { state.twice.append(body) }
            return isFirst
        }
    }

    private func failed(_ text: String) { self.state.withLock { $0.failures.append(text) } }
}
