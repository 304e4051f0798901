// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Synchronization

// ChannelSession: one opening of one channel as its callers and deliveries know it: where its state is, and what only the
// loop thread touches. Settling a delivery of it after the channel is gone finds it closed and sends nothing.
// Not here: what more than the loop thread touches (ChannelState), which is reached only under the connection's lock.

@usableFromInline
final class ChannelSession: @unchecked Sendable {
    let driver: ConnectionSession
    /// Whether operations have spans; beside the observation, because every message asks.
    let isTracing: Bool
    let number: ChannelNumber
    /// Its state in the connection's lock, which it keeps for as long as it is referred to.
    let slot: ChannelTable.Slot
    /// It belongs to a consumer or publisher that continues on another channel when this one is gone.
    ///
    /// Set before the channel is used.
    var isOfClient = false
    /// Deliveries whose bodies are over the limit are handed over with an error, whatever the configuration says.
    ///
    /// Set before the channel is used.
    var reportsOversizedBodies = false

    // MARK: loop thread only

    var consumers: [String: ConsumerInbox] = [:] { didSet { self.latestConsumer = nil } }
    /// The consumer that got the last delivery, mostly that of the next one too.
    private var latestConsumer: ConsumerInbox?
    var assembling: AssemblingContent? { didSet { self.isAssembling = self.assembling != nil } }
    /// Beside it, because every frame asks: to look whether there is one would copy it.
    private(set) var isAssembling = false
    var settlementWatch: SettlementWatch?

    // MARK: any thread

    private let lastTag = Atomic<UInt64>(0)
    /// The highest delivery tag handed to a consumer or to a caller of `get`; set by the loop thread.
    var lastDeliveryTag: UInt64 {
        get { self.lastTag.load(ordering: .relaxed) }
        set { self.lastTag.store(newValue, ordering: .relaxed) }
    }

    /// Whether a delivery that was handed to a consumer, or to a caller of `get`, is not settled.
    var hasUnsettledDeliveries: Bool {
        self.withLock { channel, _ in channel.settlements.oldestOpen <= self.lastDeliveryTag }
    }

    init(driver: ConnectionSession, number: ChannelNumber, slot: ChannelTable.Slot) {
        self.driver = driver
        self.isTracing = driver.observation.isTracing
        self.number = number
        self.slot = slot
    }

    deinit { self.driver.state.release(self.slot) }
}

extension ChannelSession {
    /// Runs `body` with the states of the channel and of its connection, alone.
    @inline(__always)
    func withLock<Result, Failure: Error>(
        _ body: (inout ChannelState, inout ConnectionState) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try self.driver.state.withChannels { state, channels throws(Failure) in
            try body(&channels[self.slot], &state)
        }
    }

    /// As `ConnectionSession.wait`, with the state of the channel.
    @inline(__always)
    nonisolated(nonsending) func wait(
        deadline: UInt64,
        register: (inout ChannelState, inout ConnectionState, UInt32) throws(AMQPError) -> CallerStep
    ) async throws(AMQPError) -> WaitResult {
        try await self.driver.wait(deadline: deadline) { state, channels, token throws(AMQPError) in
            try register(&channels[self.slot], &state, token)
        }
    }

    /// Whether the channel takes publishes and settlements.
    var isUsable: Bool { self.withLock { channel, state in channel.maySend(state) } }

    /// Why the channel has ended; nil while it has not.
    var ending: AMQPError? { self.withLock { channel, state in channel.failure ?? state.failure } }
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
