// SPDX-License-Identifier: Apache-2.0

// ConnectionCounts: what happened on a connection since somebody looked, as integers beside the state they belong to.
// Under the connection's lock. Without the trait MetricsSupport it is empty and its functions are nothing.
// Not here: who looks, and what becomes of it (ConnectionMetrics).

/// What happened on a connection since the last look.
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
        /// These two are states, not counts: they stay when somebody has looked.
        var unconfirmed = 0
        var channels = 0
    #endif

    /// A publish was appended.
    @inline(__always)
    mutating func publish(withConfirm: Bool) {
        #if MetricsSupport
            self.published &+= 1
            if withConfirm { self.unconfirmed &+= 1 }
        #endif
    }

    /// A publish ended without an octet written.
    mutating func failToPublish() {
        #if MetricsSupport
            self.failedToPublish &+= 1
        #endif
    }

    /// The broker settled publishes: so many in all, so many of them with a nack.
    @inline(__always)
    mutating func settle(_ all: Int, nacked: Int) {
        #if MetricsSupport
            self.unconfirmed &-= all
            self.confirmed &+= all - nacked
            self.nacked &+= nacked
        #endif
    }

    /// So many publishes will never be settled.
    mutating func giveUp(_ unconfirmed: Int) {
        #if MetricsSupport
            self.unconfirmed -= unconfirmed
        #endif
    }

    /// The broker returned a publish.
    mutating func returned() {
        #if MetricsSupport
            self.unrouted &+= 1
        #endif
    }

    /// Deliveries came to a consumer.
    @inline(__always)
    mutating func consume(_ count: Int) {
        #if MetricsSupport
            self.consumed &+= count
        #endif
    }

    /// A message came with `basic.get`.
    mutating func get() {
        #if MetricsSupport
            self.got &+= 1
        #endif
    }

    /// Deliveries were acknowledged.
    @inline(__always)
    mutating func acknowledge(_ count: Int) {
        #if MetricsSupport
            self.acknowledged &+= count
        #endif
    }

    /// Deliveries were refused.
    mutating func refuse(_ count: Int, requeue: Bool) {
        #if MetricsSupport
            if requeue { self.requeued &+= count } else { self.rejected &+= count }
        #endif
    }

    /// Octets were handed to the writer.
    @inline(__always)
    mutating func send(octets: Int) {
        #if MetricsSupport
            self.octetsSent &+= octets
        #endif
    }

    /// A channel was opened (1) or ended (-1).
    mutating func channel(_ change: Int) {
        #if MetricsSupport
            self.channels += change
        #endif
    }

    /// The connection ended, and all its channels with it.
    mutating func end() {
        #if MetricsSupport
            self.unconfirmed = 0
            self.channels = 0
        #endif
    }

    /// What happened since the last look; the counts begin anew.
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
