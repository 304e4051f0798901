// SPDX-License-Identifier: Apache-2.0
import EpollConcurrency
import EpollNetworking

#if MetricsSupport
    import Metrics
#endif

// ConnectionMetrics: reports the counts of one connection to the instruments once per turn of the loop, because an
// instrument may cost more than a message. Loop thread only. Nil without a metrics system, so nothing is
// reported then; never created without the trait MetricsSupport.

#if MetricsSupport
    /// The metrics of one connection.
    final class ConnectionMetrics: LoopWork, @unchecked Sendable {
        let instruments: MetricsInstruments
        /// Octets read since the last flush.
        private var octetsReceived = 0
        /// The connection whose counts are reported at the end of this turn.
        private var scheduled: ConnectionSession?
        private var isConnected = false
        /// The gauge values last reported for this connection.
        private var channels = 0
        private var unconfirmed = 0
        private var isBlocked = false

        init(_ instruments: MetricsInstruments) { self.instruments = instruments }

        /// Schedules a report at the end of this turn.
        @inline(__always)
        func touch(_ driver: ConnectionSession) {
            guard self.scheduled == nil else { return }
            self.scheduled = driver
            driver.loop.atEndOfTick(self)
        }

        func runOnLoop() {
            if let driver = self.scheduled.take() { self.flush(driver) }
        }

        @inline(__always)
        func received(octets: Int) { self.octetsReceived += octets }

        func connected() {
            self.isConnected = true
            self.instruments.connections.increment()
        }

        /// Records a reconnect; any thread.
        func recovered() { self.instruments.recoveries.increment() }

        /// Records the end of the connection.
        func ended(_ driver: ConnectionSession) {
            self.flush(driver)
            if self.isConnected { self.instruments.connections.decrement() }
            self.isConnected = false
        }

        private func flush(_ driver: ConnectionSession) {
            // Not returned as a pair: the compiler (6.3.1, optimising) fails on one with a struct of this size.
            var counts = ConnectionCounts()
            let isBlocked = driver.state.withLock { state in
                counts = state.counts.take()
                return state.blockedReason != nil && state.failure == nil
            }
            let to = self.instruments
            Self.add(counts.published, to.published, to.sent)
            Self.add(counts.failedToPublish, to.failedToPublish)
            Self.add(counts.confirmed, to.confirmed)
            Self.add(counts.nacked, to.nacked)
            Self.add(counts.unrouted, to.unrouted)
            Self.add(counts.consumed, to.consumed, to.processed)
            Self.add(counts.got, to.consumed, to.received)
            Self.add(counts.acknowledged, to.acknowledged)
            Self.add(counts.rejected, to.rejected)
            Self.add(counts.requeued, to.requeued)
            Self.add(counts.octetsSent, to.octetsSent)
            Self.add(self.octetsReceived, to.octetsReceived)
            self.octetsReceived = 0
            Self.change(to.channels, by: counts.channels - self.channels)
            self.channels = counts.channels
            Self.change(to.unconfirmed, by: counts.unconfirmed - self.unconfirmed)
            self.unconfirmed = counts.unconfirmed
            if isBlocked != self.isBlocked { Self.change(to.blocked, by: isBlocked ? 1 : -1) }
            self.isBlocked = isBlocked
        }

        private static func add(_ count: Int, _ counters: Counter...) {
            guard count > 0 else { return }
            for counter in counters { counter.increment(by: count) }
        }

        private static func change(_ meter: Meter, by difference: Int) {
            if difference > 0 { meter.increment(by: Double(difference)) }
            if difference < 0 { meter.decrement(by: Double(-difference)) }
        }
    }
#else
    /// Never created.
    final class ConnectionMetrics: Sendable {
        private init() {}
        @inline(__always) func touch(_ driver: ConnectionSession) {}
        @inline(__always) func received(octets: Int) {}
        func connected() {}
        func recovered() {}
        func ended(_ driver: ConnectionSession) {}
    }
#endif
