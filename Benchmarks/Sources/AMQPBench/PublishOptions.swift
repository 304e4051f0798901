// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// PublishOptions: what the commands that publish can be told.

/// The kinds of exchanges every broker has.
enum ExchangeType: String, ExpressibleByArgument, CaseIterable, Sendable {
    case direct, fanout, topic, headers
}

/// What the commands that publish share.
struct PublishOptions: ParsableArguments {
    @Option(name: .letter("x"), help: "Producers, each with a connection of its own.")
    var producers = 1

    @Option(name: .letter("X"), help: "Channels of each producer. (default: as --channels)")
    var producerChannels: Int?

    @Option(name: .letter("s"), help: "Octets of a body: 256, 1k, 1m; 64:4k for sizes spread evenly between two.")
    var size: SizeRange = .init(256)

    @Option(help: "Publish the octets of this file as they are, unnumbered without --verify.")
    var body: String?

    @Option(
        name: .letter("r"),
        help: "Messages per second of all producers together: 500, 50k. (default: no limit; auto for latency)"
    )
    var rate: RateChoice?

    @Option(help: "Start each producer at a time between none and this, at random: 5s.")
    var producerRandomStartDelay: Seconds?

    @Option(help: "Rates one after the other, as 1k:10s,5k:10s; takes the place of --rate and --time.")
    var rateProfile: RateProfile?

    @Option(
        name: .letter("c"),
        help: "Publishes unconfirmed at which a producer waits. (default: 1024, and 32768 of all producers together)"
    )
    var confirms: Int?

    @Flag(help: "Publish without confirms: nothing tells then whether the broker took a message.")
    var noConfirms = false

    @Option(
        name: .letter("m"),
        help: "Publish in transactions of so many messages, without confirms; a commit is the confirm of them all."
    )
    var txSize: Int?

    @Flag(help: "Mark messages persistent; queues are durable in any case.")
    var persistent = false

    @Flag(help: "Have messages returned that no queue takes.")
    var mandatory = false

    @Option(name: .customLong("header"), help: "KEY=VALUE, a header of each message; repeatable.")
    var headers: [Label] = []

    @Option(
        name: .customLong("property"),
        help: "NAME=VALUE, a property of each message: content-type, priority, expiration, type, …; repeatable."
    )
    var properties: [MessageProperty] = []

    @Option(help: "Publish to this exchange; it is made, and the queue is bound to it, where it is missing.")
    var exchange: String?

    @Option(help: "What kind of exchange to make: direct, fanout, topic or headers. (default: direct)")
    var exchangeType: ExchangeType?

    @Option(
        name: .customLong("routing-key"),
        help: "The routing key of each message; repeatable. (default: the name of its queue)"
    )
    var routingKeys: [String] = []

    @Option(help: "How messages are spread over several routing keys: turns, random or zipf. (default: turns)")
    var keyDistribution: KeyDistribution?

    func validate() throws {
        guard 1...1000 ~= self.producers else { throw ValidationError("--producers takes 1 to 1000.") }
        guard 1...100 ~= self.producerChannels ?? 1 else {
            throw ValidationError("--producer-channels takes 1 to 100.")
        }
        guard 1...(1 << 22) ~= self.confirms ?? 1 else { throw ValidationError("--confirms takes 1 to \(1 << 22).") }
        try self.size.checked()
        guard 1...1_000_000 ~= self.txSize ?? 1 else { throw ValidationError("--tx-size takes 1 to 1000000.") }
        guard self.txSize == nil || self.confirms == nil && !self.noConfirms else {
            throw ValidationError("A channel has confirms or transactions: leave --confirms and --no-confirms out.")
        }
        guard self.txSize == nil || !self.mandatory else {
            throw ValidationError("--mandatory is for confirms: a commit does not tell which messages came back.")
        }
        guard self.producerRandomStartDelay?.seconds ?? 1 > 0 else {
            throw ValidationError("--producer-random-start-delay must be longer than nothing.")
        }
        guard self.rate == nil || self.rateProfile == nil else {
            throw ValidationError("--rate and --rate-profile cannot go together.")
        }
        guard self.keyDistribution == nil || self.routingKeys.count > 1 else {
            throw ValidationError("--key-distribution needs several --routing-key.")
        }
        guard self.routingKeys.count <= 1000 else {
            throw ValidationError("--routing-key is given at most 1000 times.")
        }
        for text in self.routingKeys + [self.exchange].compactMap({ $0 }) where text.utf8.count > 255 {
            throw ValidationError("--exchange and --routing-key take at most 255 octets.")
        }
        if let body { _ = try BodyFile.read(body) }
    }
}
