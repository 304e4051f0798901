// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking

// ConnectionTimers: the timers of one connection, on its loop, and what each does. Loop thread only.
// Not here: when each is set (ConnectionSession).

struct ConnectionTimers {
    /// A timer of the connection, which it keeps while it is set.
    ///
    /// Not weak: every use of an object that was ever referenced weakly is dearer.
    final class Timer: LoopWork, @unchecked Sendable {
        private var set: (session: ConnectionSession, id: TimerID)?
        private let body: @Sendable (ConnectionSession) -> Void

        init(_ body: @escaping @Sendable (ConnectionSession) -> Void) { self.body = body }

        var isSet: Bool { self.set != nil }

        /// Sets the timer, anew if it was.
        func set(_ deadline: MonotonicTime, of session: ConnectionSession) {
            self.cancel()
            self.set = (session, session.loop.schedule(self, at: deadline))
        }

        func cancel() {
            if let set = self.set.take() { set.session.loop.cancel(set.id) }
        }

        func runOnLoop() {
            if let set = self.set.take() { self.body(set.session) }
        }

        func loopStopped() { self.set = nil }
    }

    let heartbeat = Timer { $0.heartbeatTick() }
    /// The earliest deadline of a call.
    let deadline = Timer { $0.armDeadlineTimer() }
    /// The login, or the close.
    let handshake = Timer { $0.handshakeTimedOut() }
    /// Deliveries that are not settled in time.
    let settlement = Timer { LateDeliveryWatch(session: $0).look() }
    /// The end of a pause before a read.
    let coalescing = Timer { session in
        // Acknowledgements first: the broker may wait for them.
        session.flush()
        session.stream.read()
    }

    func cancelAll() {
        for timer in [self.heartbeat, self.deadline, self.handshake, self.settlement, self.coalescing] {
            timer.cancel()
        }
    }
}
