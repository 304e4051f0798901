// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// StartOptions: when the consumers and producers of a run begin, where that is not all at once.

/// When consumers begin.
struct ConsumerStartOptions: ParsableArguments {
    @Option(help: "Subscribe the consumers so long after the first message: 5s.")
    var consumerStartDelay: Seconds?

    @Flag(name: [.customShort("S"), .long], help: "Subscribe one consumer each second.")
    var slowStart = false

    func validate() throws {
        guard self.consumerStartDelay?.seconds ?? 0 >= 0 else {
            throw ValidationError("--consumer-start-delay must not be negative.")
        }
    }
}

extension RunOptions {
    /// Seconds after which a consumer subscribes; nil for before the first message.
    func startDelay(ofConsumer number: Int) -> Double? {
        guard self.consumerStartDelay != nil || self.startsSlowly == true else { return nil }
        return (self.consumerStartDelay ?? 0) + (self.startsSlowly == true ? Double(number) : 0)
    }

    /// Seconds after which all consumers have subscribed.
    var lastConsumerStart: Double { self.startDelay(ofConsumer: max(0, self.consumers - 1)) ?? 0 }

    /// Why the starts cannot be as they were asked for; nil when they can.
    var startContradiction: String? {
        if self.producerStartDelay != nil, self.rate != nil {
            return "--producer-random-start-delay is for a load without --rate: producers of a rate take turns in one "
                + "schedule, and do not start together."
        }
        guard self.lastConsumerStart > 0 else { return nil }
        if let time = self.time, self.lastConsumerStart >= self.warmup + time {
            return "The last consumer would subscribe after the end: give a longer --time."
        }
        if self.queueType == .stream {
            return "Consumers of a stream read what comes after they have subscribed: they cannot start later."
        }
        return nil
    }
}
