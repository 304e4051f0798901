// SPDX-License-Identifier: Apache-2.0
import ArgumentParser
import Foundation
import Subprocess
import SystemPackage

// FaultCommand: a fault that a command of the shell makes in the middle of a run, as `--fault-command 'COMMAND'@5s`: for
// brokers that run elsewhere.

/// A command and when it runs.
struct FaultCommand: ExpressibleByArgument, Codable, Hashable, Sendable {
    var command: String
    /// Seconds after the warm-up.
    var start: Double

    init(command: String, start: Double) {
        self.command = command
        self.start = start
    }

    init?(argument: String) {
        guard let place = argument.lastIndex(of: "@"),
            let start = Seconds(argument: String(argument[argument.index(after: place)...]))
        else { return nil }
        let command = argument[..<place].trimmingCharacters(in: .whitespaces)
        guard !command.isEmpty else { return nil }
        self.init(command: command, start: start.seconds)
    }

    /// Waits for its time and runs it.
    ///
    /// - Parameters:
    ///   - warmup: Seconds of warm-up from now.
    ///   - stop: Ends the wait; the command that runs is not ended by it.
    /// - Returns: How it ended; nil when the run ended before its time.
    func run(after warmup: Double, until stop: StopFlag) async -> Report.Command? {
        let begin = ContinuousClock.now
        await Fault.sleep(warmup + self.start, until: stop)
        guard !stop.isSet, !Task.isCancelled else { return nil }
        let start = ContinuousClock.now
        var options = PlatformOptions()
        options.teardownSequence = [.gracefulShutDown(allowedDurationToNextStep: .seconds(2))]
        let result = try? await Subprocess.run(
            .path("/bin/sh"),
            arguments: ["-c", self.command],
            platformOptions: options,
            output: .fileDescriptor(.standardError, closeAfterSpawningProcess: false),
            error: .currentStandardError
        )
        var status: Int32 = 127
        switch result?.terminationStatus {
        case .exited(let code): status = Int32(code)
        case .signaled(let signal): status = 128 + Int32(signal)
        default: break
        }
        return Report.Command(
            at: (start - begin) / .seconds(1) - warmup,
            status: status,
            seconds: (ContinuousClock.now - start) / .seconds(1)
        )
    }
}

extension Report {
    /// The end of a command of `--fault-command`.
    struct Command: Codable, Hashable, Sendable {
        /// Seconds into the measured time.
        var at: Double
        /// Its exit status; 128 and the signal, or 127 where it could not be started.
        var status: Int32
        /// How long it ran.
        var seconds: Double
    }
}
