// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// ConsumeOptions: what the commands that consume can be told.

/// What ends a run of `consume` before its time.
enum ExitWhen: String, ExpressibleByArgument, CaseIterable, Codable, Sendable {
    /// The broker says that no message is left, and nothing comes any more.
    case empty
    /// Nothing has come for a second.
    case idle
}

/// What the commands that consume share.
struct ConsumeOptions: ParsableArguments {
    @Option(name: .letter("y"), help: "Consumers, each with a connection of its own.")
    var consumers = 1

    @Option(name: .letter("Y"), help: "Channels of each consumer. (default: as --channels)")
    var consumerChannels: Int?

    @Option(name: .letter("q"), help: "Deliveries the broker sends ahead of acknowledgement.")
    var prefetch: UInt16 = 512

    @Option(name: .letter("A"), help: "Acknowledge each time this many have arrived.")
    var ackEvery = 64

    @OptionGroup var start: ConsumerStartOptions

    @Option(name: .letter("L"), help: "Work on each message for this long: 1ms.")
    var consumerWork: Seconds?

    @Option(
        help: "KEY=VALUE, an argument of each consumer, such as x-priority=10 or x-stream-offset=first; repeatable."
    )
    var consumerArg: [Label] = []

    @Flag(help: "Ask for each message with basic.get instead of subscribing.")
    var polling = false

    @Option(
        help: "How long to wait from one basic.get to the next; at least 1ms where the queue is empty. (default: 0s)"
    )
    var pollingInterval: Seconds?

    @Option(help: "End when the queue is empty, or idle: nothing has come for a second.")
    var exitWhen: ExitWhen?

    @Option(
        help:
            "Messages not consumed at which producers without a rate wait; 0 for no bound. (default: 10 times the prefetch)"
    )
    var backlog: MessageCount?

    @Flag(name: .shortAndLong, help: "Let the broker take messages as acknowledged when it has sent them.")
    var autoAck = false

    @Option(name: .letter("n"), help: "Acknowledge in transactions of so many messages.")
    var consumerTxSize: Int?

    @Flag(help: "Reject messages instead of acknowledging them, --ack-every at a time.")
    var nack = false

    @Flag(help: "Have the messages of --nack put back into the queue.")
    var requeue = false

    func validate() throws {
        guard !self.requeue || self.nack, !self.nack || !self.autoAck else {
            throw ValidationError("--requeue needs --nack, and --nack does not go with --auto-ack.")
        }
        guard 1...1000 ~= self.consumers else { throw ValidationError("--consumers takes 1 to 1000.") }
        guard 1...100 ~= self.consumerChannels ?? 1 else {
            throw ValidationError("--consumer-channels takes 1 to 100.")
        }
        guard self.ackEvery >= 1 else { throw ValidationError("--ack-every takes at least 1.") }
        guard self.backlog?.messages ?? 0 >= 0 else { throw ValidationError("--backlog must not be negative.") }
        guard 1...1_000_000 ~= self.consumerTxSize ?? 1, self.consumerTxSize == nil || !self.autoAck else {
            throw ValidationError("--consumer-tx-size takes 1 to 1000000, and does not go with --auto-ack.")
        }
        if let size = self.consumerTxSize, !self.polling, self.prefetch > 0, size > Int(self.prefetch) {
            throw ValidationError(
                "--consumer-tx-size must not be larger than --prefetch: the broker would wait for ever."
            )
        }
        guard self.polling || self.pollingInterval == nil else {
            throw ValidationError("--polling-interval needs --polling.")
        }
        guard self.autoAck || self.polling || self.prefetch == 0 || self.ackEvery <= Int(self.prefetch) else {
            throw ValidationError("--ack-every must not be larger than --prefetch: the broker would wait for ever.")
        }
    }
}
