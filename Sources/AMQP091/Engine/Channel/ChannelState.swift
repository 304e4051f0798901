// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking

// ChannelState: what decides what happens on one opening of one channel, for all threads: its machine, its confirms and
// settlements, who waits on it, and how it ended. It lives in the connection's lock (ChannelTable, ConnectionLock) and
// cannot be copied: who has it as `inout` holds the lock.
// Not here: what only the loop thread touches, and the calls (ChannelSession); the write buffer and the waiters that all
// channels share, which come as a second `inout` (ConnectionState).

struct ChannelState: ~Copyable {
    let number: ChannelNumber
    var machine = ChannelMachine()
    /// A copy of `!machine.isOpen`, which every message asks for: nothing but the close itself may be sent.
    private(set) var isClosing = false
    /// Why the channel is closed; nil while it is usable.
    var failure: AMQPError? { didSet { self.hasFailed = self.failure != nil } }
    /// Beside the error, because every message asks: to look whether there is one would copy it.
    private(set) var hasFailed = false
    /// Called once when the channel has ended; on the loop, so it must be short.
    var onEnd: (@Sendable () -> Void)?

    var confirms = ConfirmTracker()
    /// Why publishers wait, besides the window and the write buffer.
    var publishHold: PublishHold = []
    /// Publishers that wait until `publishHold` is empty.
    var heldPublishers = WaitingLine<UInt32>()
    /// The lines of the application that published and settled last, for the error of a close that blames them.
    var publishSites = PublishSites()
    var settlementSite: CallSite?
    /// Exchanges, lines and other traits that distinguish the unconfirmed publishes.
    var publishRuns = PublishRuns()
    /// The meaning of the broker's close for the unconfirmed publishes; nil for every other end.
    var verdict: PublishVerdict?

    var settlements = SettlementLedger()
    /// `tx.select` was sent: publishes and settlements take effect with the next commit.
    var isTransactional = false
    /// A scope of `withTransaction` is open.
    var isInTransaction = false
    /// Answers that are due and must not be sent before `tx.commit-ok`.
    var owedAnswers = OwedAnswers()

    /// The consumer of a `basic.consume` that was sent and not answered, by tag.
    var startingConsumers: [String: ConsumerInbox] = [:]
    /// The tags that the broker knows, or will know: nothing else may use them.
    var consumerTags: Set<String> = []
    /// Consumers that the broker cancelled while deliveries of theirs were not settled, by tag.
    var lateConsumers: [String: LateConsumer] = [:] { didSet { self.hasLateConsumers = !self.lateConsumers.isEmpty } }
    /// Beside them, because every settlement asks.
    private(set) var hasLateConsumers = false
    /// Number of consumer tags generated so far; a tag contains it.
    private var consumersNamed = 0
    private let passing = PassedByAddress()

    init(_ number: ChannelNumber) { self.number = number }

    /// A consumer whose deliveries were taken back by the broker.
    struct LateConsumer {
        /// The highest delivery tag of the channel when that happened.
        let lastTag: UInt64
        /// The error of settling one of its deliveries.
        var error: AMQPError
    }
}

extension ChannelState {
    /// Whether publishes, settlements and requests may be sent.
    @inline(__always)
    func maySend(_ state: borrowing ConnectionState) -> Bool {
        !self.hasFailed && !self.isClosing && state.isOpen
    }

    /// Throws why nothing may be sent; nothing was.
    @inline(__always)
    func requireOpen(_ state: borrowing ConnectionState) throws(AMQPError) {
        guard !self.maySend(state) else { return }
        throw self.closed(state)
    }

    /// Why nothing may be sent, when that is so.
    @inline(never)
    func closed(_ state: borrowing ConnectionState) -> AMQPError {
        if let failure = self.failure { return failure.withSafeRetry }
        do throws(AMQPError) { try state.requireOpen() } catch { return error }
        return Self.closing
    }

    /// After `channel.close` nothing may follow on the channel: RabbitMQ would close the connection (504).
    static let closing = AMQPError(
        .channelClosed,
        "the channel is being closed",
        scope: .channel,
        isSafeToRetry: true
    )

    /// Tells the machine of an event, and keeps what every message asks of it beside it.
    mutating func withMachine<Result>(_ event: (inout ChannelMachine) -> Result) -> Result {
        let result = event(&self.machine)
        self.isClosing = !self.machine.isOpen
        return result
    }

    /// Sends `channel.open`, whose answer is for the waiter `token`.
    mutating func open(_ token: UInt32, _ state: inout ConnectionState) {
        _ = self.machine.open(token, context: ChannelRequest(purpose: .plain))
        self.append(.channelOpen(.init()), &state)
    }

    /// A tag for a consumer that was given none.
    mutating func nextConsumerTag() -> String {
        self.consumersNamed += 1
        return "amqp091-\(self.number.rawValue)-\(self.consumersNamed)"
    }

    /// Appends a method whose encoding cannot fail: no arguments, a bit, or a tag that came in a short string.
    func append(_ method: Method, _ state: inout ConnectionState) {
        try? method.encodeFrame(channel: self.number, into: &state.outbound.fill)
    }
}

// MARK: - The end

extension ChannelState {
    /// Handles a received method.
    ///
    /// The broker's close sets the failure in the same step, so that a closed channel always has its cause.
    mutating func received(_ method: Method) -> ChannelMachine.Action {
        let event = self.withMachine { $0.received(method) }
        if case .closedByBroker(let reason, _) = event {
            self.failure = AMQPError(channelClosed: reason, site: self.likelySite(of: reason))
            self.judge(reason)
        }
        return event
    }

    /// The line of the application that most likely caused this close; nil unless it blames what is sent unanswered.
    private func likelySite(of reason: ConnectionStateMachine.CloseReason) -> CallSite? {
        switch reason.method {
        case Basic.Publish.id: self.publishSites.likeliest(reason.text)
        case Basic.Ack.id, Basic.Nack.id, Basic.Reject.id: self.settlementSite
        default: nil
        }
    }

    /// The tasks that wait for something other than a reply or the outcome of their publish, once the channel has ended.
    ///
    /// Releases the consumers whose `consume-ok` does not come any more, too: they hold the channel.
    private mutating func takeWaiters(_ state: inout ConnectionState) -> [UInt32] {
        self.startingConsumers = [:]
        return self.confirms.takeWaiters() + self.heldPublishers.removeAll()
            + state.outbound.takeWaiters(of: self.number)
    }

    /// The channel has ended while its connection has not: fails publishes and waits.
    mutating func end(_ error: AMQPError, _ state: inout ConnectionState, into resumptions: inout [Resumption]) {
        self.failure = error
        for token in self.takeWaiters(&state) { state.wake(token, .failed(error), into: &resumptions) }
        state.counts.giveUp(self.confirms.ring.outstandingMessages)
        state.counts.channel(-1)
        self.confirms.end { state.wake($0, .failed(error), into: &resumptions) }
    }

    /// The connection was lost: ends requests, publishes and waits, whose waiters are among those of the connection.
    ///
    /// - Returns: The waiters of requests that were not sent.
    mutating func connectionLost(_ cause: AMQPError, _ state: inout ConnectionState) -> [UInt32] {
        let unsent = self.machine.connectionLost().1.waiting.compactMap(\.waiter)
        self.failure = cause
        _ = self.takeWaiters(&state)
        self.confirms.end { _ in }
        return unsent
    }
}
