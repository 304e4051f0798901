// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// CommonOptions: what every command that measures can be told, and which settings cannot go together.

/// A broker to start, as `--broker` names it.
enum BrokerChoice: ExpressibleByArgument, Codable, Hashable, Sendable {
    case embedded
    /// A private node of the installed RabbitMQ, or of a release that scripts/rabbitmq provides.
    case rabbitmq(release: String?)
    /// A container of the image `rabbitmq` with a tag.
    case docker(tag: String)

    init?(argument: String) {
        switch argument {
        case "embedded": self = .embedded
        case "rabbitmq": self = .rabbitmq(release: nil)
        case "docker": self = .docker(tag: "latest")
        default:
            let parts = argument.split(separator: ":", maxSplits: 1).map(String.init)
            let isTag = { (tag: String) in
                tag.count <= 128 && tag.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "._-".contains($0)) }
            }
            guard parts.count == 2, isTag(parts[1]), !parts[1].isEmpty else { return nil }
            switch parts[0] {
            case "docker": self = .docker(tag: parts[1])
            case "rabbitmq" where Self.releases.contains(parts[1]): self = .rabbitmq(release: parts[1])
            default: return nil
            }
        }
    }

    static let allValueStrings = ["embedded", "rabbitmq", "rabbitmq:4.3", "docker:TAG"]

    /// What scripts/rabbitmq knows: releases, and the Debian releases that have them.
    static let releases = ["3.10", "4.0", "4.3", "bookworm", "trixie", "forky"]

    var defaultValueDescription: String {
        switch self {
        case .embedded: "embedded"
        case .rabbitmq(let release): release.map { "rabbitmq:\($0)" } ?? "rabbitmq"
        case .docker(let tag): "docker:\(tag)"
        }
    }
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

extension NameSpecification {
    /// A letter whose value may follow it at once, as `-x5`, and the long name.
    static func letter(_ letter: Character) -> NameSpecification {
        [.customShort(letter, allowingJoined: true), .long]
    }
}

/// When text is coloured.
enum ColorChoice: String, ExpressibleByArgument, CaseIterable, Sendable {
    case auto, always, never
}

/// What the runs of all commands share.
struct CommonOptions: ParsableArguments {
    @Option(
        help: "Start this broker for the run and stop it afterwards: embedded, rabbitmq, rabbitmq:4.3 or docker[:TAG]."
    )
    var broker = BrokerChoice.embedded

    @Option(
        name: [.customShort("H", allowingJoined: true), .customLong("uri")],
        help: "Measure this broker instead: amqp://user:password@host:port/vhost; repeatable, the nodes of a cluster."
    )
    var uris: [String] = []

    @Option(name: .letter("u"), help: "Use this queue; one is made, and deleted at the end, by default.")
    var queue: String?

    @Option(name: .letter("z"), help: "How long to measure, after the warm-up: 500ms, 10s, 1m30s. (default: 10s)")
    var time: Seconds?

    @Option(
        name: .letter("C"),
        help: "Stop after this many messages, as 500 or 10k, and without --time only then; there is no warm-up."
    )
    var count: MessageCount?

    @Option(help: "How long to run before measuring. (default: 2s)")
    var warmup: Seconds?

    @Option(name: .letter("i"), help: "A line each time this has passed.")
    var interval = Seconds(1)

    @Option(help: "Write the result as JSON to this file; - is standard output, and the text goes to standard error.")
    var json: String?

    @Flag(help: "Write a line of JSON per interval to standard output, and the text to standard error.")
    var ndjson = false

    @Option(help: "Answer GET /metrics on this port of loopback, or address: 9100, 0.0.0.0:9100, for Prometheus.")
    var prometheus: ListenAddress?

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

    @Option(help: "Freeze or kill a broker that was started here, 5 s after the warm-up: pause:2s@5s, kill@5s.")
    var fault: Fault?

    @Flag(help: "Make connections that are lost again, to another --uri too, and report each outage.")
    var reconnect = false

    @Option(
        help: "Run this in the shell, 5 s after the warm-up: 'docker kill rabbit2'@5s; sets --reconnect."
    )
    var faultCommand: FaultCommand?

    @Flag(inversion: .prefixedNo, help: "Put a checksum in each message and check it. (default: off; on in latency)")
    var verify: Bool?

    @Option(help: "How long to wait at the end until all messages have arrived; Ctrl-C ends the wait.")
    var drain = Seconds(10)

    @Flag(help: "No line per interval, only the summary.")
    var quiet = false

    @Option(help: "Queues; producers and consumers are spread over them in turn.")
    var queues = 1

    @OptionGroup var named: QueueOptions

    @Option(help: "What kind of queue to make: classic, quorum or stream.")
    var queueType = QueueType.classic

    @Option(help: "KEY=VALUE, an argument of the queues that are made, such as x-max-length=1000; repeatable.")
    var queueArg: [Label] = []

    @Flag(name: .shortAndLong, help: "Declare, bind and delete nothing: --queue or --exchange is there.")
    var predeclared = false

    @Option(help: "Connections that all producers and consumers share. (default: one each)")
    var connections: Int?

    @Option(help: "Channels of each producer and consumer.")
    var channels = 1

    @Option(help: "Threads that serve connections. (default: half the cores, at most 4)")
    var threads: Int?

    @Option(help: "Run so many of this on any machines, each with the same --id: they begin together, and one adds up.")
    var instances = 1

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

    @Flag(help: "Say what each setting means for this run, and send nothing.")
    var explain = false

    @Flag(help: "Measure even though this is a debug build, whose numbers mean nothing.")
    var allowDebug = false

    func validate() throws {
        if let count, count.messages < 1 { throw ValidationError("--count takes at least 1 message.") }
        if self.count != nil, let warmup, warmup.seconds > 0 {
            throw ValidationError("--count and --warmup cannot go together: every message of a count is measured.")
        }
        guard self.fault == nil || self.uris.isEmpty else {
            throw ValidationError("--fault strikes only a broker that is started for the run, not that of --uri.")
        }
        if self.fault?.kind == .kill {
            guard self.queueType != .stream, !self.predeclared else {
                throw ValidationError("--fault kill needs a queue that is made here and is no stream.")
            }
        }
        if self.reconnect || self.faultCommand != nil {
            guard self.queueType != .stream, self.instances == 1 else {
                throw ValidationError("--reconnect and --fault-command are not for streams or --instances.")
            }
        }
        guard !self.predeclared || self.queueArg.isEmpty else {
            throw ValidationError("--queue-arg is for queues that are made; --predeclared makes none.")
        }
        guard !self.ndjson || self.json != "-" else {
            throw ValidationError("--ndjson and --json - cannot go together: both take standard output.")
        }
        guard 1...64 ~= self.threads ?? 1 else { throw ValidationError("--threads takes 1 to 64.") }
        guard 1...100 ~= self.instances else { throw ValidationError("--instances takes 1 to 100.") }
        if self.instances > 1 {
            guard self.id != nil, !self.uris.isEmpty else {
                throw ValidationError("--instances needs --uri and an --id that all of them are given.")
            }
            guard self.runs == 1 else { throw ValidationError("--instances and --runs cannot go together.") }
        }
        if let time, time.seconds <= 0 { throw ValidationError("--time must be longer than nothing.") }
        guard 1...1000 ~= self.runs else { throw ValidationError("--runs takes 1 to 1000.") }
        guard 1...1000 ~= self.queues, self.queue == nil || self.queues == 1 else {
            throw ValidationError("--queues takes 1 to 1000, and 1 beside --queue.")
        }
        guard try self.named.names() == nil || self.queue == nil && self.queues == 1 else {
            throw ValidationError("--queue-pattern and --queue-file take the place of --queue and --queues.")
        }
        guard 1...1000 ~= self.connections ?? 1 else { throw ValidationError("--connections takes 1 to 1000.") }
        guard 1...100 ~= self.channels else { throw ValidationError("--channels takes 1 to 100.") }
        guard self.interval.seconds >= 0.1 else { throw ValidationError("--interval takes at least 100ms.") }
        if let id, id.isEmpty || id.count > 64 || !id.allSatisfy({ $0.isLetter || $0.isNumber || "._-".contains($0) }) {
            throw ValidationError("--id takes up to 64 letters, digits, dots, dashes and underscores.")
        }
    }
}
