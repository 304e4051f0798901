// SPDX-License-Identifier: Apache-2.0
import EpollNetworking

// ConnectionDriver.Timer: one timer of a connection, on its loop. Loop thread only.
// Not here: which timers there are, and when each is set (ConnectionDriver).

extension ConnectionDriver {
    /// A timer of the connection, which it keeps while it is set.
    ///
    /// Not weak: every use of an object that was ever referenced weakly is dearer.
    final class Timer: LoopWork, @unchecked Sendable {
        private var set: (driver: ConnectionDriver, id: TimerID)?
        private let body: @Sendable (ConnectionDriver) -> Void

        init(_ body: @escaping @Sendable (ConnectionDriver) -> Void) { self.body = body }

        var isSet: Bool { self.set != nil }

        /// Sets the timer, anew if it was.
        func set(_ deadline: MonotonicTime, of driver: ConnectionDriver) {
            self.cancel()
            self.set = (driver, driver.loop.schedule(self, at: deadline))
        }

        func cancel() {
            if let set = self.set.take() { set.driver.loop.cancel(set.id) }
        }

        func runOnLoop() {
            if let set = self.set.take() { self.body(set.driver) }
        }

        func loopStopped() { self.set = nil }
    }
}
