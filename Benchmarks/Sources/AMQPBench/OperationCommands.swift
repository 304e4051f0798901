// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// OperationCommands: the commands that do one thing again and again and wait for its end each time: rpc and churn.

/// What `churn` opens and closes.
enum ChurnKind: String, ExpressibleByArgument, CaseIterable, Codable, Sendable {
    case connection, channel, queue
}

/// Requests and replies.
struct RPC: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rpc",
        abstract: "Call and wait for the reply, again and again.",
        discussion: """
            Without --rate a closed loop: each client calls when its reply is there, so a stall of the broker is seen by one call
            of each. With --rate a call counts from when it was due, and a stall is in every call it kept waiting.
            """
    )
    @OptionGroup(title: "Run") var common: CommonOptions

    @Option(name: .letter("x"), help: "Clients, each with a connection of its own.")
    var producers = 1

    @Option(name: .letter("y"), help: "Servers, each with a connection of its own.")
    var consumers = 1

    @Option(name: .letter("s"), help: "Octets of a request, and of its reply: 256, 1k.")
    var size = Size(octets: 256)

    @Option(name: .letter("c"), help: "Calls of one client at a time.")
    var inFlight = 1

    @Option(name: .letter("r"), help: "Calls per second of all clients together; as fast as replies come by default.")
    var rate: Rate?

    @Option(name: .letter("L"), help: "A server works on each call for this long: 1ms.")
    var consumerWork: Seconds?

    func validate() throws {
        guard 1...1000 ~= self.producers, 1...1000 ~= self.consumers, 1...10_000 ~= self.inFlight else {
            throw ValidationError("--producers and --consumers take 1 to 1000, --in-flight 1 to 10000.")
        }
        guard MessageHeader.sizeWithChecksum...(16 << 20) ~= self.size.octets else {
            throw ValidationError("--size takes \(MessageHeader.sizeWithChecksum) to 16m here: the reply is checked.")
        }
        try Self.refuseWhatNeedsALoad(self.common)
    }

    /// Options of the other commands that mean nothing here.
    static func refuseWhatNeedsALoad(_ common: CommonOptions) throws {
        guard common.fault == nil, common.instances == 1, common.queue == nil, common.queues == 1, !common.predeclared
        else {
            throw ValidationError("--fault, --instances, --queue, --queues and --predeclared are not for this command.")
        }
        guard common.named.queuePattern == nil, common.named.queueFile == nil, !common.named.exclusive,
            !common.named.autoDelete
        else {
            throw ValidationError(
                "--queue-pattern, --queue-file, --exclusive and --auto-delete are not for this command."
            )
        }
        guard !common.reconnect, common.faultCommand == nil else {
            throw ValidationError("--reconnect and --fault-command are not for this command.")
        }
    }

    /// What the run is told.
    func options() -> RunOptions {
        var options = RunOptions(command: "rpc", common: self.common, publish: nil, consume: nil)
        options.producers = self.producers
        options.consumers = self.consumers
        options.size = self.size.octets
        options.inFlight = self.inFlight
        options.rate = self.rate?.perSecond
        options.consumerWork = self.consumerWork?.seconds
        options.verify = true
        return options
    }

    func run() async throws {
        try await Execution(common: self.common, options: self.options(), measure: OperationRun.measure).run()
    }
}

/// Connections, channels or queues that come and go.
struct Churn: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Open and close connections, channels or queues, again and again."
    )
    @OptionGroup(title: "Run") var common: CommonOptions

    @Option(help: "What is opened and closed: connection, channel or queue.")
    var what = ChurnKind.connection

    @Option(name: .letter("x"), help: "Workers; each opens when what it opened before is closed.")
    var producers = 1

    @Option(
        name: .letter("r"),
        help: "How many are opened per second by all workers together; without end by default."
    )
    var rate: Rate?

    func validate() throws {
        guard 1...1000 ~= self.producers else { throw ValidationError("--producers takes 1 to 1000.") }
        try RPC.refuseWhatNeedsALoad(self.common)
    }

    /// What the run is told.
    func options() -> RunOptions {
        var options = RunOptions(command: "churn", common: self.common, publish: nil, consume: nil)
        options.producers = self.producers
        options.churn = self.what
        options.rate = self.rate?.perSecond
        return options
    }

    func run() async throws {
        try await Execution(common: self.common, options: self.options(), measure: OperationRun.measure).run()
    }
}
