// SPDX-License-Identifier: Apache-2.0
import Foundation
import Synchronization

// Interruption: SIGINT, SIGTERM and SIGHUP as events of the run, and SIGPIPE when nobody reads the output any more. The first asks for a clean end with a summary, where
// there is something to sum up; the second, or the first before that, cancels the task of the run.
// Handlers, not an ignored signal: what is ignored stays ignored in the programs this one starts.

/// The signals that end a run.
final class Interruption: Sendable {
    private struct State {
        var first: Int32?
        var isUrgent = false
        var canEndCleanly = false
        var cancel: (@Sendable () -> Void)?
    }

    private let state = Mutex(State())

    /// The signal that came first.
    var signal: Int32? { self.state.withLock { $0.first } }

    /// True when the run is to stop at once.
    var isUrgent: Bool { self.state.withLock { $0.isUrgent } }

    /// From now on the first signal ends the run cleanly: the ticker sees it.
    func endsCleanly(_ flag: Bool) { self.state.withLock { $0.canEndCleanly = flag } }

    /// Runs the operation in a task of its own that a signal cancels.
    func cancellable<Result: Sendable>(_ operation: @escaping @Sendable () async throws -> Result) async throws
        -> Result
    {
        let task = Task { try await operation() }
        let isLate = self.state.withLock { state in
            state.cancel = { task.cancel() }
            return state.first != nil
        }
        if isLate { task.cancel() }
        defer { self.state.withLock { $0.cancel = nil } }
        return try await task.value
    }

    private func received(_ signal: Int32) {
        let cancel = self.state.withLock { state -> (@Sendable () -> Void)? in
            let isFirst = state.first == nil
            if isFirst { state.first = signal }
            if isFirst && state.canEndCleanly { return nil }
            if !isFirst { state.isUrgent = true }
            return state.cancel
        }
        cancel?()
    }

    /// Takes the signals over, for the life of the process.
    func install() {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        signalPipe.store(ends[1], ordering: .relaxed)
        for number in [SIGINT, SIGTERM, SIGHUP] {
            Foundation.signal(number) { number in
                // Nothing but write(2) is allowed here.
                var octet = UInt8(truncatingIfNeeded: number)
                let saved = errno
                _ = write(signalPipe.load(ordering: .relaxed), &octet, 1)
                errno = saved
            }
        }
        // Sockets and the input of a broker may raise it too; only a closed output ends the run, see outputClosed().
        Foundation.signal(SIGPIPE) { _ in }
        let source = ends[0]
        Thread.detachNewThread {
            var octet: UInt8 = 0
            while true {
                let count = read(source, &octet, 1)
                if count == 1 { self.received(Int32(octet)) } else if errno != EINTR { return }
            }
        }
    }
}

extension Interruption {
    /// Ends the run as a signal does: what reads the output, such as `head` or a pager, is gone.
    static func outputClosed() {
        guard !isOutputClosed.exchange(true, ordering: .relaxed) else { return }
        var octet = UInt8(SIGPIPE)
        _ = write(signalPipe.load(ordering: .relaxed), &octet, 1)
    }
}

private let signalPipe = Atomic<Int32>(-1)
private let isOutputClosed = Atomic(false)
