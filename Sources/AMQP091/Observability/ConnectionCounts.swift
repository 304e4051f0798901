// SPDX-License-Identifier: Apache-2.0

// ConnectionCounts: event counts of a connection since the last report, stored beside the state they describe.
// Under the connection's lock. Without the trait MetricsSupport it is empty and its functions do nothing.
// Not here: reporting (ConnectionMetrics).

/// Event counts of a connection since the last report.
struct ConnectionCounts {
    #if MetricsSupport
        var published = 0
        var failedToPublish = 0
        var confirmed = 0
        var nacked = 0
        var unrouted = 0
        var consumed = 0
        var got = 0
        var acknowledged = 0
        var rejected = 0
        var requeued = 0
        var octetsSent = 0
        /// These two are states, not counts: a report does not reset them.
        var unconfirmed = 0
        var channels = 0
    #endif

    /// Counts an appended publish.
    @inline(__always)
    mutating func publish(withConfirm: Bool) {
        #if MetricsSupport
            self.published &+= 1
            if withConfirm { self.unconfirmed &+= 1 }
        #endif
    }

    /// Counts a publish that ended without a written octet.
    mutating func failToPublish() {
        #if MetricsSupport
            self.failedToPublish &+= 1
        #endif
    }

    /// Counts confirmed and nacked publishes.
    @inline(__always)
    mutating func settle(_ all: Int, nacked: Int) {
        #if MetricsSupport
            self.unconfirmed &-= all
            self.confirmed &+= all - nacked
            self.nacked &+= nacked
        #endif
    }

    /// Counts publishes that will never be confirmed.
    mutating func giveUp(_ unconfirmed: Int) {
        #if MetricsSupport
            self.unconfirmed -= unconfirmed
        #endif
    }

    /// Counts a returned publish.
    mutating func returned() {
        #if MetricsSupport
            self.unrouted &+= 1
        #endif
    }

    /// Counts deliveries of a consumer.
    @inline(__always)
    mutating func consume(_ count: Int) {
        #if MetricsSupport
            self.consumed &+= count
        #endif
    }

    /// Counts a message of `basic.get`.
    mutating func get() {
        #if MetricsSupport
            self.got &+= 1
        #endif
    }

    /// Counts acknowledged deliveries.
    @inline(__always)
    mutating func acknowledge(_ count: Int) {
        #if MetricsSupport
            self.acknowledged &+= count
        #endif
    }

    /// Counts refused deliveries.
    mutating func refuse(_ count: Int, requeue: Bool) {
        #if MetricsSupport
            if requeue { self.requeued &+= count } else { self.rejected &+= count }
        #endif
    }

    /// Counts octets taken by the writer.
    @inline(__always)
    mutating func send(octets: Int) {
        #if MetricsSupport
            self.octetsSent &+= octets
        #endif
    }

    /// Counts an opened (1) or ended (-1) channel.
    mutating func channel(_ change: Int) {
        #if MetricsSupport
            self.channels += change
        #endif
    }

    /// Records the end of the connection and its channels.
    mutating func end() {
        #if MetricsSupport
            self.unconfirmed = 0
            self.channels = 0
        #endif
    }

    /// Returns the counts since the last report, and resets them.
    mutating func take() -> ConnectionCounts {
        let taken = self
        self = ConnectionCounts()
        #if MetricsSupport
            self.unconfirmed = taken.unconfirmed
            self.channels = taken.channels
        #endif
        return taken
    }
}
