// SPDX-License-Identifier: Apache-2.0

// Explanation: what `--explain` prints: each setting of a run and what it means for this one. Pure.

/// The settings of a run in sentences.
struct Explanation: Sendable {
    private let options: RunOptions
    private let common: CommonOptions

    init(_ options: RunOptions, _ common: CommonOptions) {
        self.options = options
        self.common = common
    }

    /// One line for each setting.
    var lines: [String] {
        let rows = self.broker + self.length + self.shape + self.publishing + self.consuming + self.output
        let width = rows.map(\.0.count).max() ?? 0
        return ["amqp-bench \(self.options.command) would do this; nothing is sent.", ""]
            + rows.map { "  " + Text.left($0.0, width) + "   " + $0.1 }
    }

    private typealias Rows = [(String, String)]

    private var broker: Rows {
        guard self.common.uris.isEmpty else {
            let nodes =
                self.common.uris.count == 1 ? "this broker" : "\(self.common.uris.count) nodes of a cluster in turn"
            return [("--uri", "\(nodes), which is not started, stopped or frozen; its processor time is not known")]
        }
        switch self.common.broker {
        case .embedded:
            return [
                ("--broker embedded", "the in-process broker, in a process of its own: it says nothing about RabbitMQ")
            ]
        case .rabbitmq(let release):
            let name = self.common.broker.defaultValueDescription
            let origin = release == nil ? "" : "of that release, installed in a root of its own if it is not there, "
            return [("--broker \(name)", "a private RabbitMQ \(origin)on free ports, stopped and deleted at the end")]
        case .docker(let tag):
            return [("--broker docker:\(tag)", "a container of rabbitmq:\(tag), removed at the end")]
        }
    }

    private var length: Rows {
        var rows: Rows = []
        if let count = self.options.count {
            rows.append(("--count \(count)", "ends after so many messages, all of them measured"))
        } else if let time = self.options.time {
            rows.append(("--time \(Text.decimal(time, places: 1))s", "is measured"))
            let warmup = Text.decimal(self.options.warmup, places: 1)
            rows.append(("--warmup \(warmup)s", "comes before it, and is shown but not counted"))
        }
        if self.common.runs > 1 {
            rows.append(("--runs \(self.common.runs)", "the median run is reported, with the spread of all"))
        }
        if let instances = self.options.instances {
            rows.append(("--instances \(instances)", "begin together, agreed on through the broker; one adds up"))
        }
        if let exit = self.options.exitWhen { rows.append(("--exit-when \(exit)", "ends before its time")) }
        if let fault = self.options.fault {
            let start = "\(Text.decimal(fault.start, places: 1)) s after the warm-up"
            rows.append(
                fault.kind == .kill
                    ? ("--fault kill", "kills the broker \(start) and starts it again; messages are persistent")
                    : ("--fault pause", "freezes the broker for \(Text.decimal(fault.pause, places: 1)) s, \(start)")
            )
        }
        if self.options.reconnects == true {
            rows.append(("--reconnect", "makes lost connections again, for 60 s at most; messages are persistent"))
        }
        if let command = self.options.faultCommand {
            let start = "\(Text.decimal(command.start, places: 1)) s after the warm-up"
            rows.append(("--fault-command", "runs \(command.command) in the shell, \(start)"))
        }
        return rows
    }

    private var shape: Rows {
        var rows: Rows = []
        if let queue = self.options.queue {
            rows.append(("--queue \(queue)", "is used as it is, made if missing, and stays"))
        } else if self.options.queueNames != nil {
            let fate =
                "are used as they are, made if missing, and stay; producers and consumers are spread over them in turn"
            rows.append((self.options.queuesText, fate))
        } else if self.options.predeclared != true {
            rows.append(
                (
                    "--queues \(self.options.queues)",
                    "\(self.options.queueType), durable, made for this run and deleted"
                )
            )
        }
        if let exchange = self.options.exchange {
            rows.append(
                (
                    "--exchange \(exchange)",
                    "made (\(self.options.exchangeType ?? "direct")) and deleted, unless it is there; "
                        + "the queue is bound to it"
                )
            )
        }
        if self.options.isExclusive == true {
            rows.append(
                ("--exclusive", "the queues belong to one connection, on which all consumers have their channels")
            )
        }
        if self.options.isAutoDelete == true {
            rows.append(
                ("--auto-delete", "the broker deletes the queues with their last consumers, and what is in them")
            )
        }
        if self.options.predeclared == true { rows.append(("--predeclared", "nothing is declared, bound or deleted")) }
        let sum = self.options.producers + self.options.consumers
        rows.append(
            (
                "--connections \(self.options.connections ?? sum)",
                "with \(self.options.channelsText ?? "1 channel each")"
            )
        )
        return rows
    }

    private var publishing: Rows {
        guard self.options.producers > 0 else { return [] }
        let options = self.options
        var rows: Rows = [("--producers \(options.producers)", "publish")]
        let sizes = options.sizes
        rows.append(
            options.bodyFile.map { ("--body \($0)", "the file's \(sizes.low) octets in each message") }
                ?? (
                    "--size \(sizes.defaultValueDescription)",
                    sizes.low == sizes.high ? "octets in each message" : "octets, spread evenly"
                )
        )
        if let profile = options.rateProfile {
            rows.append(("--rate-profile", "\(profile.parts.count) rates, one after the other"))
        } else if let rate = options.rate {
            let loop = options.isOpenLoop || options.command == "latency"
            let behaviour = loop ? "what was held up is caught up with" : "what is 100 ms overdue is left out"
            rows.append(("--rate \(Text.rate(rate))", "of all producers together, without bursts; \(behaviour)"))
        } else if options.command == "latency" {
            rows.append(("--rate auto", "3 s look for the capacity; then 50 %, 80 % and 95 % of it"))
        } else {
            rows.append(("no --rate", "as fast as the confirm window allows: latencies are queue lengths"))
        }
        rows.append(
            options.transactionSize.map { ("--tx-size \($0)", "a producer commits so many messages and waits for it") }
                ?? options.confirms.map { ("--confirms \($0)", "a producer waits while so many are unconfirmed") }
                ?? ("--no-confirms", "nothing tells whether the broker took a message")
        )
        if options.persistent { rows.append(("--persistent", "the broker writes messages to disk before it confirms")) }
        if options.mandatory { rows.append(("--mandatory", "what no queue takes comes back and is counted")) }
        return rows
    }

    private var consuming: Rows {
        guard self.options.consumers > 0 else { return [] }
        var rows: Rows = [("--consumers \(self.options.consumers)", "consume")]
        if let delay = self.options.consumerStartDelay {
            let text = Text.decimal(delay, places: 1)
            rows.append(("--consumer-start-delay \(text)s", "the queues fill until then, and latency counts it"))
        }
        if self.options.startsSlowly == true { rows.append(("--slow-start", "one consumer subscribes each second")) }
        if let interval = self.options.pollingInterval {
            let pause = interval > 0 ? ", \(Text.decimal(interval * 1000, places: 1)) ms after the one before" : ""
            rows.append(("--polling", "each message is asked for\(pause): a message costs a round trip"))
        }
        if self.options.autoAck {
            rows.append(("--auto-ack", "the broker forgets a message when it has sent it"))
        } else {
            if !self.options.isPolling {
                let ahead = "deliveries are sent ahead of acknowledgement"
                rows.append(("--prefetch \(self.options.prefetch ?? 0)", ahead))
            }
            rows.append(("--ack-every \(self.options.ackEvery ?? 1)", "one acknowledgement for so many messages"))
        }
        return rows
    }

    private var output: Rows {
        var rows: Rows = [
            self.options.verify
                ? ("--verify", "each message is numbered and has a checksum")
                : ("no --verify", "messages are numbered where they have room, without checksum")
        ]
        if let file = self.common.json { rows.append(("--json \(file)", "keeps the result")) }
        for threshold in self.common.failIf { rows.append(("--fail-if '\(threshold)'", "exits with 3 when it holds")) }
        return rows
    }
}
