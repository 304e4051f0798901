// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// Options: what a run can be told on the command line, and which settings cannot go together.

/// Which broker is started when no URI is given.
enum BrokerKind: String, ExpressibleByArgument, CaseIterable, Codable, Sendable {
    /// The in-process broker of the tests, in a process of its own.
    case embedded
    /// A private RabbitMQ node.
    case rabbitmq
}

/// The kind of queue to make.
enum QueueType: String, ExpressibleByArgument, CaseIterable, Codable, Sendable {
    case classic, quorum, stream
}

/// Something to keep in a result.
struct Label: ExpressibleByArgument, Hashable, Sendable {
    var key: String
    var value: String

    init?(argument: String) {
        guard let place = argument.firstIndex(of: "="), place > argument.startIndex else { return nil }
        self.key = String(argument[..<place])
        self.value = String(argument[argument.index(after: place)...])
    }
}

/// When text is coloured.
enum ColorChoice: String, ExpressibleByArgument, CaseIterable, Sendable {
    case auto, always, never
}

/// What the runs of all commands share.
struct CommonOptions: ParsableArguments {
    @Option(help: "Start this broker for the run and stop it afterwards: embedded, which is there, or rabbitmq.")
    var broker = BrokerKind.embedded

    @Option(
        name: [.customShort("H"), .long],
        help: "Measure this broker instead: amqp://user:password@host:port/vhost."
    )
    var uri: String?

    @Option(name: [.customShort("u"), .long], help: "Use this queue; one is made, and deleted at the end, by default.")
    var queue: String?

    @Option(name: [.customShort("z"), .long], help: "How long to measure, after the warm-up: 500ms, 10s, 2m.")
    var time = Seconds(10)

    @Option(
        name: [.customShort("C"), .long],
        help: "Stop after this many messages instead; there is no warm-up then."
    )
    var count: Int?

    @Option(help: "How long to run before measuring. (default: 2s)")
    var warmup: Seconds?

    @Option(name: .shortAndLong, help: "A line each time this has passed.")
    var interval = Seconds(1)

    @Option(help: "Write the result as JSON to this file; - is standard output, and the text goes to standard error.")
    var json: String?

    @Option(help: "Write the intervals as CSV to this file.")
    var csv: String?

    @Option(help: "Write the report as HTML to this file.")
    var html: String?

    @Option(help: "Write the distribution of the latency to this file, as HdrHistogram's tools read it.")
    var hgrm: String?

    @Flag(help: "Show the result as a table in Markdown too.")
    var markdown = false

    @Option(name: .customLong("label"), help: "KEY=VALUE to keep in the result; repeatable.")
    var labels: [Label] = []

    @Option(help: "Freeze a broker that was started here, as pause:2s@5s: for 2 s, 5 s after the warm-up.")
    var fault: Fault?

    @Flag(help: "No line per interval, only the summary.")
    var quiet = false

    @Option(help: "Queues; producers and consumers are spread over them in turn.")
    var queues = 1

    @Option(help: "What kind of queue to make: classic, quorum or stream.")
    var queueType = QueueType.classic

    @Option(help: "Connections that all producers and consumers share. (default: one each)")
    var connections: Int?

    @Option(help: "Channels of each producer and consumer.")
    var channels = 1

    @Option(help: "Measure so many times; the median run is reported, and the spread.")
    var runs = 1

    @Option(help: "How long to wait between runs.")
    var cooldown = Seconds(1)

    @Option(
        help: "Exit with 3 when this holds, as 'p99>5ms', 'rate<50k', 'lost>0', 'cpu>3us', 'memory>100m'; repeatable."
    )
    var failIf: [Threshold] = []

    @Option(help: "Colour the text: auto, always or never. NO_COLOR is honoured.")
    var color = ColorChoice.auto

    @Option(help: "The name of the run in its results. (default: generated)")
    var id: String?

    @Flag(help: "Measure even though this is a debug build, whose numbers mean nothing.")
    var allowDebug = false

    func validate() throws {
        if let count, count < 1 { throw ValidationError("--count takes at least 1 message.") }
        if self.count != nil, let warmup, warmup.seconds > 0 {
            throw ValidationError("--count and --warmup cannot go together: every message of a count is measured.")
        }
        guard self.fault == nil || self.uri == nil else {
            throw ValidationError("--fault freezes only a broker that is started for the run, not that of --uri.")
        }
        guard self.time.seconds > 0 else { throw ValidationError("--time must be longer than nothing.") }
        guard 1...1000 ~= self.runs else { throw ValidationError("--runs takes 1 to 1000.") }
        guard 1...1000 ~= self.queues, self.queue == nil || self.queues == 1 else {
            throw ValidationError("--queues takes 1 to 1000, and 1 beside --queue.")
        }
        guard 1...1000 ~= self.connections ?? 1 else { throw ValidationError("--connections takes 1 to 1000.") }
        guard 1...100 ~= self.channels else { throw ValidationError("--channels takes 1 to 100.") }
        guard self.interval.seconds >= 0.1 else { throw ValidationError("--interval takes at least 100ms.") }
        if let id, id.isEmpty || id.count > 64 || !id.allSatisfy({ $0.isLetter || $0.isNumber || "._-".contains($0) }) {
            throw ValidationError("--id takes up to 64 letters, digits, dots, dashes and underscores.")
        }
    }
}

/// What the commands that publish share.
struct PublishOptions: ParsableArguments {
    @Option(name: [.customShort("x"), .long], help: "Producers, each with a connection of its own.")
    var producers = 1

    @Option(name: .shortAndLong, help: "Octets of a body: 256, 1k, 1m.")
    var size = Size(octets: 256)

    @Option(name: .shortAndLong, help: "Messages per second of all producers together: 500, 50k. (default: no limit)")
    var rate: Rate?

    @Option(name: [.customShort("c"), .long], help: "Publishes unconfirmed at which a producer waits.")
    var confirms = 1024

    @Flag(help: "Publish without confirms: nothing tells then whether the broker took a message.")
    var noConfirms = false

    @Flag(help: "Mark messages persistent, and make the queue durable.")
    var persistent = false

    @Flag(help: "Have messages returned that no queue takes.")
    var mandatory = false

    func validate() throws {
        guard 1...1000 ~= self.producers else { throw ValidationError("--producers takes 1 to 1000.") }
        guard 1...(1 << 22) ~= self.confirms else { throw ValidationError("--confirms takes 1 to \(1 << 22).") }
        guard self.size.octets <= 16 << 20 else {
            throw ValidationError("--size takes at most 16m, the largest body the client accepts by default.")
        }
    }
}

/// What the commands that consume share.
struct ConsumeOptions: ParsableArguments {
    @Option(name: [.customShort("y"), .long], help: "Consumers, each with a connection of its own.")
    var consumers = 1

    @Option(name: [.customShort("q"), .long], help: "Deliveries the broker sends ahead of acknowledgement.")
    var prefetch: UInt16 = 512

    @Option(name: [.customShort("A"), .long], help: "Acknowledge each time this many have arrived.")
    var ackEvery = 64

    @Option(name: [.customShort("L"), .long], help: "Work on each message for this long: 1ms.")
    var consumerWork: Seconds?

    @Flag(name: .shortAndLong, help: "Let the broker take messages as acknowledged when it has sent them.")
    var autoAck = false

    func validate() throws {
        guard 1...1000 ~= self.consumers else { throw ValidationError("--consumers takes 1 to 1000.") }
        guard self.ackEvery >= 1 else { throw ValidationError("--ack-every takes at least 1.") }
        guard self.autoAck || self.prefetch == 0 || self.ackEvery <= Int(self.prefetch) else {
            throw ValidationError("--ack-every must not be larger than --prefetch: the broker would wait for ever.")
        }
    }
}

/// Everything a run was told, defaults included.
struct RunOptions: Codable, Hashable, Sendable {
    var command: String
    var producers = 0
    var consumers = 0
    var queue: String?
    var queues = 1
    var queueType = QueueType.classic
    /// Nil for one each.
    var connections: Int?
    var channels = 1
    var time: Double?
    var count: Int?
    var warmup: Double
    var interval: Double
    var size: Int?
    /// Messages per second; nil for as fast as the windows allow.
    var rate: Double?
    /// Whether a producer that fell behind its schedule catches up, and every message carries its times.
    var isOpenLoop = false
    /// Nil without confirms.
    var confirms: Int?
    var persistent = false
    var mandatory = false
    var prefetch: Int?
    var ackEvery: Int?
    var autoAck = false
    /// Seconds a consumer works on each message.
    var consumerWork: Double?
    var fault: Fault?
    var labels: [String: String] = [:]
}

extension RunOptions {
    /// Tasks that publish, each on a channel of its own.
    var publishers: Int { self.producers * self.channels }

    init(command: String, common: CommonOptions, publish: PublishOptions?, consume: ConsumeOptions?) {
        self.init(command: command, warmup: 0, interval: 0)
        self.queue = common.queue
        self.queues = common.queues
        self.queueType = common.queueType
        self.connections = common.connections
        self.channels = common.channels
        self.fault = common.fault
        self.labels = Dictionary(common.labels.map { ($0.key, $0.value) }) { $1 }
        self.count = common.count
        self.time = common.count == nil ? common.time.seconds : nil
        self.warmup = common.count == nil ? common.warmup?.seconds ?? 2 : 0
        self.interval = common.interval.seconds
        if let publish {
            self.producers = publish.producers
            self.size = publish.size.octets
            self.confirms = publish.noConfirms ? nil : publish.confirms
            self.rate = publish.rate?.perSecond
            self.persistent = publish.persistent
            self.mandatory = publish.mandatory
        }
        if let consume {
            self.consumers = consume.consumers
            self.prefetch = Int(consume.prefetch)
            self.ackEvery = consume.autoAck ? nil : consume.ackEvery
            self.autoAck = consume.autoAck
            self.consumerWork = consume.consumerWork?.seconds
        }
    }
}
