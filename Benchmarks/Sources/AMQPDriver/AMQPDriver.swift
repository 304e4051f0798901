// SPDX-License-Identifier: Apache-2.0
import AMQP091
import ArgumentParser

// AMQPDriver: one workload against one broker, for comparison with the drivers of other clients in the same run.
// It takes the command line that such drivers share and prints one line of JSON. The loops are what a user would
// write: nothing here reaches behind the public API. Not here: amqp-bench, the tool people use.

/// What the driver does with its connections.
enum Mode: String, ExpressibleByArgument, CaseIterable {
    case publish, consume, pingpong
    case confirmEach = "confirm-each"
}

@main
struct AMQPDriver: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "amqp-driver",
        abstract: "Runs one workload and prints one line of JSON, as the drivers of other clients do."
    )

    @Option(help: "What to do.") var mode: Mode = .publish
    @Option(help: "The broker's host.") var host = "127.0.0.1"
    @Option(help: "The broker's port.") var port = 5672
    @Option(help: "The queue, which exists.") var queue = "bench"
    @Option(help: "Messages that are measured.") var count = 100_000
    @Option(help: "Messages before the clock starts.") var warmup = 0
    @Option(help: "Octets of a body.") var size = 1024
    @Option(help: "Publishes unconfirmed at most; 0 for no confirms.") var confirmWindow = 0
    @Option(help: "Deliveries ahead of acknowledgement; 0 for no limit.") var prefetch = 0
    @Option(help: "Acknowledge each so many; 0 for automatic acknowledgement.") var ackEvery = 0
    @Option(help: "Connections, each with its own channels.") var connections = 1
    @Option(help: "Channels of each connection; when publishing.") var channels = 1
    @Option(help: "Tasks on each channel; when publishing.") var tasks = 1
    @Flag(
        inversion: .prefixedNo,
        help: "Let the tasks prefer the thread that serves their connection; by default where round trips are measured."
    )
    var onLoop: Bool?

    func validate() throws {
        guard self.count > 0, self.warmup >= 0, self.size >= 0, self.connections > 0, self.channels > 0,
            self.tasks > 0
        else {
            throw ValidationError("count, connections, channels and tasks are at least 1, warmup and size at least 0")
        }
        guard UInt16(exactly: self.prefetch) != nil, UInt16(exactly: self.port) != nil else {
            throw ValidationError("port and prefetch are 0 to 65535")
        }
    }

    func run() async throws {
        let measurement: Measurement
        switch self.mode {
        case .publish: measurement = try await PublishWorkload(driver: self).run()
        case .consume: measurement = try await ConsumeWorkload(driver: self).run()
        case .pingpong, .confirmEach: measurement = try await LatencyWorkload(driver: self).run()
        }
        print(measurement.json(self))
    }

    /// Connects as the other drivers do: guest to the virtual host `/`.
    func connect() async throws -> AMQPConnection {
        try await AMQPConnection.connect(AMQPClientConfiguration(uri: "amqp://guest:guest@\(self.host):\(self.port)"))
    }

    /// Runs the body where the options say: in the global pool, or on the connection's own thread.
    func run<Result>(
        beside connection: AMQPConnection,
        _ body: @Sendable () async throws -> Result
    ) async throws -> Result {
        let isLatency = self.mode == .pingpong || self.mode == .confirmEach
        guard self.onLoop ?? isLatency else { return try await body() }
        return try await withTaskExecutorPreference(connection.taskExecutor) { try await body() }
    }
}
