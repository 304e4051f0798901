// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Logging

// FrameDispatcher: the meaning of frames for the channels of one connection: deliveries go to inboxes, confirms are
// collected and settled together, replies resume waiters, a channel ends. Everything the peer sends is judged by a
// machine; a violation is thrown, and the owner closes the connection for it.
// Loop thread only. Not here: octets (InboundReader), methods of channel 0 (ConnectionStateMachine), contents in several
// frames (FrameDispatcher+Contents), state that other threads touch (ChannelState).
// It calls the driver for what is sent and logged only, never for what would come back here.

/// Why a connection is closed after a frame.
enum FrameFault: Error {
    case undecodable(WireError)
    case violation(ReplyCode, String)
}

struct FrameDispatcher {
    private struct PendingConfirm {
        let channel: ChannelTable.Slot
        let confirm: ConfirmRecord
    }

    /// Channels by number, as far as a frame has asked for them.
    private var channels: [ChannelSession?] = []
    /// Inboxes that got deliveries in this read.
    private var touchedInboxes: [ConsumerInbox] = []
    /// Confirms decoded in this read: they are settled under one lock at its end.
    private var pendingConfirms: [PendingConfirm] = []
    /// Waiters to resume; kept to reuse the storage of the array.
    private var resumptions: [Resumption] = []
    /// A consumer got more than its buffer takes since `takeFull`.
    var hasFullConsumer = false
}

// MARK: - Reads

extension FrameDispatcher {
    /// The end of a read: hands over the deliveries and settles the confirms.
    mutating func finishRead(_ driver: ConnectionSession) throws(FrameFault) {
        if !self.touchedInboxes.isEmpty {
            var hasFull = false
            self.touchedInboxes.drain { if $0.handOver() { hasFull = true } }
            if hasFull { self.hasFullConsumer = true }
        }
        try self.settleConfirms(driver)
    }

    /// Whether a consumer got more than its buffer takes; once.
    mutating func takeFull() -> Bool {
        defer { self.hasFullConsumer = false }
        return self.hasFullConsumer
    }

    /// The connection has ended: releases channels and inboxes.
    mutating func end() {
        self.channels = []
        // A read that ended the connection is not finished.
        self.touchedInboxes = []
    }

    /// Marks the inbox to be handed over at the end of this read.
    mutating func touch(_ inbox: ConsumerInbox) {
        if !self.touchedInboxes.contains(where: { $0 === inbox }) { self.touchedInboxes.append(inbox) }
    }

    /// The channel of this number, if it is in use.
    @inline(__always)
    private mutating func channel(_ number: UInt16, _ driver: ConnectionSession) -> ChannelSession? {
        let index = Int(number)
        if index < self.channels.count, let core = self.channels[index] { return core }
        return self.findChannel(index, driver)
    }

    private mutating func findChannel(_ index: Int, _ driver: ConnectionSession) -> ChannelSession? {
        guard index > 0,
            let core = driver.state.withLock({ $0.sessions.indices.contains(index) ? $0.sessions[index] : nil })
        else { return nil }
        while self.channels.count <= index { self.channels.append(nil) }
        self.channels[index] = core
        return core
    }

    /// A frame for a channel that is not in use: dropped when it was just closed, else a violation.
    private func receivedOnUnknownChannel(_ number: UInt16, _ driver: ConnectionSession) throws(FrameFault) {
        let standing = driver.state.withLock { $0.numbers.standing(of: ChannelNumber(rawValue: number)) }
        if case .unknown = standing {
            throw .violation(.channelError, "a frame on channel \(number), which is not open")
        }
    }
}

// MARK: - Deliveries and confirms

extension FrameDispatcher {
    /// The batch of the consumer that a delivery in one piece is for; nil when no consumer takes it.
    mutating func batch(
        for record: DeliveryRecord,
        in chunk: InboundChunk,
        channel number: UInt16,
        _ driver: ConnectionSession
    ) throws(FrameFault) -> DeliveryBatch? {
        guard let core = self.channel(number, driver) else {
            try self.receivedOnUnknownChannel(number, driver)
            return nil
        }
        guard !core.isAssembling else { throw .violation(.unexpectedFrame, "a method inside a content") }
        guard let inbox = core.consumer(taggedAt: Int(record.arguments), in: chunk) else {
            core.returnToQueue(record.tag)
            return nil
        }
        self.touch(inbox)
        let (batch, isFull) = inbox.batch(for: chunk)
        // The bound counts within a long read too.
        if isFull { self.hasFullConsumer = true }
        return batch
    }

    /// Keeps a confirm for the end of this read; false where none may come, which is judged as any other frame.
    mutating func keep(_ confirm: ConfirmRecord, _ driver: ConnectionSession) -> Bool {
        guard let core = self.channel(confirm.channel, driver), !core.isAssembling else { return false }
        self.pendingConfirms.append(PendingConfirm(channel: core.slot, confirm: confirm))
        return true
    }

    /// Settles the confirms that were kept, under one lock, and resumes their waiters.
    mutating func settleConfirms(_ driver: ConnectionSession) throws(FrameFault) {
        guard !self.pendingConfirms.isEmpty else { return }
        var violation: String?
        driver.state.withChannels { state, channels in
            for pending in self.pendingConfirms {
                do {
                    try channels[pending.channel].settle(pending.confirm, &state, into: &self.resumptions)
                } catch {
                    violation = "a confirm for delivery tag \(pending.confirm.tag), which was not published"
                }
            }
        }
        self.pendingConfirms.removeAll(keepingCapacity: true)
        self.resumptions.drain { $0.resume() }
        if let violation { throw .violation(.commandInvalid, violation) }
    }
}

// MARK: - Other frames

extension FrameDispatcher {
    /// Handles any frame but a delivery in one piece or a single confirm.
    ///
    /// - Returns: A method of channel 0, which is the connection's.
    mutating func received(
        _ frame: DecodedFrame,
        in octets: RawSpan,
        chunk: InboundChunk,
        _ driver: ConnectionSession
    ) throws(FrameFault) -> Method? {
        let number = frame.channel.rawValue
        let payload = octets.extracting(frame.payload)
        switch frame.type {
        case .heartbeat: break
        case .method where number == 0: return try Self.method(payload)
        case .method:
            guard let core = self.channel(number, driver) else {
                try self.receivedOnUnknownChannel(number, driver)
                return nil
            }
            guard !core.isAssembling || Self.isChannelClose(payload) else {
                throw .violation(.unexpectedFrame, "a method inside a content")
            }
            try self.received(Self.method(payload), octets: payload, on: core)
        case .header, .body:
            guard number > 0, let core = self.channel(number, driver) else {
                if number == 0 { throw .violation(.unexpectedFrame, "a content on channel 0") }
                try self.receivedOnUnknownChannel(number, driver)
                return nil
            }
            try self.receivedContent(frame, payload, in: chunk, on: core)
        }
        return nil
    }

    private static func method(_ payload: RawSpan) throws(FrameFault) -> Method {
        do throws(WireError) { return try Method.decode(payload) } catch { throw .undecodable(error) }
    }

    private static func isChannelClose(_ payload: RawSpan) -> Bool {
        payload.byteCount >= 4
            && payload.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt32.self).bigEndian == 20 << 16 | 40
    }

    private mutating func received(
        _ method: Method,
        octets: RawSpan,
        on core: ChannelSession
    ) throws(FrameFault) {
        // Confirms that came before this method are settled before it: a return or a close must not overtake them.
        try self.settleConfirms(core.driver)
        switch core.withLock({ channel, _ in channel.received(method) }) {
        case .ignore: break
        case .replied(let request, let reply): self.replied(reply, to: request, octets, on: core)
        case .pass(let method):
            switch method {
            case .basicDeliver, .basicReturn: self.beginContent(method, octets, on: core)
            default: throw .violation(.commandInvalid, "\(method.id) was not expected")
            }
        case .flow(let active): core.receivedFlow(active)
        case .cancelledByBroker(let tag): core.cancelledByBroker(tag)
        case .closedByBroker(let reason, let unanswered):
            let error = core.withLock { channel, _ in channel.failure } ?? AMQPError(channelClosed: reason, site: nil)
            core.driver.send(.channelCloseOk(.init()), on: core)
            try self.channelEnded(core, error, unanswered, closers: [])
        case .sendCloseOk: core.driver.send(.channelCloseOk(.init()), on: core)
        case .closed(let closers, let unanswered):
            let error = AMQPError(.channelClosed, "the channel was closed", scope: .channel)
            try self.channelEnded(core, error, unanswered, closers: closers)
        case .violation(let code, let text): throw .violation(code, text)
        }
    }

    /// Applies the reply to the channel, before the waiting task resumes.
    private mutating func replied(
        _ reply: Method,
        to request: ChannelMachine.Requests.Request,
        _ octets: RawSpan,
        on core: ChannelSession
    ) {
        switch request.context.purpose {
        case .get:
            if case .basicGetOk = reply {
                self.beginContent(reply, octets, on: core, get: request)
            } else {
                core.driver.finish(request.waiter, .message(nil))
            }
        case .consume(let inbox): core.consumerStarted(inbox, token: request.waiter, reply)
        case .cancel(let inbox): core.consumerCancelled(inbox)
        case .recover: core.recovered()
        case .commit: core.committed()
        case .rollBack: core.rolledBack()
        case .plain, .beginTransaction, .enableConfirms: break
        }
        core.driver.perform(core.withLock { channel, state in channel.sendWaitingRequests(&state) })
        switch request.context.purpose {
        case .get, .consume: break
        default: core.driver.finish(request.waiter, .reply(reply))
        }
    }

    /// A channel has ended: every waiter and every consumer of it learns why, once.
    private mutating func channelEnded(
        _ core: ChannelSession,
        _ error: AMQPError,
        _ unanswered: ChannelMachine.Requests.Unanswered,
        closers: [UInt32]
    ) throws(FrameFault) {
        core.driver.logger.debug(
            "channel ended",
            metadata: ["amqp.channel": "\(core.number.rawValue)", "reason": "\(error)"]
        )
        try self.settleConfirms(core.driver)
        // A get whose content was cut short waits too.
        let cutShort = core.assembling?.get?.waiter.map { [$0] } ?? []
        core.assembling?.pieces?.fail(error)
        core.assembling = nil
        var resumptions: [Resumption] = []
        core.withLock { channel, state in
            for token in unanswered.sent.compactMap(\.waiter) + cutShort {
                state.wake(token, .failed(error), into: &resumptions)
            }
            for token in unanswered.waiting.compactMap(\.waiter) {
                state.wake(token, .failed(error.withSafeRetry), into: &resumptions)
            }
            channel.end(error, &state, into: &resumptions)
            for token in closers { state.wake(token, .reply(.channelCloseOk(.init())), into: &resumptions) }
            state.sessions[Int(core.number.rawValue)] = nil
            state.numbers.release(core.number)
        }
        let index = Int(core.number.rawValue)
        if self.channels.indices.contains(index) { self.channels[index] = nil }
        core.endConsumers(.failed(error))
        for resumption in resumptions { resumption.resume() }
        core.withLock { channel, _ in channel.onEnd.take() }?()
    }
}
