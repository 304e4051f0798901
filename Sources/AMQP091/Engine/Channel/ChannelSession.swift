// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// ChannelSession: one opening of one channel: joins the values that decide what happens on it, and sends what they answer.
// Properties under "guarded" are touched only inside the connection's lock; those under "loop" on the loop thread only.
// A delivery points to the core it came on, so settling after the channel is gone finds it closed and sends nothing.
// Unsafe: @exclusivity(unchecked) on what every message touches, where the run-time check would cost more than the
// access. The lock, or the thread, is what makes each access exclusive, and no access calls out while it lasts.

@usableFromInline
final class ChannelSession: @unchecked Sendable {
    let driver: ConnectionDriver
    /// Whether operations have spans; beside the observation, because every message asks.
    let isTracing: Bool
    let number: ChannelNumber
    /// It belongs to a consumer or publisher that continues on another channel when this one is gone.
    ///
    /// Set before the channel is used.
    var isRecovered = false
    /// Deliveries whose bodies are over the limit are handed over with an error, whatever the configuration says.
    ///
    /// Set before the channel is used.
    var reportsOversizedBodies = false

    // MARK: guarded by the connection's lock

    var machine = ChannelMachine()
    /// A copy of `!machine.isOpen`, which every message asks for: nothing but the close itself may be sent.
    @exclusivity(unchecked) private(set) var isClosing = false
    @exclusivity(unchecked) var confirms = ConfirmTracker()
    @exclusivity(unchecked) var settlements = SettlementLedger()
    /// Why publishers wait, besides the window and the write buffer.
    @exclusivity(unchecked) var publishHold: PublishHold = []
    /// `tx.select` was sent: publishes and settlements take effect with the next commit.
    var isTransactional = false
    /// A scope of `withTransaction` is open.
    var isInTransaction = false
    /// The lines of the application that published and settled last, for the error of a close that blames them.
    @exclusivity(unchecked) var publishSites = PublishSites()
    @exclusivity(unchecked) var settlementSite: CallSite?
    /// What the unconfirmed publishes are told apart by.
    @exclusivity(unchecked) var publishRuns = PublishRuns()
    /// What the broker's close of the channel says of its unconfirmed publishes; nil for every other end.
    var verdict: PublishVerdict?
    /// Called once when the channel has ended; on the loop, so it must be short.
    var onEnd: (@Sendable () -> Void)?
    /// Why the channel is closed; nil while it is usable.
    @exclusivity(unchecked) var failure: AMQPError? { didSet { self.hasFailed = self.failure != nil } }
    /// Beside the error, because every message asks: to look whether there is one would copy it.
    @exclusivity(unchecked) private(set) var hasFailed = false
    /// Publishers that wait until `publishHold` is empty.
    var heldPublishers = WaitingLine<UInt32>()
    /// Answers that are due and must not be sent before `tx.commit-ok`.
    var owedAnswers = OwedAnswers()
    /// The consumer of a `basic.consume` that was sent and not answered, by tag.
    var startingConsumers: [String: ConsumerInbox] = [:]
    /// The tags that the broker knows, or will know: nothing else may use them.
    var consumerTags: Set<String> = []
    /// Consumers that the broker cancelled while deliveries of theirs were not settled, by tag.
    var lateConsumers: [String: LateConsumer] = [:] { didSet { self.hasLateConsumers = !self.lateConsumers.isEmpty } }
    /// Beside them, because every settlement asks.
    @exclusivity(unchecked) private(set) var hasLateConsumers = false
    /// Consumers started so far with a tag of ours, which the number is part of.
    var nextConsumer = 0

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

extension ChannelSession {
    /// A consumer whose deliveries were taken back by the broker.
    struct LateConsumer {
        /// The highest delivery tag of the channel when that happened.
        let lastTag: UInt64
        /// The error of settling one of its deliveries.
        var error: AMQPError
    }

    /// Tells the machine of an event, and keeps what every message asks of it beside it.
    ///
    /// Under the lock.
    func withMachine<Result>(_ event: (inout ChannelMachine) -> Result) -> Result {
        defer { self.isClosing = !self.machine.isOpen }
        return event(&self.machine)
    }
}

extension ChannelSession {
    /// The consumer whose tag is the short string at `offset`.
    ///
    /// Loop thread.
    func consumer(taggedAt offset: Int, in chunk: InboundChunk) -> ConsumerInbox? {
        if let latest = self.latestConsumer, chunk.hasShortString(latest.tagOctets, at: offset) { return latest }
        let consumer = self.consumer(tagged: chunk.shortString(at: offset))
        self.latestConsumer = consumer
        return consumer
    }
}

extension ChannelSession {
    /// The tasks that wait for something other than a reply or the outcome of their publish, once the channel has ended.
    ///
    /// A consumer whose `consume-ok` does not come any more is let go of too: it holds the channel. Under the lock.
    func takeWaiters(_ state: inout ConnectionState) -> [UInt32] {
        self.startingConsumers = [:]
        let number = self.number
        return self.confirms.takeWaiters() + self.heldPublishers.removeAll()
            + state.roomWaiters.removeAll { $0.channel == number }.map(\.token)
    }
}

extension ChannelSession {
    /// Whether the channel takes publishes and settlements.
    var isUsable: Bool {
        self.driver.state.withLock { !self.hasFailed && !self.isClosing && !$0.hasFailed && !$0.isClosing }
    }

    /// Why the channel has ended; nil while it has not.
    var ending: AMQPError? { self.driver.state.withLock { self.failure ?? $0.failure } }
}
