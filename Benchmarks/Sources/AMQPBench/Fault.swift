// SPDX-License-Identifier: Apache-2.0
import AMQP091
import ArgumentParser

// Fault: what is done to a broker in the middle of a run, as `--fault pause:2s@5s` or `--fault kill@5s`, and how long the
// run takes to get over it. Only brokers that were started for the run are touched.

/// A fault.
struct Fault: ExpressibleByArgument, Codable, Hashable, Sendable {
    enum Kind: String, Codable, Sendable {
        /// The broker stops answering for a time, with all connections open.
        case pause
        /// The broker's processes are killed, and it is started again with the data it has on disk.
        case kill
    }

    var kind: Kind
    /// Seconds a pause lasts.
    var pause: Double
    /// Seconds after the warm-up when it begins.
    var start: Double

    init(pause: Double, start: Double) {
        self.kind = .pause
        self.pause = pause
        self.start = start
    }

    init(killAt start: Double) {
        self.kind = .kill
        self.pause = 0
        self.start = start
    }

    init?(argument: String) {
        let parts = argument.split(separator: "@", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, let start = Seconds(argument: parts[1]) else { return nil }
        if parts[0] == "kill" {
            self.init(killAt: start.seconds)
        } else {
            guard parts[0].hasPrefix("pause:"), let pause = Seconds(argument: String(parts[0].dropFirst(6))),
                pause.seconds > 0
            else { return nil }
            self.init(pause: pause.seconds, start: start.seconds)
        }
    }

    /// Waits for its time and does it; the broker goes on afterwards in any case.
    ///
    /// - Parameters:
    ///   - warmup: Seconds of warm-up from now.
    ///   - stop: Ends the wait, and the fault.
    ///   - watch: Tells when messages flow again.
    ///   - control: Tells the broker to `freeze` and `thaw`, or to go by `kill` and come back by `restart`.
    /// - Returns: How it was got over; nil when the run ended before.
    /// - Throws: What telling the broker throws.
    func inject(
        after warmup: Double,
        until stop: StopFlag,
        watch: RecoveryWatch,
        control: @escaping @Sendable (String) async throws -> Void
    ) async throws -> Report.Recovery? {
        let begin = ContinuousClock.now
        await Self.sleep(warmup + self.start, until: stop)
        guard !stop.isSet, !Task.isCancelled else { return nil }
        let struck = ContinuousClock.now
        var recovery = Report.Recovery(at: (struck - begin) / .seconds(1) - warmup)
        switch self.kind {
        case .pause:
            try await control("freeze")
            await Self.sleep(self.pause, until: stop)
            // In a task of its own: a broker that stays frozen cannot be stopped in order.
            try await Task { try await control("thaw") }.value
        case .kill:
            try await Task {
                try await control("kill")
                try await control("restart")
            }.value
        }
        let since = { (ContinuousClock.now - struck) / .seconds(1) }
        recovery.brokerBack = since()
        let before = watch.counts()
        while !stop.isSet, !Task.isCancelled {
            let hasFlow = watch.flow(self.kind, before)
            if hasFlow.confirmed, recovery.confirmed == nil { recovery.confirmed = since() }
            if hasFlow.consumed, recovery.consumed == nil { recovery.consumed = since() }
            if recovery.confirmed != nil || !watch.hasConfirms, recovery.consumed != nil || !watch.hasConsumers {
                break
            }
            try? await Task.sleep(for: .milliseconds(1), tolerance: .zero)
        }
        return recovery
    }

    /// Sleeps until a time has passed or the flag is set.
    static func sleep(_ seconds: Double, until stop: StopFlag) async {
        let end = ContinuousClock.now + .seconds(seconds)
        while !stop.isSet, !Task.isCancelled {
            let now = ContinuousClock.now
            guard end > now else { return }
            try? await Task.sleep(until: min(end, now + .milliseconds(50)), tolerance: .zero, clock: .continuous)
        }
    }
}

/// Where a fault looks for messages that flow again.
struct RecoveryWatch: Sendable {
    typealias Counts = (confirmed: UInt64, consumed: UInt64)

    var hasConfirms = false
    var hasConsumers = false
    /// What has been confirmed and consumed so far.
    var counts: @Sendable () -> Counts = { (0, 0) }
    /// Whether a connection that was made again has had a confirm, and a delivery.
    var hasResumed: @Sendable () -> (confirmed: Bool, consumed: Bool) = { (false, false) }

    /// Whether messages flow again after a fault.
    func flow(_ kind: Fault.Kind, _ before: Counts) -> (confirmed: Bool, consumed: Bool) {
        if kind == .kill { return self.hasResumed() }
        let now = self.counts()
        return (now.confirmed > before.confirmed, now.consumed > before.consumed)
    }
}

extension RecoveryWatch {
    /// Looks at a load.
    init(_ load: Load, _ options: RunOptions) {
        self.hasConfirms = options.producers > 0 && options.confirms != nil
        self.hasConsumers = options.consumers > 0
        self.counts = {
            (load.producers.reduce(0) { $0 + $1.lane.confirmCounts.confirmed }, load.meters.consumed.sum)
        }
        self.hasResumed = {
            (load.producers.contains { $0.lane.hasRecovered }, load.consumers.contains { $0.recovered.isSet })
        }
    }
}
