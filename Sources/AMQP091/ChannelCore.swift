// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule
import EpollNetworking

// ChannelCore: one opening of one channel: what callers and the loop share of it.
// Properties under "guarded" are touched only inside the connection's lock; those under "loop" on the loop thread only.
// A delivery points to the core it came on, so settling after the channel is gone finds it closed and sends nothing.
// Unsafe: @exclusivity(unchecked) on what every message touches, where the run-time check would cost more than the
// access. The lock, or the thread, is what makes each access exclusive, and no access calls out while it lasts.

@usableFromInline
final class ChannelCore: @unchecked Sendable {
    let driver: ConnectionDriver
    /// Whether operations have spans; beside the observation, because every message asks.
    let isTracing: Bool
    let number: ChannelNumber
    /// It belongs to a consumer that goes on with another channel when this one is gone.
    ///
    /// Set before the channel is used.
    var isRecovered = false

    // MARK: guarded by the connection's lock

    var machine = ChannelStateMachine<UInt32>()
    /// A copy of `!machine.isOpen`, which every message asks for: nothing but the close itself may be sent.
    @exclusivity(unchecked) private(set) var isClosing = false
    /// Publishes unconfirmed; empty while confirms are off.
    @exclusivity(unchecked) var confirms = ConfirmRing(capacity: 16)
    @exclusivity(unchecked) var hasConfirms = false
    @exclusivity(unchecked) var windowMessages = 0
    @exclusivity(unchecked) var windowOctets = 0
    /// Publishers that wait for the confirm window.
    @exclusivity(unchecked) var windowWaiters = Deque<UInt32>()
    /// Tasks that wait until nothing is unconfirmed.
    @exclusivity(unchecked) var drainWaiters: [UInt32] = []
    /// Publishes nobody waited for that the broker refused or returned, since the last `waitForConfirms`.
    var firstFailure: AMQPError?
    var failedCount = 0
    /// How publishes have ended that were not confirmed, since confirms were turned on.
    @exclusivity(unchecked) var nackedCount: UInt64 = 0
    var returnedCount: UInt64 = 0
    var unknownCount: UInt64 = 0
    /// Of those, how many nobody waited for.
    var unknownSendCount = 0
    /// What receipts need to know.
    @exclusivity(unchecked) var receipts = ReceiptLedger()
    /// The publishes that were unconfirmed when the channel ended; nil before.
    var endedConfirms: ConfirmRing?
    @exclusivity(unchecked) var acks = AckRuns()
    @exclusivity(unchecked) var hasUnsentAcks = false
    /// Publishers must wait: `channel.flow` told them to stop, or a commit is under way.
    @exclusivity(unchecked) var isFlowStopped = false
    /// `channel.flow` told publishers to stop.
    var isStoppedByBroker = false
    /// `tx.select` was sent: what is published and settled takes effect with the next commit.
    var isTransactional = false
    /// What was settled since the last commit; nil outside of `withTransaction`.
    var transaction: [Settlement]?
    /// The lines of the application that published and settled last, for the error of a close that blames them.
    @exclusivity(unchecked) var publishSites = PublishSites()
    @exclusivity(unchecked) private var settlementSite: CallSite?
    /// Settlements are kept back: the broker could not take them now.
    var hold = SettlementHold.none
    var heldRefusals: [Settlement] = []
    /// Why the channel is closed; nil while it is usable.
    @exclusivity(unchecked) var failure: AMQPError? { didSet { self.hasFailed = self.failure != nil } }
    /// Beside the error, because every message asks: to look whether there is one would copy it.
    @exclusivity(unchecked) private(set) var hasFailed = false
    /// The consumer of a `basic.consume` whose reply is still to come, by tag.
    var startingConsumers: [String: ConsumerInbox] = [:]
    /// The tags of consumers that have been started and have not ended.
    var consumerTags: Set<String> = []
    /// Consumers started so far with a tag of ours, which the number is part of.
    var nextConsumer = 0
    /// The `basic.get` under way, oldest first.
    var expectedGets = Deque<(queue: String, isAutomatic: Bool)>()

    // MARK: loop thread only

    var consumers: [String: ConsumerInbox] = [:] { didSet { self.latestConsumer = nil } }
    /// The consumer that got the last delivery, mostly that of the next one too.
    @exclusivity(unchecked) private var latestConsumer: ConsumerInbox?
    var assembling: AssemblingContent? { didSet { self.isAssembling = self.assembling != nil } }
    /// Beside it, because every frame asks: to look whether there is one would copy it.
    @exclusivity(unchecked) private(set) var isAssembling = false
    /// The highest delivery tag handed to a consumer or to a caller of `get`.
    var lastDeliveryTag: UInt64 = 0
    var settlementWatch: SettlementWatch?

    init(driver: ConnectionDriver, number: ChannelNumber) {
        self.driver = driver
        self.isTracing = driver.observation.isTracing
        self.number = number
    }
}

extension ChannelCore {
    /// Tells the machine of an event, and keeps what every message asks of it beside it.
    ///
    /// Under the lock.
    func withMachine<Result>(_ event: (inout ChannelStateMachine<UInt32>) -> Result) -> Result {
        defer { self.isClosing = !self.machine.isOpen }
        return event(&self.machine)
    }
}

extension ChannelCore {
    /// The consumer whose tag is the short string at `offset`.
    ///
    /// Loop thread.
    func consumer(taggedAt offset: Int, in chunk: InboundChunk) -> ConsumerInbox? {
        if let latest = self.latestConsumer, chunk.hasShortString(latest.tagOctets, at: offset) { return latest }
        let consumer = self.consumers[chunk.shortString(at: offset)]
        self.latestConsumer = consumer
        return consumer
    }
}

// MARK: settling

/// One call of `ack`, `nack` or `reject`.
struct Settlement: Sendable {
    let tag: UInt64
    let multiple: Bool
    /// Whether a refused message returns to its queue; nil for an acknowledgement.
    let requeue: Bool?
    /// Sent as `basic.reject`, which counts towards the delivery limit, instead of `basic.nack`.
    var isRejection = false
}

/// Why settlements are kept back.
enum SettlementHold {
    case none
    /// `tx.commit` is under way: RabbitMQ's channel fails on a settlement before `commit-ok`. Sent afterwards.
    case committing
    /// `basic.recover` is under way: what was delivered goes back to its queues. Never sent.
    case recovering
}

extension ChannelCore {
    func acknowledge(_ tag: UInt64, multiple: Bool, site: CallSite) throws(AMQPError) {
        let kick = try self.driver.state.withLock { state throws(AMQPError) -> Kick in
            guard !self.isClosing, !self.hasFailed, !state.hasFailed else { throw self.closed(state.failure) }
            let unsent = self.acks.count
            let isNew = multiple ? self.acks.settle(upTo: tag) : self.acks.settle(tag)
            guard isNew else { throw Self.alreadySettled }
            state.counts.acknowledge(multiple ? self.acks.count - unsent : 1)
            self.settlementSite = site
            self.transaction?.append(Settlement(tag: tag, multiple: multiple, requeue: nil))
            guard !self.hasUnsentAcks else { return .none }
            self.hasUnsentAcks = true
            state.unsentAcks.append(self)
            return state.isPausing ? .none : state.scheduleFlush()
        }
        self.driver.perform(kick)
    }

    /// Refuses deliveries with `basic.nack`, or one with `basic.reject`: since RabbitMQ 4.3 only a rejection counts
    /// towards the delivery limit of a quorum queue, a nack says that the message was not processed.
    func refuse(
        _ tag: UInt64,
        multiple: Bool = false,
        requeue: Bool,
        isRejection: Bool = false,
        site: CallSite?
    ) throws(AMQPError) {
        let kick = try self.driver.state.withLock { state throws(AMQPError) -> Kick in
            guard !self.isClosing, !self.hasFailed, !state.hasFailed else { throw self.closed(state.failure) }
            let refused = multiple ? self.acks.reject(upTo: tag) : self.acks.reject(tag) ? 1 : 0
            guard refused > 0 else { throw Self.alreadySettled }
            state.counts.refuse(refused, requeue: requeue)
            self.settlementSite = site
            let settlement = Settlement(tag: tag, multiple: multiple, requeue: requeue, isRejection: isRejection)
            self.transaction?.append(settlement)
            guard self.hold == .none else {
                self.heldRefusals.append(settlement)
                return .none
            }
            // Acknowledgements given before this call go out before it: a multiple must not take them along.
            if multiple { self.appendAcks(to: &state.fill) }
            self.append(settlement, to: &state.fill)
            return state.scheduleFlush()
        }
        self.driver.perform(kick)
    }

    /// Merges what was acknowledged into as few `basic.ack` as the tags allow.
    ///
    /// Under the lock.
    func appendAcks(to buffer: inout WireBuffer) {
        self.hasUnsentAcks = false
        guard !self.hasFailed, self.hold == .none else { return }
        self.acks.drain { tag, multiple in
            // 21 octets: frame header, 60 80, tag, bit, frame end.
            buffer.append(1 as UInt8)
            buffer.appendUInt16(self.number.rawValue)
            buffer.appendUInt32(13)
            buffer.appendUInt32(60 << 16 | 80)
            buffer.appendUInt64(tag)
            buffer.append((multiple ? 1 : 0) as UInt8)
            buffer.append(0xCE as UInt8)
        }
    }

    /// Appends a `basic.nack` or a `basic.reject`.
    ///
    /// Under the lock.
    func append(_ refusal: Settlement, to buffer: inout WireBuffer) {
        let tag = DeliveryTag(rawValue: refusal.tag)
        let requeue = refusal.requeue ?? true
        let method: Method =
            refusal.isRejection
            ? .basicReject(.init(deliveryTag: tag, requeue: requeue))
            : .basicNack(.init(deliveryTag: tag, multiple: refusal.multiple, requeue: requeue))
        // A number and two bits: encoding it cannot fail.
        try? method.encodeFrame(channel: self.number, into: &buffer)
    }

    /// Why nothing can be sent any more.
    private func closed(_ connectionFailure: AMQPError?) -> AMQPError {
        (self.failure ?? connectionFailure)?.withSafeRetry ?? Self.closing
    }

    /// The line of the application that most likely caused this close; nil unless it blames what is sent unanswered.
    ///
    /// Under the lock.
    func likelySite(of reason: ConnectionStateMachine.CloseReason) -> CallSite? {
        switch reason.method {
        case Basic.Publish.id: self.publishSites.likeliest(reason.text)
        case Basic.Ack.id, Basic.Nack.id, Basic.Reject.id: self.settlementSite
        default: nil
        }
    }

    /// After `channel.close` nothing may follow on the channel: RabbitMQ would close the connection (504).
    static let closing = AMQPError(
        .channelClosed,
        "the channel is being closed",
        scope: .channel,
        isSafeToRetry: true
    )

    private static let alreadySettled = AMQPError(.alreadySettled, isSafeToRetry: true)
}

// MARK: publishing

extension ChannelCore {
    /// What one attempt to publish came to.
    enum PublishAttempt {
        case done(Kick)
        /// No room: wait in the window's queue or the connection's.
        case windowFull
        case noRoom
    }

    /// What the caller of one publish does next.
    @usableFromInline
    enum PublishStep {
        /// Go on: the publish is on its way.
        case done
        /// Suspend until there is room, and try again.
        case waitForRoom
        /// Nothing was done: publish with a span.
        case trace
        /// The publish is on its way; suspend once all the same, because this thread serves the socket too.
        case breathe
    }

    /// Publishes if there is room; on the caller's thread, without suspending.
    ///
    /// - Parameters:
    ///   - body: The body's octets.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
    ///   - properties: The properties.
    ///   - site: The line that publishes.
    /// - Returns: What to do next.
    /// - Throws: What cannot be encoded, or that the channel is closed; nothing was appended.
    @usableFromInline
    func publishAtOnce(
        _ body: RawSpan,
        to destination: AMQPDestination,
        mandatory: Bool,
        properties: BasicProperties,
        site: CallSite
    ) throws(AMQPError) -> PublishStep {
        if self.isTracing { return .trace }
        return try self.publishNow(body, to: destination, mandatory: mandatory, properties: properties, site: site)
    }

    /// As `publishAtOnce`, without a span.
    @inline(__always)
    func publishNow(
        _ body: RawSpan,
        to destination: AMQPDestination,
        mandatory: Bool,
        properties: BasicProperties,
        site: CallSite
    ) throws(AMQPError) -> PublishStep {
        let attempt = try body.withUnsafeBytes { octets throws(AMQPError) in
            try self.driver.state.withLock { state throws(AMQPError) in
                try self.publish(
                    &state,
                    body: octets,
                    destination: destination,
                    mandatory: mandatory,
                    properties: properties,
                    site: site,
                    token: 0
                )
            }
        }
        guard case .done(let kick) = attempt else { return .waitForRoom }
        self.driver.perform(kick)
        return kick == .writeAndBreathe ? .breathe : .done
    }

    /// Octets at which a task on the loop's own thread writes, instead of filling the buffer until it has to wait.
    private static let muchToWrite = 128 << 10

    /// Numbers, registers and appends one publish, in one step; or says what it has to wait for.
    ///
    /// - Parameters:
    ///   - state: The connection's state, whose lock is held.
    ///   - body: The body's octets.
    ///   - destination: Where to.
    ///   - mandatory: Whether the broker returns a message that no queue takes.
    ///   - properties: The properties.
    ///   - site: The line that publishes.
    ///   - token: The waiter of its confirm, 0 for none.
    /// - Returns: Whether it is done, or what to wait for.
    /// - Throws: What cannot be encoded, or that the channel is closed; nothing was appended.
    @inline(__always)
    func publish(
        _ state: inout ConnectionState,
        body: UnsafeRawBufferPointer,
        destination: AMQPDestination,
        mandatory: Bool,
        properties: BasicProperties,
        site: CallSite,
        token: UInt32
    ) throws(AMQPError) -> PublishAttempt {
        guard !self.isClosing, !self.hasFailed, !state.hasFailed, !state.isClosing else {
            state.counts.failToPublish()
            if let failure = self.failure { throw failure.withSafeRetry }
            try state.requireOpen()
            throw ChannelCore.closing
        }
        guard state.fill.count < state.writeBufferSize, state.blockedReason == nil, !self.isFlowStopped else {
            return .noRoom
        }
        guard self.hasWindowRoom else { return .windowFull }
        let isLone = self.hasConfirms && state.fill.isEmpty && self.confirms.outstandingMessages == 0
        do {
            try state.fill.appendPublish(
                channel: self.number.rawValue,
                exchange: destination.exchange,
                routingKey: destination.routingKey,
                mandatory: mandatory,
                properties: properties,
                body: body,
                maximumPayload: state.maximumPayload
            )
        } catch {
            state.counts.failToPublish()
            throw .invalidArgument(error, publishingTo: destination, properties)
        }
        state.counts.publish(withConfirm: self.hasConfirms)
        self.publishSites.note(site, exchange: destination.exchange)
        if self.hasConfirms {
            let sequence = self.confirms.append(octets: body.count, token: token)
            if mandatory {
                self.confirms.markMandatory(
                    sequence,
                    exchange: destination.exchange,
                    routingKey: destination.routingKey,
                    bodyLength: body.count
                )
            }
        }
        // A lone publish is written by its caller: waking the loop would cost more than the write.
        if isLone, state.writer == .nobody, !state.isFlushScheduled, state.unsentAcks.isEmpty {
            return .done(self.driver.takeWriter(&state, .write))
        }
        if state.fill.count >= ChannelCore.muchToWrite, state.writer == .nobody, self.driver.loop.isInLoop {
            return .done(self.driver.takeWriter(&state, .writeAndBreathe))
        }
        return .done(state.scheduleFlush())
    }
}

/// The octets of a delivery that came in pieces: interleaved with other channels, or in more than one body frame.
struct AssemblingContent {
    var assembler: ContentAssembler
    let method: Method
    let arguments: [UInt8]
    /// Who waits for it, with `basic.get`; 0 for none.
    let waiter: UInt32
    var properties: [UInt8] = []
    var body: [UInt8] = []
    /// Where the body goes instead, when its consumer reads it while it arrives.
    var pieces: BodyPieces?

    /// The parts side by side in a chunk of their own.
    func chunk(tag: UInt64, arguments: [UInt8]? = nil) -> (InboundChunk, DeliveryRecord) {
        let parts = [arguments ?? self.arguments, self.properties, self.body]
        let chunk = InboundChunk(capacity: parts.reduce(0) { $0 + $1.count })
        var offset = 0
        for part in parts {
            part.withUnsafeBytes { octets in
                if let base = octets.baseAddress {
                    (chunk.base + offset).copyMemory(from: base, byteCount: octets.count)
                }
            }
            offset += part.count
        }
        let record = DeliveryRecord(
            tag: tag,
            arguments: 0,
            argumentsCount: UInt32(parts[0].count),
            properties: UInt32(parts[0].count),
            propertiesCount: UInt32(parts[1].count),
            body: UInt32(parts[0].count + parts[1].count),
            bodyCount: UInt32(parts[2].count)
        )
        return (chunk, record)
    }

    /// As `chunk`, for `basic.get-ok`, whose arguments have no consumer tag: an empty one is put before them.
    func getChunk(tag: UInt64) -> (InboundChunk, DeliveryRecord) {
        self.chunk(tag: tag, arguments: [0] + self.arguments)
    }
}
