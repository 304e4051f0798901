// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// LoadCommands: the commands that make or take messages without an end: both, publish, consume and latency.

/// Publish and consume.
struct Both: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Publish and consume as fast as the windows allow (the default)."
    )
    @OptionGroup(title: "Run") var common: CommonOptions
    @OptionGroup(title: "Publishing") var publishing: PublishOptions
    @OptionGroup(title: "Consuming") var consuming: ConsumeOptions

    func validate() throws { _ = try self.options() }

    /// What the run is told.
    func options() throws -> RunOptions {
        try self.publishing.refuseAuto()
        return try RunOptions(command: "both", common: self.common, publish: self.publishing, consume: self.consuming)
            .checked()
    }

    func run() async throws { try await Execution(common: self.common, options: self.options()).run() }
}

/// Publish only.
struct Publish: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Publish only.")
    @OptionGroup(title: "Run") var common: CommonOptions
    @OptionGroup(title: "Publishing") var publishing: PublishOptions

    func validate() throws { _ = try self.options() }

    /// What the run is told.
    func options() throws -> RunOptions {
        try self.publishing.refuseAuto()
        return try RunOptions(command: "publish", common: self.common, publish: self.publishing, consume: nil).checked()
    }

    func run() async throws { try await Execution(common: self.common, options: self.options()).run() }
}

/// Consume only.
struct Consume: AsyncParsableCommand {
    /// Messages put into a generated queue when no count is given: so many, or as many as have room in 512 MiB, which
    /// brokers hold without an alarm.
    static func defaultCount(of size: SizeRange) -> Int {
        let mean = max(1, (size.low + size.high) / 2)
        return max(1, min(500_000, (512 << 20) / mean))
    }

    static let configuration = CommandConfiguration(
        abstract: "Drain a queue.",
        discussion: """
            Without --queue, a queue is made and filled with --count messages (500 000, or 512 MiB of them, by default)
            before the measuring begins.
            """
    )
    @OptionGroup(title: "Run") var common: CommonOptions
    @OptionGroup(title: "Consuming") var consuming: ConsumeOptions

    @Option(name: .letter("s"), help: "Octets of a body in a queue that is filled here: 256, 1k, 64:4k.")
    var size = SizeRange(256)

    func validate() throws { _ = try self.options() }

    /// What the run is told.
    func options() throws -> RunOptions {
        var options = RunOptions(command: "consume", common: self.common, publish: nil, consume: self.consuming)
        try self.size.checked()
        if !options.isQueueNamed {
            guard options.instances == nil else {
                throw ValidationError("--instances of consume needs a --queue that is filled.")
            }
            options.size = self.size.low
            if self.size.high > self.size.low { options.sizeMax = self.size.high }
            options.count = options.count ?? Self.defaultCount(of: self.size)
            options.time = nil
            options.warmup = 0
        }
        return try options.checked()
    }

    func run() async throws { try await Execution(common: self.common, options: self.options()).run() }
}

/// Latency at fixed rates.
struct Latency: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Publish on a fixed schedule and measure latency from the scheduled time.",
        discussion: """
            Without --rate, or with --rate auto, the capacity is looked for first, and 50 %, 80 % and 95 % of it are measured,
            each for --time.
            """
    )
    @OptionGroup(title: "Run") var common: CommonOptions
    @OptionGroup(title: "Publishing") var publishing: PublishOptions
    @OptionGroup(title: "Consuming") var consuming: ConsumeOptions

    func validate() throws {
        let options = try self.options()
        guard options.sizes.low >= MessageHeader.sizeWithTimes, options.isNumbered else {
            throw ValidationError(
                "latency takes bodies of at least \(MessageHeader.sizeWithTimes) octets, and --body with --verify only: "
                    + "a message carries its times."
            )
        }
        guard options.instances == nil, self.common.runs == 1 else {
            throw ValidationError("--instances and --runs are not for latency.")
        }
    }

    /// What each of its runs is told.
    func options() throws -> RunOptions {
        var options = RunOptions(
            command: "latency",
            common: self.common,
            publish: self.publishing,
            consume: self.consuming
        )
        let hasRoom = options.sizes.low >= MessageHeader.sizeWithChecksum && options.bodyFile == nil
        options.verify = self.common.verify ?? hasRoom
        return try options.checked()
    }

    func run() async throws {
        let (common, options) = (self.common, try self.options())
        if common.explain {
            for line in Explanation(options, common).lines { print(line) }
            return
        }
        try await Session.run(common) { session in
            let (report, status) = try await LatencyRun(
                session: session,
                options: options,
                thresholds: common.failIf
            ).run()
            let text = LatencyText(style: session.screen.style)
            let place = try Session.save(try report.json(), to: common.json)
            try LatencyExports.write(report, common, on: session.screen)
            session.screen.show(text.closing(report, savedTo: place))
            return status
        }
    }
}

extension PublishOptions {
    /// A capacity is looked for by `latency` alone.
    fileprivate func refuseAuto() throws {
        guard self.rate != .auto else { throw ValidationError("--rate auto is for latency.") }
    }
}

extension RunOptions {
    /// The same options.
    ///
    /// - Throws: `ValidationError` when they cannot go together.
    func checked() throws -> RunOptions {
        if let contradiction { throw ValidationError(contradiction) }
        return self
    }
}
