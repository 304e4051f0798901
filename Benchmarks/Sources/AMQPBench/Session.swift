// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation

// Session: what every command that measures shares: the broker, the signals, the screen, the files and the exit code.

/// A broker and the means to report, for as long as a command measures.
struct Session: Sendable {
    let broker: BrokerUnderTest
    let interruption: Interruption
    let screen: Screen
    /// The name of the run.
    let id: String
    /// For other programs; nil where nobody asks.
    var live: LiveMetrics?

    /// Runs an operation with a broker and ends with its exit code.
    ///
    /// - Parameters:
    ///   - common: What the command was told.
    ///   - body: Measures, reports, and says how to exit.
    /// - Throws: `ExitCode` for anything but 0.
    static func run(_ common: CommonOptions, _ body: @escaping @Sendable (Session) async throws -> Int32) async throws {
        let screen = Screen(usesStandardError: common.json == "-" || common.ndjson, color: common.color)
        guard !BuildFacts.isDebug || common.allowDebug else {
            throw ValidationError(
                "This is a debug build, whose numbers mean nothing. Start ./amqp-bench, or add --allow-debug."
            )
        }
        for file in [common.json, common.csv, common.hgrm, common.html].compactMap({ $0 }) where file != "-" {
            try Self.checkWritable(file)
        }
        FileLimit.raise()
        // Read at the first connection.
        if let threads = common.threads { setenv("EPOLL_LOOPS", String(threads), 1) }
        let interruption = Interruption()
        interruption.install()
        let status: Int32
        do {
            let live = try Self.live(common, screen)
            status = try await interruption.cancellable {
                try await BrokerUnderTest.with(
                    uris: common.uris,
                    choice: common.broker,
                    interruption: interruption,
                    say: { Screen.write(Data(($0 + "\n").utf8), to: STDERR_FILENO) },
                    { broker in
                        let id = common.id ?? Self.newID()
                        return try await body(
                            Session(broker: broker, interruption: interruption, screen: screen, id: id, live: live)
                        )
                    }
                )
            }
        } catch let failure as BenchFailure {
            screen.show(screen.style.red("amqp-bench: \(failure)"))
            throw ExitCode(failure.status)
        } catch {
            guard let signal = interruption.signal else {
                screen.show(screen.style.red("amqp-bench: \(error)"))
                throw ExitCode(ExitStatus.failed)
            }
            screen.show("amqp-bench: stopped; nothing is left running")
            throw ExitCode(ExitStatus.interrupted(by: signal))
        }
        guard status == 0 else { throw ExitCode(status) }
    }

    private static let writeLine: @Sendable (Data) -> Void = { Screen.write($0, to: STDOUT_FILENO) }

    /// The outputs of `--ndjson` and `--prometheus`; nil for neither.
    private static func live(_ common: CommonOptions, _ screen: Screen) throws(BenchFailure) -> LiveMetrics? {
        guard common.ndjson || common.prometheus != nil else { return nil }
        let live = LiveMetrics(write: common.ndjson ? Self.writeLine : nil)
        if let address = common.prometheus {
            let server = try MetricsServer(on: address) { live.prometheus }
            screen.show("metrics for Prometheus at http://\(address.host):\(server.port)/metrics")
        }
        return live
    }

    /// One run of a load.
    func load(_ options: RunOptions, detail: LoadRun.Detail, suffix: String = "") -> LoadRun {
        LoadRun(
            options: options,
            broker: self.broker,
            id: self.id + suffix,
            interruption: self.interruption,
            screen: self.screen,
            detail: detail,
            live: self.live
        )
    }

    /// Writes a result where `--json` says.
    ///
    /// - Parameters:
    ///   - json: The result.
    ///   - file: A path, `-` for standard output, or nil.
    /// - Returns: Where it went, for people.
    /// - Throws: The error of the file system.
    static func save(_ json: Data, to file: String?) throws -> String? {
        guard let file else { return nil }
        if file == "-" {
            Screen.write(json, to: STDOUT_FILENO)
            return "standard output"
        }
        try FileOutput.write(json, to: file)
        return file
    }

    /// Better found out before the run than after it.
    private static func checkWritable(_ file: String) throws {
        let url = URL(fileURLWithPath: file)
        let exists = access(file, F_OK) == 0
        guard access(exists ? file : url.deletingLastPathComponent().path, W_OK) == 0, !file.hasSuffix("/") else {
            throw ValidationError("\(file) cannot be written.")
        }
    }

    /// A short name that is unlikely to come twice in a day's work.
    private static func newID() -> String {
        let letters = Array("abcdefghijkmnpqrstuvwxyz23456789")
        return String((0..<6).map { _ in letters[Int.random(in: 0..<letters.count)] })
    }
}

/// The number of files this process may open.
enum FileLimit {
    /// How far it can be raised.
    static var highest: UInt64 {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return UInt64(limit.rlim_max)
    }

    /// Raises it as far as it goes: a thousand connections are more than the usual 1024 files.
    static func raise() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}
