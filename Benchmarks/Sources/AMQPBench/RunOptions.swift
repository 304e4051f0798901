// SPDX-License-Identifier: Apache-2.0

// RunOptions: everything a run was told, defaults included, as the results keep it. Pure.

/// Everything a run was told, defaults included.
struct RunOptions: Codable, Hashable, Sendable {
    var command: String
    var producers = 0
    var consumers = 0
    var queue: String?
    /// The queues that have names, where there are several.
    var queueNames: [String]?
    var queues = 1
    var queueType = QueueType.classic
    /// Arguments of the queues that are made.
    var queueArguments: [String: String]?
    /// Whether the queues are exclusive to the connection that all consumers share.
    var isExclusive: Bool?
    /// Whether the broker deletes the queues with their last consumers.
    var isAutoDelete: Bool?
    /// True when nothing is declared.
    var predeclared: Bool?
    /// Nil for the default exchange.
    var exchange: String?
    /// The type of an exchange that is made; nil for direct.
    var exchangeType: String?
    /// Nil for the name of the queue.
    var routingKey: String?
    /// All of them, where there are several.
    var routingKeys: [String]?
    /// How messages are spread over several; nil for in turn.
    var keyDistribution: KeyDistribution?
    /// Nil for one each.
    var connections: Int?
    /// Channels of each producer and consumer, unless one of the next two says otherwise.
    var channels = 1
    var producerChannels: Int?
    var consumerChannels: Int?
    /// Nil for the default.
    var threads: Int?
    /// How many instances of the tool make this run together.
    var instances: Int?
    var time: Double?
    var count: Int?
    /// Seconds the end of a run may wait for messages that have not arrived.
    var drain: Double?
    /// Messages not consumed at which producers wait; nil for no bound.
    var backlog: Int?
    /// Messages a queue that nobody consumes keeps, dropping older ones; nil for all.
    var sink: Int?
    var warmup: Double
    var interval: Double
    /// Octets of a body; of the smallest, where they differ.
    var size: Int?
    /// Octets of the largest body, where they differ.
    var sizeMax: Int?
    /// The file whose octets are published.
    var bodyFile: String?
    /// Messages per second; nil for as fast as the windows allow.
    var rate: Double?
    /// True for a part of a capacity that was looked for.
    var isRateSearched: Bool?
    /// Rates one after the other; `rate` is then their mean.
    var rateProfile: RateProfile?
    /// Whether a producer that fell behind its schedule catches up, and every message carries its times.
    var isOpenLoop = false
    /// Nil without confirms.
    var confirms: Int?
    /// Messages that a producer commits together.
    var transactionSize: Int?
    /// Messages whose acknowledgements a consumer commits together.
    var consumerTransactionSize: Int?
    var persistent = false
    var mandatory = false
    /// Headers of each message.
    var headers: [String: String]?
    /// Properties of each message, by the names of ``MessageProperty``.
    var messageProperties: [String: String]?
    var prefetch: Int?
    var ackEvery: Int?
    var autoAck = false
    /// Whether deliveries are rejected instead of acknowledged; true where they go back into the queue.
    var nackRequeues: Bool?
    /// Arguments of `basic.consume`.
    var consumerArguments: [String: String]?
    /// Seconds a consumer works on each message.
    var consumerWork: Double?
    /// Seconds from one `basic.get` to the next, where queues are polled.
    var pollingInterval: Double?
    /// Seconds from the first message until consumers subscribe.
    var consumerStartDelay: Double?
    /// True when one consumer subscribes each second.
    var startsSlowly: Bool?
    /// Seconds in which producers start at random.
    var producerStartDelay: Double?
    var exitWhen: ExitWhen?
    /// Whether messages carry a checksum.
    var verify = false
    /// Calls of one client at a time, in `rpc`.
    var inFlight: Int?
    /// What is opened and closed, in `churn`.
    var churn: ChurnKind?
    var fault: Fault?
    var faultCommand: FaultCommand?
    /// True when connections that are lost are made again, without a fault of the tool's own.
    var reconnects: Bool?
    var labels: [String: String] = [:]
}

extension RunOptions {
    /// Tasks of this instance that publish, each on a channel of its own.
    var publishers: Int { self.producers * self.channelsOfProducer }

    /// Tasks of this instance that consume.
    var subscribers: Int { self.consumers * self.channelsOfConsumer }

    var channelsOfProducer: Int { self.producerChannels ?? self.channels }
    var channelsOfConsumer: Int { self.consumerChannels ?? self.channels }

    /// Whether connections that are lost are made again.
    var resumes: Bool { self.fault?.kind == .kill || self.reconnects == true }

    /// The queues that were named; empty where they are made for the run.
    var namesOfQueues: [String] { self.queueNames ?? self.queue.map { [$0] } ?? [] }
    var isQueueNamed: Bool { self.queue != nil || self.queueNames != nil }

    /// The queues in words.
    var queuesText: String {
        if let names = self.queueNames, let first = names.first, let last = names.last {
            return "\(names.count) queues \(first) to \(last)"
        }
        return self.queue.map { "queue \($0)" }
            ?? "\(self.queues) \(self.queueType) queue\(self.queues == 1 ? "" : "s")"
    }

    /// Whether the broker says that it took each message: by confirms or by commits.
    var isConfirmed: Bool { self.confirms != nil || self.transactionSize != nil }

    /// Whether consumers ask for each message.
    var isPolling: Bool { self.pollingInterval != nil }

    /// What sizes bodies have.
    var sizes: SizeRange { SizeRange(low: self.size ?? 0, high: self.sizeMax ?? self.size ?? 0) }

    /// False when the bodies have no number: too short, or a file's.
    var isNumbered: Bool {
        (self.size ?? MessageHeader.size) >= MessageHeader.size && (self.bodyFile == nil || self.verify)
    }

    init(command: String, common: CommonOptions, publish: PublishOptions?, consume: ConsumeOptions?) {
        self.init(command: command, warmup: 0, interval: 0)
        let names = (try? common.named.names()) ?? common.queue.map { [$0] } ?? []
        self.queue = names.count == 1 ? names[0] : nil
        self.queueNames = names.count > 1 ? names : nil
        self.queues = max(common.queues, names.count)
        self.queueType = common.queueType
        self.queueArguments = Label.dictionary(common.queueArg)
        self.isExclusive = common.named.exclusive ? true : nil
        self.isAutoDelete = common.named.autoDelete ? true : nil
        self.predeclared = common.predeclared ? true : nil
        self.connections = common.connections
        self.channels = common.channels
        self.threads = common.threads
        self.instances = common.instances > 1 ? common.instances : nil
        self.fault = common.fault
        self.faultCommand = common.faultCommand
        self.reconnects = common.reconnect || common.faultCommand != nil ? true : nil
        self.labels = Label.dictionary(common.labels) ?? [:]
        self.count = common.count?.messages
        self.time = common.time?.seconds ?? (common.count == nil ? Self.defaultTime : nil)
        self.drain = common.drain.seconds
        self.warmup = common.count == nil ? common.warmup?.seconds ?? 2 : 0
        self.interval = common.interval.seconds
        self.verify = common.verify ?? false
        if let publish { self.take(publish, warmup: common.warmup) }
        if let consume {
            self.consumers = consume.consumers
            self.consumerChannels = consume.consumerChannels
            self.pollingInterval = consume.polling ? consume.pollingInterval?.seconds ?? 0 : nil
            self.prefetch = consume.polling ? nil : Int(consume.prefetch)
            self.ackEvery = consume.autoAck ? nil : consume.ackEvery
            self.autoAck = consume.autoAck
            self.consumerTransactionSize = consume.consumerTxSize
            self.nackRequeues = consume.nack ? consume.requeue : nil
            self.consumerWork = consume.consumerWork?.seconds
            self.consumerArguments = Label.dictionary(consume.consumerArg)
            self.consumerStartDelay = consume.start.consumerStartDelay?.seconds
            self.startsSlowly = consume.start.slowStart ? true : nil
            self.exitWhen = consume.exitWhen
        }
        self.bound(common, consume)
        // What a broker that is killed may forget says nothing.
        if self.resumes { self.persistent = true }
    }

    /// Bounds what may be in the queues: a queue that grows measures the memory of the broker.
    private mutating func bound(_ common: CommonOptions, _ consume: ConsumeOptions?) {
        guard self.producers > 0 else { return }
        if let consume, self.command == "both", self.instances == nil, !self.isQueueNamed, self.exchange == nil {
            let perConsumer = max(Int(consume.prefetch), 1) * Backlog.prefetches
            // Consumers that start later find what has come until then.
            let usual = self.lastConsumerStart > 0 ? 0 : perConsumer * self.subscribers
            let limit = consume.backlog?.messages ?? usual
            self.backlog = limit > 0 ? limit : nil
        }
        let isGenerated = !self.isQueueNamed && self.predeclared != true && self.queueType != .stream
        if consume == nil, self.command == "publish", isGenerated, self.queueArguments == nil,
            self.count ?? .max > Self.sinkSize
        {
            self.sink = Self.sinkSize
        }
    }

    /// Messages that a queue of `publish` keeps.
    private static let sinkSize = 100_000

    private mutating func take(_ publish: PublishOptions, warmup: Seconds?) {
        self.producers = publish.producers
        self.producerChannels = publish.producerChannels
        let fileSize = publish.body.flatMap { try? BodyFile.read($0).count }
        self.size = fileSize ?? publish.size.low
        if fileSize == nil, publish.size.high > publish.size.low { self.sizeMax = publish.size.high }
        self.bodyFile = publish.body
        let window = publish.confirms ?? min(1024, Self.mostUnconfirmed / publish.producers)
        self.producerStartDelay = publish.producerRandomStartDelay?.seconds
        self.transactionSize = publish.txSize
        self.confirms = publish.noConfirms || publish.txSize != nil ? nil : window
        self.rate = publish.rate?.perSecond
        if let profile = publish.rateProfile {
            self.rateProfile = profile
            self.rate = profile.mean
            // Its first rate is measured too.
            self.warmup = warmup?.seconds ?? 0
            if self.count == nil { self.time = profile.seconds - min(self.warmup, profile.seconds / 2) }
        }
        self.persistent = publish.persistent
        self.mandatory = publish.mandatory
        self.headers = Label.dictionary(publish.headers)
        self.messageProperties =
            publish.properties.isEmpty
            ? nil : Dictionary(publish.properties.map { ($0.name, $0.value) }) { $1 }
        self.exchange = publish.exchange
        self.exchangeType = publish.exchangeType?.rawValue
        self.routingKey = publish.routingKeys.first
        self.routingKeys = publish.routingKeys.count > 1 ? publish.routingKeys : nil
        self.keyDistribution = publish.keyDistribution
    }

    /// Seconds that are measured unless a time or a count is given.
    private static let defaultTime = 10.0

    /// Messages unconfirmed of all producers together unless asked for: more says how a broker bears a flood.
    private static let mostUnconfirmed = 32_768

    /// Why these options cannot go together; nil when they can.
    var contradiction: String? {
        if self.verify, (self.size ?? MessageHeader.sizeWithChecksum) < MessageHeader.sizeWithChecksum {
            return
                "--verify needs bodies of at least \(MessageHeader.sizeWithChecksum) octets, where the checksum has room."
        }
        if self.exchangeType != nil, self.exchange == nil || self.predeclared == true {
            return "--exchange-type is for an --exchange that is made."
        }
        if self.exchange != nil, self.queues > 1 { return "--exchange goes with one queue." }
        if self.predeclared == true {
            if self.exchange == nil, !self.isQueueNamed { return "--predeclared needs --queue or --exchange." }
            if self.consumers > 0, !self.isQueueNamed {
                return "--predeclared needs --queue where there are consumers."
            }
        }
        if let start = self.startContradiction { return start }
        if self.isExclusive == true || self.isAutoDelete == true {
            if self.queueType != .classic || self.predeclared == true {
                return "--exclusive and --auto-delete are for classic queues that are made: brokers have no others."
            }
        }
        if self.isExclusive == true,
            self.isQueueNamed || self.resumes || self.instances != nil || self.connections != nil
        {
            return
                "--exclusive is for queues that are made for the run, on one connection that stays: it does not go with "
                + "--queue, --reconnect, --fault kill, --connections or --instances."
        }
        if self.isAutoDelete == true, self.consumers == 0 {
            return "--auto-delete needs consumers: the queue goes with the last of them."
        }
        if self.isPolling, self.queueType == .stream || self.consumerArguments != nil {
            return "--polling is not for streams, which have no basic.get, nor for --consumer-arg: nobody subscribes."
        }
        if self.exitWhen != nil, self.producers > 0 { return "--exit-when is for consume." }
        return nil
    }
}

extension RunOptions {
    /// How the broker says that it took a message, in words.
    var confirmsText: String {
        if let size = self.transactionSize { return "transactions of \(size)" }
        return self.confirms.map { "confirms ≤ \($0)" } ?? "no confirms"
    }

    /// The channels in words; nil for one each.
    var channelsText: String? {
        let (ofProducer, ofConsumer) = (self.channelsOfProducer, self.channelsOfConsumer)
        if self.producers == 0 || self.consumers == 0 || ofProducer == ofConsumer {
            let count = self.producers > 0 ? ofProducer : ofConsumer
            return count > 1 ? "\(count) channels each" : nil
        }
        return "\(ofProducer) channel\(ofProducer == 1 ? "" : "s") of each producer, \(ofConsumer) of each consumer"
    }
}

extension Label {
    /// The last value of each key; nil for none.
    static func dictionary(_ labels: [Label]) -> [String: String]? {
        labels.isEmpty ? nil : Dictionary(labels.map { ($0.key, $0.value) }) { $1 }
    }
}
