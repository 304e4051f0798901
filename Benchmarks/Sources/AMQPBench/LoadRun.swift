// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation
import Histogram

// LoadRun: one run of `publish`, `consume` or `both` against a broker that is there: it connects, makes the queue, runs
// producers, consumers and the pacer, waits until what was confirmed has arrived, and puts the report together.

/// One run.
struct LoadRun: Sendable {
    let options: RunOptions
    let broker: BrokerUnderTest
    let id: String
    let interruption: Interruption
    let screen: Screen
    let detail: Detail

    /// What is shown while it runs.
    enum Detail: Sendable {
        case all
        /// Only what is measured, before it begins.
        case header
        /// Only a line per interval.
        case rows
        case nothing
    }

    /// How long nothing may arrive before what is missing counts as lost.
    private static let patience = Duration.seconds(5)

    private var text: RunText { RunText(style: self.screen.style) }

    /// Runs and reports.
    ///
    /// - Throws: ``BenchFailure`` when there is nothing to report; a run that fails in its middle is reported.
    func run() async throws -> Report {
        let control = try await self.connect("control")
        var report = self.emptyReport(control)
        let queue: QueueUnderTest
        do {
            queue = try await QueueUnderTest.prepare(self.options, id: self.id, on: control)
        } catch {
            control.abort()
            throw error
        }
        let result: Result<Void, any Error>
        do {
            if self.detail == .all || self.detail == .header { self.screen.show(self.text.header(report)) }
            try await self.fill(queue)
            try await self.measure(queue, control: control, report: &report)
            result = .success(())
        } catch {
            result = .failure(error)
        }
        // In a task of its own, because the queue must go even when this one has been cancelled.
        let timeout = Duration.seconds(self.interruption.isUrgent ? 2 : 10)
        let isDeleted = await Task { () -> Bool in
            let isDeleted = await queue.delete(on: control, timeout: timeout)
            try? await control.close(timeout: timeout)
            return isDeleted
        }.value
        if !isDeleted, self.broker.startSeconds == nil {
            report.warnings.append("the queue \(queue.names[0]) could not be deleted")
        }
        try result.get()
        return report
    }

    private func connect(_ role: String) async throws -> AMQPConnection {
        do {
            var configuration = try AMQPClientConfiguration(uri: self.broker.uri)
            if configuration.connectionName.isEmpty { configuration.connectionName = "amqp-bench \(self.id) \(role)" }
            return try await AMQPConnection.connect(configuration)
        } catch {
            try Task.checkCancellation()
            throw BenchFailure.unavailable(error, address: self.address)
        }
    }

    /// Where the broker is, without the password.
    private var address: String {
        guard let configuration = try? AMQPClientConfiguration(uri: self.broker.uri) else { return "the URI given" }
        return configuration.addresses.map(\.description).joined(separator: ", ")
    }

    private func emptyReport(_ control: AMQPConnection) -> Report {
        let properties = control.serverProperties
        return Report(
            id: self.id,
            labels: self.options.labels,
            started: Date().formatted(.iso8601),
            tool: Report.Tool(commit: BuildFacts.commit),
            broker: Report.Broker(
                product: properties["product"]?.stringValue ?? "unknown broker",
                version: properties["version"]?.stringValue ?? "",
                startedHere: self.broker.startSeconds != nil,
                startSeconds: self.broker.startSeconds
            ),
            options: self.options
        )
    }

    // MARK: - The queue of `consume`

    /// Puts the messages into the queue that `consume` takes out again, if none was named.
    private func fill(_ queue: QueueUnderTest) async throws {
        guard self.options.producers == 0, queue.isGenerated else { return }
        self.screen.showLive("  filling the queue …")
        let connection = try await self.connect("fill")
        defer { connection.abort() }
        let channel = try await connection.openChannel()
        try await channel.enableConfirms()
        var body = [UInt8](repeating: 0, count: self.options.size ?? 0)
        var header = MessageHeader(sequence: 0, stream: 0, run: self.mark)
        for sequence in 0..<UInt64(self.options.count ?? 0) {
            header.sequence = sequence
            header.write(to: &body)
            let name = queue.names[Int(sequence % UInt64(queue.names.count))]
            try await channel.publish(body.span.bytes, to: .queue(name))
        }
        try await channel.waitForConfirms()
        try? await connection.close()
    }

    /// What marks the messages of this run.
    private var mark: UInt32 { self.id.utf8.reduce(2_166_136_261) { ($0 ^ UInt32($1)) &* 16_777_619 } }

    // MARK: - The run itself

    private enum Ended: Sendable {
        case producer((any Error)?)
        case consumer(Result<ConsumerFindings, any Error>)
        case pacer(Measurement)
        case drained
        case fault((any Error)?)
    }

    /// How the tasks of a run ended.
    private struct Outcome {
        var measurement: Measurement?
        var reordered: UInt64 = 0
        /// The first error of a producer or consumer.
        var failure: (any Error)?
    }

    private func measure(_ queue: QueueUnderTest, control: AMQPConnection, report: inout Report) async throws {
        var load = Load(options: self.options, mark: self.mark)
        let outcome: Outcome
        do {
            try await load.prepare(queues: queue.names) { try await self.connect($0) }
            outcome = await self.perform(load, isFilled: queue.isGenerated)
            try Task.checkCancellation()
        } catch {
            load.abort()
            throw error
        }
        if let measurement = outcome.measurement { self.sumUp(measurement, into: &report) }
        let counts = load.snapshot(broker: nil).counts
        let foreign = load.meters.foreign.sum
        report.wholeRun = counts
        report.verify.duplicated = load.ledger.duplicated - min(load.ledger.duplicated, counts.redelivered)
        report.verify.reordered = outcome.reordered
        report.verify.foreign = foreign
        if let failure = outcome.failure {
            report.ended = .failed
            report.failure = "\(failure)"
        } else {
            if self.interruption.signal != nil { report.ended = .interrupted }
            let arrived = self.isNumbered ? load.ledger.received : counts.consumed
            report.lost = try await self.lost(counts, arrived: arrived, queue: queue, control: control)
            report.verify.lost = report.lost
        }
        report.warnings = Warnings.of(report)
        await load.close(timeout: .seconds(5))
    }

    /// Runs all tasks to their ends.
    ///
    /// - Parameters:
    ///   - load: The tasks.
    ///   - isFilled: True when a run without producers finds its messages in the queue.
    /// - Returns: How they ended.
    private func perform(_ load: Load, isFilled: Bool) async -> Outcome {
        var outcome = Outcome()
        let finished = StopFlag()
        let pacer = Pacer(
            options: self.options,
            meters: load.meters,
            interruption: self.interruption,
            stop: load.stop,
            finished: finished,
            snapshot: { [usage = self.broker.usage] in load.snapshot(broker: usage) },
            isBlocked: { load.isBlocked },
            screen: self.screen,
            text: self.text,
            isQuiet: self.detail == .header || self.detail == .nothing
        )
        let begin = pacer.snapshot()
        var producersLeft = load.producers.count
        var consumersLeft = load.consumers.count
        self.interruption.endsCleanly(true)
        defer { self.interruption.endsCleanly(false) }
        await withTaskGroup(of: Ended.self) { group in
            for (consumer, deliveries) in load.consumers {
                group.addTask { .consumer(await Self.outcome { try await consumer.consume(deliveries) }) }
            }
            for producer in load.producers {
                group.addTask { .producer(await Self.outcome { try await producer.publish(from: begin.time) }.failure) }
            }
            group.addTask { .pacer(await pacer.measure(from: begin)) }
            if let fault = self.options.fault, let control = self.broker.control {
                group.addTask { [warmup = self.options.warmup] in
                    .fault(
                        await Self.outcome {
                            try await fault.inject(after: warmup, until: load.stop, control: control)
                        }.failure
                    )
                }
            }
            if load.producers.isEmpty, isFilled {
                group.addTask { [meters = load.meters, count = UInt64(self.options.count ?? 0)] in
                    await self.drain(count, meters: meters)
                    return .drained
                }
            }

            for await ended in group {
                switch ended {
                case .producer(let error):
                    producersLeft -= 1
                    outcome.failure = outcome.failure ?? error
                    if producersLeft == 0 {
                        let expected = outcome.failure == nil ? self.expected(load.snapshot(broker: nil).counts) : 0
                        group.addTask { [meters = load.meters] in
                            await self.drain(expected, meters: meters)
                            return .drained
                        }
                    }
                case .fault(let error):
                    outcome.failure = outcome.failure ?? error
                case .drained:
                    finished.set()
                    load.cancelConsumers()
                case .consumer(.success(let found)):
                    outcome.reordered += found.reordered
                    consumersLeft -= 1
                    if consumersLeft == 0 { finished.set() }
                case .consumer(.failure(let error)):
                    consumersLeft -= 1
                    outcome.failure = outcome.failure ?? error
                case .pacer(let measurement):
                    outcome.measurement = measurement
                    if load.producers.isEmpty { load.cancelConsumers() }
                }
                if outcome.failure != nil {
                    load.stop.set()
                    finished.set()
                    if load.producers.isEmpty { load.cancelConsumers() }
                }
            }
        }
        return outcome
    }

    private static func outcome<Value>(
        _ operation: () async throws -> Value
    ) async -> Result<Value, any Error> {
        do { return .success(try await operation()) } catch { return .failure(error) }
    }

    private func sumUp(_ measurement: Measurement, into report: inout Report) {
        let (start, end) = (measurement.start, measurement.end)
        report.intervals = measurement.intervals
        report.totals = .init(from: start, to: end, size: self.options.size ?? 0, intervals: measurement.intervals)
        report.broker.wasBlocked = measurement.wasBlocked
        report.broker.cpuPercent = end.brokerPercent(since: start)
        report.client.cpuMicroseconds = end.client.cpuMicroseconds - start.client.cpuMicroseconds
        let messages = self.options.producers > 0 ? report.totals.published : report.totals.consumed
        if messages > 0 {
            report.client.cpuMicrosecondsPerMessage = Double(report.client.cpuMicroseconds) / Double(messages)
        }
        report.client.cpuPercent = end.clientPercent(since: start)
        if report.totals.seconds > 0 {
            let busiest = Double(measurement.endThreads.busiest(since: measurement.startThreads))
            report.client.busiestThreadPercent = busiest / 1e4 / report.totals.seconds
        }
        report.client.maxResidentOctets = ProcessUsage.now.maxResidentOctets
        report.latency.confirm = LatencySummary(measurement.confirm)
        report.latency.endToEnd = LatencySummary(measurement.endToEnd)
        if self.options.rate != nil {
            report.latency.endToEndFromSend = LatencySummary(measurement.sent)
            report.latency.lag = LatencySummary(measurement.lag)
        }
    }

    // MARK: - What must arrive

    /// False when bodies are too short for a number.
    private var isNumbered: Bool { self.options.size ?? MessageHeader.size >= MessageHeader.size }

    /// Messages that consumers must get: those the broker took, or all without confirms.
    private func expected(_ counts: Report.Counts) -> UInt64 {
        self.options.confirms == nil ? counts.published : counts.confirmed
    }

    /// Waits until all that is expected has arrived, or nothing arrives any more.
    private func drain(_ expected: UInt64, meters: RunMeters) async {
        guard self.options.consumers > 0 else { return }
        var before: UInt64 = 0
        var deadline = ContinuousClock.now + Self.patience
        while ContinuousClock.now < deadline, !Task.isCancelled,
            !(self.options.producers == 0 && self.interruption.signal != nil)
        {
            let arrived = meters.consumed.sum - meters.foreign.sum
            if arrived >= expected { return }
            if arrived > before { deadline = ContinuousClock.now + Self.patience }
            before = arrived
            try? await Task.sleep(for: .milliseconds(5))
        }
    }

    /// Messages that the broker took and that are nowhere.
    private func lost(
        _ counts: Report.Counts,
        arrived: UInt64,
        queue: QueueUnderTest,
        control: AMQPConnection
    ) async throws -> UInt64 {
        let isFilled = self.options.producers == 0 && queue.isGenerated
        guard self.options.producers > 0 || isFilled && self.interruption.signal == nil else { return 0 }
        let expected = isFilled ? UInt64(self.options.count ?? 0) : self.expected(counts)
        if self.options.consumers > 0 { return expected - min(expected, arrived) }
        // Without consumers, what the broker took must be in the queue.
        guard queue.isGenerated, self.options.confirms != nil else { return 0 }
        let there = UInt64(try await queue.messageCount(on: control))
        return expected - min(expected, there)
    }
}

extension Result {
    fileprivate var failure: Failure? {
        if case .failure(let error) = self { error } else { nil }
    }
}
