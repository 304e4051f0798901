// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import DequeModule
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
    /// It belongs to a consumer that goes on with another channel when this one is gone.
    ///
    /// Set before the channel is used.
    var isRecovered = false
    /// Deliveries whose bodies are over the limit are handed over with an error, whatever the configuration says.
    ///
    /// Set before the channel is used.
    var reportsOversizedBodies = false

    // MARK: guarded by the connection's lock

    var machine = ChannelStateMachine<UInt32>()
    /// A copy of `!machine.isOpen`, which every message asks for: nothing but the close itself may be sent.
    @exclusivity(unchecked) private(set) var isClosing = false
    @exclusivity(unchecked) var confirms = ConfirmTracker()
    @exclusivity(unchecked) var settlements = SettlementLedger()
    /// Why publishers wait, besides the window and the write buffer.
    @exclusivity(unchecked) var publishHold: PublishHold = []
    /// `tx.select` was sent: publishes and settlements take effect with the next commit.
    var isTransactional = false
    /// The lines of the application that published and settled last, for the error of a close that blames them.
    @exclusivity(unchecked) var publishSites = PublishSites()
    @exclusivity(unchecked) var settlementSite: CallSite?
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

extension ChannelSession {
    /// Tells the machine of an event, and keeps what every message asks of it beside it.
    ///
    /// Under the lock.
    func withMachine<Result>(_ event: (inout ChannelStateMachine<UInt32>) -> Result) -> Result {
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
        let consumer = self.consumers[chunk.shortString(at: offset)]
        self.latestConsumer = consumer
        return consumer
    }
}

// MARK: requests

extension ChannelSession {
    /// Those who wait for something other than a reply, once the channel has ended; a consumer whose `consume-ok` does not
    /// come any more is let go of too: it holds the channel.
    ///
    /// Under the lock.
    func takeWaiters() -> [UInt32] {
        self.startingConsumers = [:]
        return self.confirms.takeWaiters()
    }

    func endConsumers(_ ending: ConsumerInbox.Ending) {
        let inboxes = Array(self.consumers.values)
        self.consumers = [:]
        for inbox in inboxes {
            inbox.handOver()
            inbox.finish(ending)
        }
    }

    /// Sends a request and waits for its reply; registering both and appending the frame is one step.
    ///
    /// - Parameters:
    ///   - method: The request.
    ///   - timeout: Time to wait for the reply.
    ///   - prepare: Runs under the lock once the reply is expected.
    ///   - before: Runs under the lock before the frame is appended; what it throws keeps the frame from being sent.
    /// - Returns: The reply.
    /// - Throws: What `before` throws or what cannot be encoded, and nothing was sent; or how the wait failed.
    nonisolated(nonsending) func request(
        _ method: Method,
        timeout: Duration?,
        prepare: (ChannelSession) -> Void = { _ in },
        before: (inout ConnectionState) throws(AMQPError) -> Void = { _ in }
    ) async throws(AMQPError) -> WaitResult {
        try await self.driver.wait(deadline: self.driver.deadline(timeout)) { state, token throws(AMQPError) in
            if let failure = self.failure { throw failure.withSafeRetry }
            try state.requireOpen()
            try before(&state)
            // What was acknowledged goes out before: the broker's answer may be to close the channel, and then it would
            // not count.
            if self.settlements.isScheduled { self.appendAcks(to: &state.fill) }
            let start = state.fill.count
            do throws(WireError) {
                try method.encodeFrame(channel: self.number, into: &state.fill)
            } catch {
                throw .invalidArgument(error, in: method)
            }
            let size = state.fill.count - start - 8
            guard size <= state.maximumPayload else {
                state.fill.truncate(to: start)
                throw .invalidArgument(WireError(.frameTooLarge(size: size, limit: state.maximumPayload)), in: method)
            }
            let replies = method.id.replies
            guard let reply = replies.first,
                self.machine.expect(reply, or: replies.dropFirst().first, waiter: token) != nil
            else {
                state.fill.truncate(to: start)
                throw Self.closing
            }
            prepare(self)
            return state.scheduleFlush()
        }
    }

    nonisolated(nonsending) func call(
        _ method: Method,
        timeout: Duration?,
        prepare: (ChannelSession) -> Void = { _ in },
        before: (inout ConnectionState) throws(AMQPError) -> Void = { _ in }
    ) async throws(AMQPError) -> Method {
        let result = try await self.request(method, timeout: timeout, prepare: prepare, before: before)
        guard case .reply(let reply) = result else {
            throw AMQPError(.protocolViolation, "no reply to \(method.id)", method: method.id)
        }
        return reply
    }

    nonisolated(nonsending) func close(timeout: Duration?) async throws(AMQPError) {
        do throws(AMQPError) {
            _ = try await self.driver.wait(deadline: self.driver.deadline(timeout)) { state, token throws(AMQPError) in
                if let failure = self.failure ?? state.failure { throw failure }
                self.appendAcks(to: &state.fill)
                switch self.withMachine({ $0.close(token) }) {
                case .send(let close):
                    // 200 and an empty text: encoding it cannot fail.
                    try? Method.channelClose(close).encodeFrame(channel: self.number, into: &state.fill)
                    return state.scheduleFlush()
                case .wait: return .none
                case .alreadyClosed:
                    state.readyWaiters.append(token)
                    return .wakeLoop
                }
            }
        } catch {
            // It is closed: that is what was asked for.
            guard error.code != .channelClosed, error.code != .connectionClosed else { return }
            throw error
        }
    }

    /// Closes in order even when the calling task is cancelled.
    nonisolated(nonsending) func closeShielded() async {
        await Task { try? await self.close(timeout: nil) }.value
    }
}

extension ChannelSession {
    /// Whether the channel takes publishes and settlements.
    var isUsable: Bool {
        self.driver.state.withLock { !self.hasFailed && !self.isClosing && !$0.hasFailed && !$0.isClosing }
    }
}
