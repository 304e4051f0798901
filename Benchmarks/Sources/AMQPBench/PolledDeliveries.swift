// SPDX-License-Identifier: Apache-2.0
import AMQP091

// PolledDeliveries: what `--polling` takes out of a queue, one basic.get after the other, as if it were delivered.

/// The messages that a consumer gets until nothing more is wanted.
struct PolledDeliveries: AsyncSequence, AsyncIteratorProtocol {
    /// Before a queue that is empty is asked again, where no interval is given.
    private static let shortestPause = Duration.milliseconds(1)
    /// The longest sleep, after which is looked whether anything is still wanted.
    private static let longestSleep = Duration.milliseconds(100)

    private let subscription: Subscription
    private let channel: AMQPChannel
    private let acknowledgement: AMQPAcknowledgement
    private let interval: Duration
    private var isFirst = true

    /// The messages of the channel that the subscription has now.
    init(_ subscription: Subscription, _ options: RunOptions) {
        self.subscription = subscription
        self.channel = subscription.channel
        self.acknowledgement = options.autoAck ? .automatic : .manual
        self.interval = .seconds(options.pollingInterval ?? 0)
    }

    func makeAsyncIterator() -> PolledDeliveries { self }

    mutating func next() async throws -> AMQPDelivery? {
        var pause = self.isFirst ? .zero : self.interval
        self.isFirst = false
        while !self.subscription.isEnded {
            if pause > .zero {
                try await self.sleep(for: pause)
                if self.subscription.isEnded { return nil }
            }
            if let delivery = try await self.channel.get(
                self.subscription.queue,
                acknowledgement: self.acknowledgement
            ) {
                return delivery
            }
            pause = Swift.max(self.interval, Self.shortestPause)
        }
        return nil
    }

    private func sleep(for pause: Duration) async throws {
        let end = ContinuousClock.now + pause
        while !self.subscription.isEnded, case let left = end - .now, left > .zero {
            try await Task.sleep(for: Swift.min(left, Self.longestSleep), tolerance: .zero)
        }
    }
}
