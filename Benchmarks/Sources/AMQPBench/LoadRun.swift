// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Foundation

// LoadRun: one run of `publish`, `consume` or `both` against a broker that is there: it connects, makes the queue, has
// the load measured, and puts the report together. How the tasks of a run end: LoadRun+Measuring.

/// One run.
struct LoadRun: Sendable {
    let options: RunOptions
    let broker: BrokerUnderTest
    let id: String
    let interruption: Interruption
    let screen: Screen
    let detail: Detail
    var live: LiveMetrics?

    /// What is shown while it runs.
    enum Detail: Sendable {
        case all
        /// Only what is measured, before it begins.
        case header
        /// Only a line per interval.
        case rows
        case nothing
    }

    var text: RunText { RunText(style: self.screen.style) }
    private let nodes = ConnectedNodes()
    private var connector: Connector { Connector(broker: self.broker, id: self.id, nodes: self.nodes) }

    /// Runs and reports.
    ///
    /// - Throws: ``BenchFailure`` when there is nothing to report; a run that fails in its middle is reported.
    func run() async throws -> Report {
        let control = Link(try await self.connect("control")) { try await self.connect("control") }
        var report = self.connector.emptyReport(control.connection, self.options)
        let queue: QueueUnderTest
        do {
            queue = try await QueueUnderTest.prepare(self.options, id: self.id, on: control.connection)
        } catch {
            control.abort()
            throw error
        }
        var others: Rendezvous?
        let result: Result<Void, any Error>
        do {
            if self.detail == .all || self.detail == .header { self.screen.show(self.text.header(report)) }
            try await self.fill(queue)
            others = try await self.meet(on: control.connection)
            try await self.measure(queue, control: control, others: others, report: &report)
            result = .success(())
        } catch {
            result = .failure(error)
        }
        // In a task of its own, because the queue must go even when this one has been cancelled.
        let timeout = Duration.seconds(self.interruption.isUrgent ? 2 : 10)
        let isDeleting = others?.isLeader ?? true
        let isDeleted = await Task { [others] () -> Bool in
            let isDeleted = isDeleting ? await queue.delete(on: control.connection, timeout: timeout) : true
            await others?.leave(timeout: timeout)
            await control.close(timeout: timeout)
            return isDeleted
        }.value
        if !isDeleted, self.broker.startSeconds == nil {
            report.warnings.append("the queue \(queue.names.first ?? "") could not be deleted")
        }
        try result.get()
        return report
    }

    @Sendable
    func connect(_ role: String) async throws -> AMQPConnection {
        // The nodes of a cluster take turns by the number in the name.
        let number = role.split(separator: " ").last.flatMap { Int($0) } ?? 0
        return try await self.connector.connect(role, number: number, avoidsLast: true)
    }

    /// Waits for the other instances.
    private func meet(on connection: AMQPConnection) async throws -> Rendezvous? {
        guard let count = self.options.instances else { return nil }
        self.screen.show("waiting until \(count) instances with --id \(self.id) are there …")
        return try await Rendezvous.join(id: self.id, count: count, options: self.options, on: connection)
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
        let bodies = BodyPlan(self.options, seed: self.mark)
        var body = bodies.octets
        var header = MessageHeader(sequence: 0, stream: 0, run: self.mark)
        for sequence in 0..<UInt64(self.options.count ?? 0) {
            header.sequence = sequence
            let size = bodies.write(header, to: &body)
            let name = queue.names[Int(sequence % UInt64(queue.names.count))]
            try await channel.publish(body.span.bytes.extracting(first: size), to: .queue(name))
        }
        try await channel.waitForConfirms()
        try? await connection.close()
    }

    /// What marks the messages of this run.
    var mark: UInt32 { self.id.utf8.reduce(2_166_136_261) { ($0 ^ UInt32($1)) &* 16_777_619 } }

    // MARK: - The report

    private func measure(
        _ queue: QueueUnderTest,
        control: Link,
        others: Rendezvous?,
        report: inout Report
    ) async throws {
        var load = Load(options: self.options, mark: self.mark, instance: others?.index ?? 0, nodes: self.nodes)
        let outcome: Outcome
        do {
            let shared = self.options.isExclusive == true ? control : nil
            try await load.prepare(queues: queue.names, shared: shared, connect: self.connect)
            try await others?.meet("start")
            outcome = await self.perform(load, queue: queue, others: others)
            try Task.checkCancellation()
        } catch {
            load.abort()
            throw error
        }
        if let measurement = outcome.measurement {
            report.take(measurement, self.options, meanSize: load.bodies.meanSize)
        }
        report.recovery = outcome.recovery
        report.faultCommand = outcome.command
        let outages = load.outages(start: outcome.measurement?.start.time ?? MonotonicClock.now)
        if !outages.isEmpty { report.outages = outages }
        report.backlogWaitPercent = load.backlog.map {
            $0.percent(of: self.options.warmup + report.totals.seconds, producers: self.options.publishers)
        }
        let counts = load.snapshot(broker: nil).counts
        report.wholeRun = counts
        report.verify = self.verification(load, counts, outcome)
        if let failure = outcome.failure {
            report.ended = .failed
            report.failure = "\(failure)"
        } else {
            if self.interruption.signal != nil { report.ended = .interrupted }
            // Lost with the broker, where that was killed.
            let connection =
                self.options.resumes ? try await control.renewedIfClosed() : control.connection
            if load.hasLeft.isSet { await load.closeConsumers(timeout: .seconds(5)) }
            var arrivals = Arrived(load, counts, self.options, report.verify)
            arrivals.isLeft = load.hasLeft.isSet
            let verdict = try await arrivals.verdict(queue, interruption: self.interruption, on: connection)
            report.lost = verdict.lost
            report.verify.take(verdict)
        }
        report.warnings = Warnings.of(report)
        await load.close(timeout: .seconds(5))
        guard let others else { return }
        if let reports = try await others.gather(report) {
            self.screen.show("  the sum of \(reports.count) instances:")
            report = ReportMerge.merge(reports)
            let isQueueKnown = queue.isGenerated && self.options.consumers == 0 && self.options.isConfirmed
            if isQueueKnown {
                let there = UInt64(try await queue.messageCount(on: control.connection))
                report.lost = report.wholeRun.confirmed - min(report.wholeRun.confirmed, there)
                report.verify.lost = report.lost
            }
        } else {
            self.screen.show("  this instance alone; another of them shows the sum of all:")
        }
    }

    private func verification(_ load: Load, _ counts: Report.Counts, _ outcome: Outcome) -> Report.Verification {
        var verify = Report.Verification()
        verify.arrived = load.ledger.received
        verify.duplicated = load.ledger.duplicated
        verify.reordered = outcome.findings.values.reduce(0) { $0 + $1.reordered }
        verify.corrupted = outcome.findings.values.reduce(0) { $0 + $1.corrupted }
        verify.foreign = load.meters.foreign.sum
        guard self.options.verify else { return verify }
        let arrived = load.ledger.receivedByStream
        verify.publishers = load.producers.map { producer in
            .init(
                publisher: producer.number,
                published: producer.published.current,
                arrived: arrived[producer.number]
            )
        }
        verify.consumers = load.consumers.enumerated().map { index, consumer in
            .init(
                consumer: index,
                consumed: consumer.consumed.current,
                redelivered: consumer.redelivered.current,
                reordered: outcome.findings[index]?.reordered ?? 0,
                corrupted: outcome.findings[index]?.corrupted ?? 0
            )
        }
        return verify
    }
}

extension Link {
    /// The connection, made again when it was lost.
    fileprivate func renewedIfClosed() async throws -> AMQPConnection {
        let connection = self.connection
        if let channel = try? await connection.openChannel(timeout: .seconds(5)) {
            try? await channel.close()
            return connection
        }
        return try await self.renewed(after: connection)
    }
}

extension Report {
    /// Takes over what was measured.
    mutating func take(_ measurement: Measurement, _ options: RunOptions, meanSize: Double) {
        let (start, end) = (measurement.start, measurement.end)
        self.intervals = measurement.intervals
        self.totals = .init(from: start, to: end, size: meanSize, intervals: measurement.intervals)
        self.broker.wasBlocked = measurement.wasBlocked
        self.broker.cpuPercent = end.brokerPercent(since: start)
        self.client.cpuMicroseconds = end.client.cpuMicroseconds - start.client.cpuMicroseconds
        let messages = options.producers > 0 ? self.totals.published : self.totals.consumed
        if messages > 0 {
            self.client.cpuMicrosecondsPerMessage = Double(self.client.cpuMicroseconds) / Double(messages)
        }
        self.client.cpuPercent = end.clientPercent(since: start)
        if self.totals.seconds > 0 {
            let busiest = Double(measurement.endThreads.busiest(since: measurement.startThreads))
            self.client.busiestThreadPercent = busiest / 1e4 / self.totals.seconds
        }
        self.client.maxResidentOctets = ProcessUsage.now.maxResidentOctets
        self.latency.confirm = LatencySummary(measurement.confirm)
        self.latency.endToEnd = LatencySummary(measurement.endToEnd)
        self.latency.confirm?.censored = measurement.confirmCensored > 0 ? measurement.confirmCensored : nil
        self.latency.endToEnd?.censored = measurement.endToEndCensored > 0 ? measurement.endToEndCensored : nil
        if options.rate != nil {
            self.latency.endToEndFromSend = LatencySummary(measurement.sent)
            self.latency.lag = LatencySummary(measurement.lag)
        }
    }
}
