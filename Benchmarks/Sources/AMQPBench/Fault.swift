// SPDX-License-Identifier: Apache-2.0
import ArgumentParser

// Fault: what is done to a broker in the middle of a run, as `--fault pause:2s@5s`. Only brokers that were started for
// the run are touched.

/// A fault: the broker stops answering for a time, with all connections open.
struct Fault: ExpressibleByArgument, Codable, Hashable, Sendable {
    /// Seconds it lasts.
    var pause: Double
    /// Seconds after the warm-up when it begins.
    var start: Double

    init(pause: Double, start: Double) {
        self.pause = pause
        self.start = start
    }

    init?(argument: String) {
        let parts = argument.split(separator: "@", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 2, parts[0].hasPrefix("pause:"), let start = Seconds(argument: parts[1]),
            let pause = Seconds(argument: String(parts[0].dropFirst("pause:".count))), pause.seconds > 0
        else { return nil }
        self.init(pause: pause.seconds, start: start.seconds)
    }

    /// Waits for its time and does it; the broker goes on afterwards in any case.
    ///
    /// - Parameters:
    ///   - warmup: Seconds of warm-up from now.
    ///   - stop: Ends the wait, and the fault.
    ///   - control: Tells the broker to `freeze` or `thaw`.
    /// - Throws: What telling the broker throws.
    func inject(
        after warmup: Double,
        until stop: StopFlag,
        control: @escaping @Sendable (String) async throws -> Void
    ) async throws {
        await Self.sleep(warmup + self.start, until: stop)
        guard !stop.isSet, !Task.isCancelled else { return }
        try await control("freeze")
        await Self.sleep(self.pause, until: stop)
        // In a task of its own: a broker that stays frozen cannot be stopped in order.
        try await Task { try await control("thaw") }.value
    }

    private static func sleep(_ seconds: Double, until stop: StopFlag) async {
        let end = ContinuousClock.now + .seconds(seconds)
        while !stop.isSet, !Task.isCancelled {
            let now = ContinuousClock.now
            guard end > now else { return }
            try? await Task.sleep(until: min(end, now + .milliseconds(50)), tolerance: .zero, clock: .continuous)
        }
    }
}
