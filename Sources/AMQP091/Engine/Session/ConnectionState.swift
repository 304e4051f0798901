// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule
import EpollConcurrency
import EpollNetworking
import SecretValues

// ConnectionState: everything that the channels of one connection share and more than the loop thread touches: the octets
// waiting to be written, who writes, who waits. Behind the connection's lock (ConnectionLock).
// Not here: the state of a channel (ChannelState), reading and writing the socket (ConnectionSession).

struct ConnectionState: ~Copyable {
    /// The octets that wait to be written, and the right to write them.
    var outbound: OutboundQueue
    /// Why the connection is closed; nil while it is usable.
    var failure: AMQPError? { didSet { self.hasFailed = self.failure != nil } }
    /// Beside the error, because every message asks: to look whether there is one would copy it.
    private(set) var hasFailed = false
    /// `connection.close` was sent or received: only the close itself goes out.
    var isClosing = false
    /// The broker's reason while it blocks publishers (`connection.blocked`).
    var blockedReason: String?
    /// Tasks that wait for the broker to let publishers go on.
    var unblockedWaiters: [UInt32] = []
    /// It belongs to a client, which reports its loss.
    var isSupervised = false
    /// Calls of `updateSecret` that wait for `update-secret-ok`, oldest first.
    var secretWaiters = Deque<UInt32>()
    /// Keeps credentials that expire fresh.
    var refreshing: Task<Void, Never>?
    /// The secret the broker took last; nil while that of the login holds.
    @Secret var updatedSecret: String? = nil
    var waiters = WaiterTable()
    /// Tasks to resume that were found under the lock; the loop resumes them.
    var readyWaiters: [(token: UInt32, result: WaitResult)] = []
    /// Channels by number; number 0 is never used.
    var sessions: [ChannelSession?] = [nil]
    var numbers = ChannelNumbers(maximum: 1)
    /// Channels with acknowledgements to merge into the next write.
    var unsentAcks: [ChannelTable.Slot] = []
    /// The loop reads after a pause, and then sends what waits in `unsentAcks`: nobody has to wake it for them.
    var isPausing = false
    /// Largest frame payload: the negotiated frame-max less 8.
    var maximumPayload = 8184
    /// What the broker said of itself in `connection.start`.
    var serverProperties = FieldTable()
    /// Queues declared on this connection that are no quorum queues, whose deliveries RabbitMQ 4.3 does not time out.
    var queuesWithoutTimeout: Set<String> = []
    /// A queue was declared that ends with this connection or with its consumers.
    var hasTemporaryQueues = false
    /// The moment the deadline timer is set for.
    var armedDeadline = UInt64.max
    /// What happened since it was last reported.
    var counts = ConnectionCounts()
    private let passing = PassedByAddress()

    init(writeBufferSize: Int) { self.outbound = OutboundQueue(limit: writeBufferSize) }

    /// Whether anything may be sent on the connection.
    var isOpen: Bool { !self.hasFailed && !self.isClosing }

    /// Throws why nothing may be sent; nothing was.
    func requireOpen() throws(AMQPError) {
        if let failure = self.failure { throw failure.withSafeRetry }
        if self.isClosing {
            throw AMQPError(
                .connectionClosed,
                "the connection is being closed",
                scope: .connection,
                isSafeToRetry: true
            )
        }
    }

    /// Whether the write buffer takes a publish and the broker does not block publishers.
    var hasRoom: Bool { !self.outbound.isFull && self.blockedReason == nil }

    /// Appends the acknowledgements that wait; called by the writer just before it takes the octets.
    mutating func appendUnsentAcks(_ channels: inout ChannelTable) {
        guard !self.unsentAcks.isEmpty else { return }
        for slot in self.unsentAcks { channels[slot].appendAcks(to: &self.outbound.fill) }
        self.unsentAcks.removeAll(keepingCapacity: true)
    }

    /// Has the task of a slot resumed with `result`, unless it gave up.
    mutating func wake(_ token: UInt32, _ result: WaitResult, into resumptions: inout [Resumption]) {
        if let waiter = self.waiters.finish(token) { resumptions.append(Resumption(waiter: waiter, result: result)) }
    }

    /// Has the loop resume the task of a slot, unless it gave up.
    ///
    /// - Returns: What the caller does after it unlocked.
    mutating func resumeSoon(_ token: UInt32?, _ result: WaitResult) -> CallerStep {
        guard let token else { return .none }
        self.readyWaiters.append((token, result))
        return .wakeLoop
    }

    var hasRoomWaiters: Bool { self.outbound.hasWaiters || !self.readyWaiters.isEmpty }

    /// The tasks that may publish again, when there is room.
    mutating func takeRoomWaiters(into resumptions: inout [Resumption]) {
        while let ready = self.readyWaiters.popLast() { self.wake(ready.token, ready.result, into: &resumptions) }
        guard self.blockedReason == nil else { return }
        for token in self.outbound.takeWaiters() { self.wake(token, .room, into: &resumptions) }
    }
}

extension AMQPError {
    /// The same error for a call of which nothing was written.
    var withSafeRetry: AMQPError {
        AMQPError(
            self.code,
            self.replyText,
            replyCode: self.replyCode,
            method: self.method,
            callSite: self.callSite,
            scope: self.scope,
            origin: self.origin,
            isSafeToRetry: true
        )
    }
}
