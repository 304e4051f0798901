// SPDX-License-Identifier: Apache-2.0
import AMQP091
import EpollNetworking

// OperationRun: one run of `rpc` or `churn`: workers that do one operation after the other, each timed to its end from its
// start or, with a rate, from when it was due. What the operations are: Operations.

/// One thing that is done again and again.
protocol Operation: Sendable {
    /// Does it once.
    ///
    /// - Parameter number: Which of this operation's turns it is, from 0.
    /// - Returns: False when what came back is not what was sent.
    /// - Throws: Why it could not be done.
    func perform(_ number: UInt64) async throws -> Bool
}

/// One run of operations.
struct OperationRun: Sendable {
    let options: RunOptions
    let session: Session
    let id: String
    let detail: LoadRun.Detail

    /// The longest sleep of a schedule, nanoseconds.
    private static let longestSleep: UInt64 = 100_000_000

    private let meters: RunMeters
    private let stop = StopFlag()

    init(_ options: RunOptions, session: Session, id: String, detail: LoadRun.Detail) {
        self.options = options
        self.session = session
        self.id = id
        self.detail = detail
        var meters = RunMeters()
        meters.published = (0..<options.producers * (options.inFlight ?? 1)).map { _ in Counter() }
        meters.lag = [LatencyMeter(meters.time)]
        self.meters = meters
    }

    /// How ``Execution`` runs it.
    static let measure: Execution.Measure = { session, options, detail, suffix in
        try await OperationRun(options, session: session, id: session.id + suffix, detail: detail).run()
    }

    private var text: RunText { RunText(style: self.session.screen.style) }

    /// Runs and reports.
    ///
    /// - Throws: ``BenchFailure``, or `AMQPError` before the first operation.
    func run() async throws -> Report {
        let connector = Connector(broker: self.session.broker, id: self.id)
        let control = try await connector.connect("control")
        defer { control.abort() }
        var report = connector.emptyReport(control, self.options)
        if self.detail == .all || self.detail == .header { self.session.screen.show(self.text.header(report)) }
        let operations: any OperationSet =
            if let kind = self.options.churn {
                try await ChurnOperations(kind, self.options, connector: connector)
            } else {
                try await RPCOperations(self.options, id: self.id, control: control, connector: connector)
            }
        let (measurement, altered, failure) = await self.perform(operations.operations)
        await operations.close()
        try Task.checkCancellation()
        report.take(measurement, self.options, meanSize: Double(self.options.size ?? 0))
        report.latency.operation = report.latency.confirm
        report.latency.confirm = nil
        report.wholeRun.published = self.meters.published.sum
        report.verify.corrupted = altered
        if let failure {
            report.ended = .failed
            report.failure = "\(failure)"
        } else if self.session.interruption.signal != nil {
            report.ended = .interrupted
        }
        report.warnings = Warnings.of(report)
        return report
    }

    private enum Ended: Sendable {
        case worker(altered: UInt64, (any Error)?)
        case pacer(Measurement)
    }

    private func perform(_ operations: [any Operation]) async -> (Measurement, UInt64, (any Error)?) {
        let finished = StopFlag()
        let pacer = Pacer(
            options: self.options,
            meters: self.meters,
            interruption: self.session.interruption,
            stop: self.stop,
            finished: finished,
            snapshot: { [meters = self.meters, usage = self.session.broker.usage] in
                Snapshot(meters: meters, publishing: [], broker: usage)
            },
            isBlocked: { false },
            screen: self.session.screen,
            text: self.text,
            isQuiet: self.detail == .header || self.detail == .nothing,
            live: self.session.live
        )
        self.session.live?.begin(self.id, command: self.options.command, snapshot: pacer.snapshot)
        let begin = pacer.snapshot()
        let budget = Budget(self.options.count)
        self.session.interruption.endsCleanly(true)
        defer { self.session.interruption.endsCleanly(false) }
        var altered: UInt64 = 0
        var failure: (any Error)?
        var measurement = Measurement(start: begin, end: begin, startThreads: .now, endThreads: .now)
        await withTaskGroup(of: Ended.self) { group in
            for (index, (operation, counter)) in zip(operations, self.meters.published).enumerated() {
                let schedule = self.options.rate.map {
                    Schedule(rate: $0, share: index, of: operations.count, start: begin.time, isOpenLoop: true)
                }
                group.addTask { await self.work(operation, budget, counter, schedule) }
            }
            group.addTask { .pacer(await pacer.measure(from: begin)) }
            var left = operations.count
            for await ended in group {
                switch ended {
                case .pacer(let result): measurement = result
                case .worker(let found, let error):
                    altered += found
                    failure = failure ?? error
                    left -= 1
                    if failure != nil { self.stop.set() }
                    if left == 0 { finished.set() }
                }
            }
        }
        measurement.finish(self.meters, self.options, unconfirmed: 0)
        return (measurement, altered, failure)
    }

    private func work(
        _ operation: any Operation,
        _ budget: Budget,
        _ counter: Counter,
        _ given: Schedule?
    ) async -> Ended {
        var altered: UInt64 = 0
        var schedule = given
        let clock = EventLoopGroup.shared.next()
        do {
            while !self.stop.isSet, !Task.isCancelled {
                var start = MonotonicClock.now
                if let due = schedule?.due {
                    if due > start {
                        // In pieces, so that a slow schedule can be ended.
                        try await clock.sleep(for: .nanoseconds(Int64(min(due - start, Self.longestSleep))))
                        if MonotonicClock.now < due { continue }
                    }
                    let now = MonotonicClock.now
                    schedule?.advance(now: now)
                    start = due
                    self.meters.lag[0].record(now - due, due: due)
                }
                guard budget.take(upTo: 1) == 1 else { break }
                if try await !operation.perform(counter.current) { altered += 1 }
                self.meters.confirmLatency.record(MonotonicClock.now - start, due: start)
                counter.add()
            }
            if let schedule { self.giveUp(schedule) }
            return .worker(altered: altered, nil)
        } catch {
            return .worker(altered: altered, error)
        }
    }

    /// Records the age of what was due before the end and is not done any more.
    private func giveUp(_ given: Schedule) {
        guard self.options.count == nil else { return }
        var schedule = given
        let now = MonotonicClock.now
        self.meters.unsent.record { recorded in
            while schedule.due <= now, self.meters.time.isBeforeEnd(schedule.due) {
                recorded.record(now - schedule.due, due: schedule.due)
                schedule.advance(now: schedule.due)
            }
        }
    }
}
