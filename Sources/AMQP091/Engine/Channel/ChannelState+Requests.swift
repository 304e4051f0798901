// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking
#if DELIBERATE_FAULTS
    import EpollConcurrency
#endif

// Requests and settlements of a channel under the lock: what is appended, what waits for its turn, and what a reply does
// to the two. Not here: whose turn it is (RequestQueue), which tags are settled and what waits (SettlementLedger), the
// calls that wait for replies (ChannelSession).

// MARK: - Requests

extension ChannelState {
    /// Sends a request, or has it wait for its turn.
    ///
    /// - Returns: Its place among those that wait; nil when it was sent.
    mutating func enqueue(
        _ method: Method,
        _ kind: ChannelMachine.Requests.Kind,
        _ purpose: RequestPurpose,
        waiter: UInt32?,
        _ state: inout ConnectionState
    ) throws(AMQPError) -> ChannelMachine.Requests.Ticket? {
        // Acknowledgements go out before: the broker's answer may be to close the channel, and then they would not count.
        if self.settlements.isScheduled { self.appendAcks(to: &state.outbound.fill) }
        let start = state.outbound.fill.count
        do throws(WireError) {
            try method.encodeFrame(
                channel: self.number,
                into: &state.outbound.fill,
                maximumFrameSize: state.maximumPayload + Frame.overhead
            )
        } catch {
            state.outbound.fill.truncate(to: start)
            throw .invalidArgument(error, in: method)
        }
        if case .consume(let inbox) = purpose { self.consumerTags.insert(inbox.consumerTag) }
        if self.machine.requests.maySend(kind) {
            self.machine.requests.send(kind, waiter: waiter, context: ChannelRequest(purpose: purpose))
            self.sent(purpose)
            return nil
        }
        let frame = state.outbound.fill.withUnsafeBytes { Array($0[start...]) }
        state.outbound.fill.truncate(to: start)
        return self.machine.requests.wait(
            kind,
            waiter: waiter,
            context: ChannelRequest(purpose: purpose, frame: frame)
        )
    }

    /// Writes the requests whose turn has come, after anything that ended the turn of another.
    mutating func sendWaitingRequests(_ state: inout ConnectionState) -> CallerStep {
        guard self.maySend(state) else { return .none }
        var next = CallerStep.none
        while let request = self.machine.requests.next(isGone: { state.waiters.isTombstone($0) }) {
            let purpose = request.context.purpose
            if case .cancel(let inbox) = purpose, inbox.isFinished || inbox.isCancelledByBroker {
                // It ended while its cancel waited; another consumer may have its tag by now.
                self.machine.requests.drop(request)
                next = state.resumeSoon(
                    request.waiter,
                    .reply(.basicCancelOk(.init(consumerTag: inbox.consumerTag)))
                )
                continue
            }
            if let refusal = self.refusal(of: purpose, isNew: false) {
                self.machine.requests.drop(request)
                next = state.resumeSoon(request.waiter, .failed(refusal))
                continue
            }
            if self.settlements.isScheduled { self.appendAcks(to: &state.outbound.fill) }
            state.outbound.fill.append(octets: request.context.frame.span.bytes)
            self.sent(purpose)
            next = state.outbound.scheduleFlush()
        }
        return next
    }

    /// Why a request must not be sent: the broker would close the channel, or the connection.
    func refusal(of purpose: RequestPurpose, isNew: Bool) -> AMQPError? {
        switch purpose {
        case .consume(let inbox) where isNew && self.consumerTags.contains(inbox.consumerTag):
            AMQPError(
                .invalidArgument,
                "consumerTag \(inbox.consumerTag) is in use on channel \(self.number.rawValue)",
                isSafeToRetry: true
            )
        case .enableConfirms where self.isTransactional: Self.hasTransactions
        case .beginTransaction where self.confirms.isOn: Self.hasConfirms
        default: nil
        }
    }

    /// A request was written.
    private mutating func sent(_ purpose: RequestPurpose) {
        switch purpose {
        case .consume(let inbox): self.startingConsumers[inbox.consumerTag] = inbox
        case .recover: self.settlements.recovering()
        case .beginTransaction:
            self.isTransactional = true
            self.settlements.selecting()
        case .commit:
            self.isInTransaction = false
            self.settlements.committing()
            self.publishHold.insert(.commit)
        case .rollBack: self.settlements.rollingBack()
        case .enableConfirms(let window, let octets):
            // The broker counts the publishes behind this method, not those behind its answer.
            self.confirms.enable(windowMessages: window, windowOctets: octets)
        case .cancel(let inbox): inbox.beginCancel()
        case .plain, .get: break
        }
    }

    /// The caller of a request gives up.
    ///
    /// - Returns: True when the request had not been sent, and will not be.
    mutating func withdraw(
        _ place: ChannelMachine.Requests.Ticket?,
        _ token: UInt32,
        _ purpose: RequestPurpose,
        _ state: inout ConnectionState
    ) -> Bool {
        guard let place, self.machine.requests.withdraw(place) != nil else { return false }
        if case .consume(let inbox) = purpose { self.consumerTags.remove(inbox.consumerTag) }
        // Its deadline may have passed before the reply that would have been its turn.
        if state.waiters.isTombstone(token) { _ = state.waiters.finish(token) }
        return true
    }

    /// Sends `channel.close`, or joins those who wait for its answer.
    mutating func close(_ token: UInt32, _ state: inout ConnectionState) -> CallerStep {
        self.appendAcks(to: &state.outbound.fill)
        switch self.withMachine({ $0.close(token) }) {
        case .send(let close):
            for request in self.machine.requests.takeWaiting() {
                _ = state.resumeSoon(request.waiter, .failed(Self.closing))
            }
            // 200 and an empty text: encoding it cannot fail.
            self.append(.channelClose(close), &state)
            return state.outbound.scheduleFlush()
        case .wait: return .none
        case .alreadyClosed: return state.resumeSoon(token, .room)
        }
    }

    /// Answers the broker's `basic.cancel`; during a commit, after its end.
    mutating func answerCancel(of tag: String, _ state: inout ConnectionState) -> CallerStep {
        // A cancel of our own that is under way is an answer too.
        guard !self.machine.requests.isCancelling(tag) else { return .none }
        guard !self.machine.requests.isExclusive else {
            // Only consumers that there are: their number is the bound.
            if self.consumerTags.contains(tag) { self.owedAnswers.cancelledByBroker(tag) }
            return .none
        }
        self.append(.basicCancel(.init(consumerTag: tag, noWait: true)), &state)
        return state.outbound.scheduleFlush()
    }

    /// `channel.flow`: stops or resumes publishers and answers; during a commit, answers after its end.
    mutating func receivedFlow(
        _ active: Bool,
        _ state: inout ConnectionState,
        into resumptions: inout [Resumption]
    ) -> CallerStep {
        if active {
            self.release(.brokerFlow, &state, into: &resumptions)
        } else {
            self.publishHold.insert(.brokerFlow)
        }
        guard !self.machine.requests.isExclusive else {
            self.owedAnswers.receivedFlow(active: active)
            return .none
        }
        self.append(.channelFlowOk(.init(active: active)), &state)
        return state.outbound.scheduleFlush()
    }

    static let hasTransactions = AMQPError(
        .invalidArgument,
        "the channel has run a transaction; a channel has confirms or transactions, not both",
        isSafeToRetry: true
    )

    static let hasConfirms = AMQPError(
        .invalidArgument,
        "the channel has confirms; a channel has confirms or transactions, not both",
        isSafeToRetry: true
    )
}

// MARK: - Settlements

extension ChannelState {
    /// Merges what was acknowledged into as few `basic.ack` as the tags allow.
    mutating func appendAcks(to buffer: inout WireBuffer) {
        guard !self.hasFailed else { return self.settlements.unschedule() }
        let number = self.number
        self.settlements.drain { buffer.append($0, channel: number) }
    }

    /// Refuses one delivery, or all up to it.
    ///
    /// - Returns: How many; 0 when there was none.
    mutating func refuse(
        _ tag: UInt64,
        multiple: Bool,
        requeue: Bool,
        isRejection: Bool,
        to buffer: inout WireBuffer
    ) -> Int {
        let number = self.number
        #if DELIBERATE_FAULTS
            let requeue = requeue && !DeliberateFault.happens(.requeueForgotten)
        #endif
        if multiple {
            return self.settlements.refuse(upTo: tag, requeue: requeue) { buffer.append($0, channel: number) }
        }
        let verdict: SettlementLedger.Verdict = isRejection ? .reject(requeue: requeue) : .nack(requeue: requeue)
        return self.settlements.refuse(tag, verdict) {
            buffer.append($0, channel: number)
            #if DELIBERATE_FAULTS
                if DeliberateFault.happens(.refusedTwice) { buffer.append($0, channel: number) }
            #endif
        } ? 1 : 0
    }

    /// `tx.commit-ok`: what was held back goes out.
    ///
    /// - Returns: True when acknowledgements wait for the next write.
    mutating func committed(_ state: inout ConnectionState, into resumptions: inout [Resumption]) -> Bool {
        for method in self.owedAnswers.takeAll() { self.append(method, &state) }
        self.release(.commit, &state, into: &resumptions)
        let number = self.number
        return self.settlements.committed { state.outbound.fill.append($0, channel: number) }
    }

    /// `tx.rollback-ok`: returns the deliveries that were settled to their queues, with the next commit.
    ///
    /// To the broker they are unsettled again, to the application they are not. What was settled meanwhile follows.
    ///
    /// - Returns: True when acknowledgements wait for the next write.
    mutating func rolledBack(_ state: inout ConnectionState) -> Bool {
        let number = self.number
        let isFirst = self.settlements.rolledBack { state.outbound.fill.append($0, channel: number) }
        if !self.settlements.hasUncommitted { self.isInTransaction = false }
        return isFirst
    }

    /// The broker has cancelled the consumer, probably for its timeout: what was not settled by now is its own again.
    ///
    /// - Parameters:
    ///   - inbox: The consumer's inbox.
    ///   - lastTag: The highest delivery tag so far.
    ///   - error: The error of settling one of its deliveries.
    ///   - state: The connection's state.
    mutating func becameLate(
        _ inbox: ConsumerInbox,
        lastTag: UInt64,
        _ error: AMQPError,
        _ state: borrowing ConnectionState
    ) {
        guard !state.queuesWithoutTimeout.contains(inbox.queue) else { return }
        let oldest = self.settlements.oldestOpen
        self.lateConsumers = self.lateConsumers.filter { $0.value.lastTag >= oldest }
        self.lateConsumers[inbox.consumerTag] = LateConsumer(lastTag: lastTag, error: error)
    }
}

extension WireBuffer {
    /// Appends a `basic.ack`, `basic.nack` or `basic.reject`.
    mutating func append(_ settlement: SettlementLedger.Frame, channel: ChannelNumber) {
        let method: Method
        let tag = DeliveryTag(rawValue: settlement.tag)
        switch settlement.verdict {
        case .ack:
            // 21 octets: frame header, 60 80, tag, bit, frame end.
            self.append(1 as UInt8)
            self.appendUInt16(channel.rawValue)
            self.appendUInt32(13)
            self.appendUInt32(60 << 16 | 80)
            self.appendUInt64(settlement.tag)
            self.append((settlement.multiple ? 1 : 0) as UInt8)
            self.append(0xCE as UInt8)
            return
        case .nack(let requeue):
            method = .basicNack(.init(deliveryTag: tag, multiple: settlement.multiple, requeue: requeue))
        case .reject(let requeue):
            method = .basicReject(.init(deliveryTag: tag, requeue: requeue))
        }
        // A number and two bits: encoding it cannot fail.
        try? method.encodeFrame(channel: channel, into: &self)
    }
}
