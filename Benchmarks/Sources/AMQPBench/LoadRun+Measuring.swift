// SPDX-License-Identifier: Apache-2.0
import AMQP091

// LoadRun+Measuring: the tasks of a run, from the first message until what was confirmed has arrived.

extension LoadRun {
    /// How long nothing may arrive before what is missing counts as lost.
    private static let patience = Duration.seconds(5)
    /// How long nothing may arrive before the queue counts as idle, or as empty among several instances.
    private static let silence = Duration.seconds(1)

    private enum Ended: Sendable {
        case producer((any Error)?)
        case consumer(Int, Result<ConsumerFindings, any Error>)
        case pacer(Measurement)
        case drained
        case fault(Result<Report.Recovery?, any Error>)
        case command(Report.Command?)
        case watched
    }

    /// How the tasks of a run ended.
    struct Outcome {
        var measurement: Measurement?
        /// By consumer.
        var findings: [Int: ConsumerFindings] = [:]
        var recovery: Report.Recovery?
        var command: Report.Command?
        /// The first error of a producer or consumer.
        var failure: (any Error)?
    }

    /// Runs all tasks to their ends.
    ///
    /// - Parameters:
    ///   - load: The tasks.
    ///   - queue: The queues; a run without producers finds its messages in those that were made for it.
    ///   - others: The other instances.
    /// - Returns: How they ended.
    func perform(_ load: Load, queue: QueueUnderTest, others: Rendezvous?) async -> Outcome {
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
            isQuiet: self.detail == .header || self.detail == .nothing,
            live: self.live
        )
        self.live?.begin(self.id, command: self.options.command, snapshot: pacer.snapshot)
        let begin = pacer.snapshot()
        let publishing = load.publishing
        var producersLeft = publishing.count
        var consumersLeft = load.consumers.count
        self.interruption.endsCleanly(true)
        defer { self.interruption.endsCleanly(false) }
        await withTaskGroup(of: Ended.self) { group in
            for (index, consumer) in load.consumers.enumerated() {
                group.addTask { .consumer(index, await Self.outcome { try await consumer.consume() }) }
            }
            for publish in publishing {
                group.addTask { .producer(await Self.outcome { try await publish(begin.time) }.failure) }
            }
            group.addTask { .pacer(await pacer.measure(from: begin)) }
            if let fault = self.options.fault, let control = self.broker.control {
                group.addTask { [options = self.options] in
                    let watch = RecoveryWatch(load, options)
                    return .fault(
                        await Self.outcome {
                            try await fault.inject(
                                after: options.warmup,
                                until: load.stop,
                                watch: watch,
                                control: control
                            )
                        }
                    )
                }
            }
            if let command = self.options.faultCommand {
                group.addTask { [warmup = self.options.warmup] in
                    .command(await command.run(after: warmup, until: load.stop))
                }
            }
            // The watch ends with the other tasks.
            var tasksLeft = consumersLeft + producersLeft
            let watch = StopFlag()
            if self.options.resumes {
                group.addTask {
                    await load.watchOutages(until: watch)
                    return .watched
                }
            }
            let lastStart = ContinuousClock.now + .seconds(self.options.lastConsumerStart)
            if load.producers.isEmpty { self.addEnd(ofConsuming: load, queue, after: lastStart, to: &group) }

            for await ended in group {
                switch ended {
                case .producer, .consumer: tasksLeft -= 1
                default: break
                }
                if tasksLeft == 0 { watch.set() }
                switch ended {
                case .producer(let error):
                    producersLeft -= 1
                    outcome.failure = outcome.failure ?? error
                    if producersLeft == 0 {
                        let hasFailed = outcome.failure != nil
                        group.addTask {
                            if !hasFailed { await self.wait(until: lastStart) }
                            await self.drain(load, hasFailed: hasFailed, others: others)
                            return .drained
                        }
                    }
                case .watched: break
                case .command(let command): outcome.command = command
                case .fault(.success(let recovery)):
                    outcome.recovery = recovery
                case .fault(.failure(let error)):
                    outcome.failure = outcome.failure ?? error
                case .drained:
                    finished.set()
                    if self.isLeft(load) { load.hurry.set() }
                    load.cancelConsumers()
                case .consumer(let index, .success(let found)):
                    outcome.findings[index] = found
                    consumersLeft -= 1
                    if consumersLeft == 0 { finished.set() }
                case .consumer(_, .failure(let error)):
                    consumersLeft -= 1
                    outcome.failure = outcome.failure ?? error
                case .pacer(let measurement):
                    outcome.measurement = measurement
                    if load.producers.isEmpty {
                        // Slow consumers would take long to process what they were sent.
                        if self.options.consumerWork != nil { load.hurry.set() }
                        load.cancelConsumers()
                    }
                }
                if outcome.failure != nil {
                    load.end()
                    finished.set()
                    if load.producers.isEmpty { load.cancelConsumers() }
                }
            }
        }
        for producer in load.producers { producer.lane.endTimes() }
        // What came after the end.
        outcome.measurement?.finish(load.meters, self.options, unconfirmed: load.censored)
        return outcome
    }

    private static func outcome<Value>(
        _ operation: () async throws -> Value
    ) async -> Result<Value, any Error> {
        do { return .success(try await operation()) } catch { return .failure(error) }
    }

    // MARK: - The end of a run

    /// What ends a run without producers before its time.
    private func addEnd(
        ofConsuming load: Load,
        _ queue: QueueUnderTest,
        after start: ContinuousClock.Instant,
        to group: inout TaskGroup<Ended>
    ) {
        if let exit = self.options.exitWhen {
            group.addTask { [stop = load.stop] in
                await self.wait(until: start)
                await self.waitUntil(exit, load, queue, unless: stop)
                return .drained
            }
        } else if let count = self.options.count {
            group.addTask { [stop = load.stop] in
                await self.wait(until: start)
                if queue.isGenerated {
                    await self.drain(UInt64(count), load)
                } else {
                    await self.waitUntil(consumed: UInt64(count), load, unless: stop)
                }
                return .drained
            }
        }
    }

    /// Whether something has not arrived for which nobody waits any more.
    private func isLeft(_ load: Load) -> Bool {
        if self.interruption.signal != nil { return true }
        guard self.options.producers > 0, self.options.instances == nil else { return false }
        return load.meters.consumed.sum < Arrived.expected(load.snapshot(broker: nil).counts, self.options)
    }

    /// Waits until all that the broker took has arrived.
    private func drain(_ load: Load, hasFailed: Bool, others: Rendezvous?) async {
        guard let others else {
            let counts = load.snapshot(broker: nil).counts
            let isRouted = self.options.predeclared != true || self.options.exchange == nil
            if isRouted, !self.options.resumes {
                await self.drain(hasFailed ? 0 : Arrived.expected(counts, self.options), load)
            } else if !hasFailed {
                // How many come is not known. Nothing comes on a connection that is not there again yet.
                let end = ContinuousClock.now + .seconds(self.options.drain ?? 0)
                repeat {
                    await self.waitForSilence(load, Self.silence * 2)
                } while load.links.contains(where: \.isLost) && ContinuousClock.now < end && !Task.isCancelled
                    && self.interruption.signal == nil
            }
            return
        }
        // Until all have published, more may come.
        try? await others.meet("published")
        if !hasFailed { await self.waitForSilence(load, Self.silence) }
    }

    /// Waits until all that is expected has arrived, or nothing arrives any more.
    private func drain(_ expected: UInt64, _ load: Load) async {
        guard self.options.consumers > 0 else { return }
        var before: UInt64 = 0
        let start = ContinuousClock.now
        var deadline = start + Self.patience
        // A count that is consumed ends by itself.
        let end = self.options.producers == 0 ? nil : self.options.drain.map { start + .seconds($0) }
        var isSaid = false
        while ContinuousClock.now < deadline, !Task.isCancelled, self.interruption.signal == nil {
            let arrived = load.meters.consumed.sum - load.meters.foreign.sum
            if arrived >= expected { return }
            if let end, ContinuousClock.now > end { return }
            if !isSaid, self.options.producers > 0, ContinuousClock.now > start + .seconds(1) {
                isSaid = true
                let left = Text.count(expected - arrived)
                self.screen.show("  waiting for \(left) messages that have not arrived (--drain); Ctrl-C ends the wait")
            }
            if arrived > before { deadline = ContinuousClock.now + Self.patience }
            before = arrived
            try? await Task.sleep(for: .milliseconds(5))
        }
    }

    /// Waits until the last consumer has subscribed, unless a signal comes.
    private func wait(until start: ContinuousClock.Instant) async {
        while ContinuousClock.now < start, !Task.isCancelled, self.interruption.signal == nil {
            try? await Task.sleep(for: .milliseconds(20))
        }
    }

    /// Waits until so many have come out of a queue that others fill.
    private func waitUntil(consumed count: UInt64, _ load: Load, unless stop: StopFlag) async {
        while load.meters.consumed.sum < count, !stop.isSet, !Task.isCancelled {
            try? await Task.sleep(for: .milliseconds(5))
        }
    }

    /// Waits until nothing has come for a time.
    private func waitForSilence(_ load: Load, _ silence: Duration, unless stop: StopFlag? = nil) async {
        guard self.options.consumers > 0 else { return }
        var before = load.meters.consumed.sum
        var deadline = ContinuousClock.now + silence
        while ContinuousClock.now < deadline, !Task.isCancelled, stop?.isSet != true {
            try? await Task.sleep(for: .milliseconds(5))
            let arrived = load.meters.consumed.sum
            if arrived != before { deadline = ContinuousClock.now + silence }
            before = arrived
        }
    }

    /// Waits for what `--exit-when` names.
    private func waitUntil(_ exit: ExitWhen, _ load: Load, _ queue: QueueUnderTest, unless stop: StopFlag) async {
        if exit == .idle { return await self.waitForSilence(load, Self.silence, unless: stop) }
        guard let connection = try? await self.connect("watch") else { return }
        defer { connection.abort() }
        while !stop.isSet, !Task.isCancelled {
            if let count = try? await queue.messageCount(on: connection), count == 0 {
                // What was sent already is still on its way.
                await self.waitForSilence(load, .milliseconds(200), unless: stop)
                if (try? await queue.messageCount(on: connection)) == 0 { return }
            }
            try? await Task.sleep(for: .milliseconds(50))
        }
    }
}

extension Result {
    fileprivate var failure: Failure? {
        if case .failure(let error) = self { error } else { nil }
    }
}
