// SPDX-License-Identifier: Apache-2.0
import Histogram

// Pacer: the clock of a run. It tells the load when to stop, takes a snapshot at each tick, and keeps what lies between
// the end of the warm-up and the end of the measured time.

/// What the pacer measured.
struct Measurement: Sendable {
    var start: Snapshot
    var end: Snapshot
    var startThreads: ThreadUsage
    var endThreads: ThreadUsage
    var intervals: [Report.Interval] = []
    var confirm = LatencyMeter.emptyHistogram
    var endToEnd = LatencyMeter.emptyHistogram
    var sent = LatencyMeter.emptyHistogram
    var lag = LatencyMeter.emptyHistogram
    /// Messages whose confirm, or arrival, did not come: they are in the histograms with the age they had.
    var confirmCensored: UInt64 = 0
    var endToEndCensored: UInt64 = 0
    /// True when the broker blocked publishers at some tick.
    var wasBlocked = false

    /// Begins anew: what came before was the warm-up.
    mutating func discard(until now: Snapshot) {
        self.start = now
        self.startThreads = .now
    }

    /// Takes over what was recorded since the end: confirms and messages that came late, and the age of what never did.
    ///
    /// - Parameters:
    ///   - meters: Those of the run.
    ///   - options: What it was told.
    ///   - unconfirmed: Publishes whose confirm never came.
    mutating func finish(_ meters: RunMeters, _ options: RunOptions, unconfirmed: UInt64) {
        var tick = LatencyMeter.emptyHistogram
        meters.confirmLatency.drain(into: &self.confirm, tick: &tick)
        for meter in meters.endToEndLatency { meter.drain(into: &self.endToEnd, tick: &tick) }
        for meter in meters.sentLatency { meter.drain(into: &self.sent, tick: &tick) }
        for meter in meters.lag { meter.drain(into: &self.lag, tick: &tick) }
        var unsent = LatencyMeter.emptyHistogram
        meters.unsent.drain(into: &unsent, tick: &tick)
        self.confirmCensored = unconfirmed
        guard unsent.totalCount > 0 else { return }
        self.lag.add(unsent)
        // The operations of rpc and churn are timed in the place of confirms.
        if options.isConfirmed || options.operation != nil {
            self.confirm.add(unsent)
            self.confirmCensored += unsent.totalCount
        }
        if options.consumers > 0, options.operation == nil {
            self.endToEnd.add(unsent)
            self.endToEndCensored = unsent.totalCount
        }
    }
}

/// Measures one run.
struct Pacer: Sendable {
    /// How soon a flag that was set is seen.
    private static let poll = Duration.milliseconds(10)

    let options: RunOptions
    let meters: RunMeters
    let interruption: Interruption
    /// Set here when the measured time is over.
    let stop: StopFlag
    /// Set by others when all messages have gone through.
    let finished: StopFlag
    let snapshot: @Sendable () -> Snapshot
    let isBlocked: @Sendable () -> Bool
    let screen: Screen
    let text: RunText
    let isQuiet: Bool
    var live: LiveMetrics?

    /// Measures until the time is over, everything has gone through, or a signal came.
    ///
    /// - Parameter begin: The counters before the first message.
    /// - Returns: What was measured.
    func measure(from begin: Snapshot) async -> Measurement {
        let threads = ThreadUsage.now
        self.meters.time.set(
            from: begin.time + UInt64(self.options.warmup * 1e9),
            to: self.options.time.map { begin.time + UInt64((self.options.warmup + $0) * 1e9) } ?? .max
        )
        var result = Measurement(start: begin, end: begin, startThreads: threads, endThreads: threads)
        var isWarmup = self.options.warmup > 0
        var last = begin
        var tick = self.options.interval
        var redraw = 0.2
        if !self.isQuiet { self.screen.show(["", self.text.columns(self.options)]) }
        while true {
            try? await Task.sleep(for: Self.poll)
            let elapsed = Double(MonotonicClock.now - begin.time) / 1e9
            let isOver =
                self.finished.isSet || self.stop.isSet || self.interruption.signal != nil || Task.isCancelled
                || self.options.time.map { elapsed >= self.options.warmup + $0 } ?? false
            let endsWarmup = isWarmup && elapsed >= self.options.warmup
            guard isOver || endsWarmup || elapsed >= tick else {
                if elapsed >= redraw {
                    self.showProgress(elapsed)
                    redraw = elapsed + 0.2
                }
                continue
            }
            let now = self.snapshot()
            if isOver {
                self.meters.time.close(at: now.time)
                self.stop.set()
            }
            result.wasBlocked = result.wasBlocked || self.isBlocked()
            let (confirm, endToEnd) = self.takeLatencies(into: &result)
            // What is left of an interval that was cut short says little.
            if now.seconds(since: last) >= self.options.interval / 2 {
                let interval = Report.Interval(
                    from: last,
                    to: now,
                    begin: begin,
                    isWarmup: isWarmup,
                    confirm: LatencySummary(confirm),
                    endToEnd: LatencySummary(endToEnd)
                )
                result.intervals.append(interval)
                self.live?.tick(interval, now.counts)
                if !self.isQuiet { self.screen.show(self.text.row(interval, self.options)) }
            }
            last = now
            if endsWarmup || elapsed >= tick {
                tick = elapsed + self.options.interval - self.excess(elapsed, tick, endsWarmup)
            }
            if endsWarmup && !isOver {
                isWarmup = false
                result.discard(until: now)
            }
            if isOver {
                result.end = now
                result.endThreads = .now
                // A warm-up that was cut short measures nothing.
                if isWarmup { result.discard(until: now) }
                return result
            }
        }
    }

    /// How late the tick was seen, so that ticks do not drift.
    private func excess(_ elapsed: Double, _ tick: Double, _ endsWarmup: Bool) -> Double {
        let due = endsWarmup ? self.options.warmup : tick
        return min(elapsed - due, self.options.interval / 2)
    }

    /// Takes over what was recorded since the last tick, and gives what belongs to this tick alone.
    private func takeLatencies(
        into result: inout Measurement
    ) -> (confirm: Histogram<UInt64>, endToEnd: Histogram<UInt64>) {
        var (confirm, endToEnd) = (LatencyMeter.emptyHistogram, LatencyMeter.emptyHistogram)
        self.meters.confirmLatency.drain(into: &result.confirm, tick: &confirm)
        for meter in self.meters.endToEndLatency { meter.drain(into: &result.endToEnd, tick: &endToEnd) }
        var tick = LatencyMeter.emptyHistogram
        for meter in self.meters.sentLatency { meter.drain(into: &result.sent, tick: &tick) }
        for meter in self.meters.lag { meter.drain(into: &result.lag, tick: &tick) }
        return (confirm, endToEnd)
    }

    private func showProgress(_ elapsed: Double) {
        guard !self.isQuiet, self.screen.isTerminal else { return }
        if let time = self.options.time {
            let total = self.options.warmup + time
            self.screen.showLive(self.text.progress(elapsed / total, of: "\(Text.decimal(total, places: 0)) s total"))
        } else if let count = self.options.count {
            let done = self.options.consumers > 0 ? self.meters.consumed.sum : self.meters.published.sum
            let part = Double(done) / Double(count)
            self.screen.showLive(self.text.progress(part, of: "\(Text.count(UInt64(count))) messages"))
        }
    }
}
