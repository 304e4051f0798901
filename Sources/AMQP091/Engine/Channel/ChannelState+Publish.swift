// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import EpollNetworking

// Publishes of a channel under the lock: numbered, registered and appended in one step; waits for room; how each has
// ended. Not here: who writes what was appended (ChannelSession+Publish), what a close says of them (PublishVerdict).

extension ChannelState {
    /// The result of an attempt to append a publish.
    enum Appended {
        /// Nothing else waits to be written or to be confirmed.
        case alone
        case behindOthers
        /// No room: wait in the window's queue or the connection's.
        case windowFull
        case noRoom
    }

    /// Numbers, registers and appends one publish, in one step; or says what it has to wait for.
    ///
    /// - Parameters:
    ///   - state: The connection's state.
    ///   - body: The body's octets.
    ///   - destination: The exchange and routing key to publish to.
    ///   - mandatory: True to have the broker return a message that is routed to no queue.
    ///   - properties: The properties.
    ///   - site: The line that publishes.
    ///   - token: The waiter of its confirm, 0 for none.
    /// - Returns: Whether it is done, or what to wait for.
    /// - Throws: `AMQPError` if an argument cannot be encoded or the channel is closed; nothing was appended.
    @inline(__always)
    mutating func publish(
        _ state: inout ConnectionState,
        body: UnsafeRawBufferPointer,
        destination: AMQPDestination,
        mandatory: Bool,
        properties: BasicProperties,
        site: CallSite,
        token: UInt32
    ) throws(AMQPError) -> Appended {
        guard self.maySend(state) else {
            state.counts.failToPublish()
            throw self.closed(state)
        }
        guard state.hasRoom, self.publishHold.isEmpty else { return .noRoom }
        guard self.confirms.hasRoom else { return .windowFull }
        let isAlone = self.confirms.isOn && state.outbound.fill.isEmpty && self.confirms.ring.outstandingMessages == 0
        do {
            try state.outbound.fill.appendPublish(
                channel: self.number.rawValue,
                exchange: destination.exchange,
                routingKey: destination.key,
                mandatory: mandatory,
                properties: properties,
                body: body,
                maximumPayload: state.maximumPayload
            )
        } catch {
            state.counts.failToPublish()
            throw .invalidArgument(error, publishingTo: destination, properties)
        }
        state.counts.publish(withConfirm: self.confirms.isOn)
        self.publishSites.note(site, exchange: destination.exchange)
        if self.confirms.isOn {
            let sequence = self.confirms.ring.append(octets: body.count, token: token)
            self.publishRuns.note(
                sequence,
                exchange: destination.exchange,
                properties: properties,
                site: site,
                lowest: self.confirms.ring.lowest
            )
            if mandatory {
                let mark = MandatoryPublishes.Mark(
                    exchange: destination.exchange,
                    routingKey: destination.routingKey,
                    bodyHash: OctetHash.of(body)
                )
                self.confirms.ring.markMandatory(sequence, mark, properties)
            }
        }
        return isAlone ? .alone : .behindOthers
    }

    /// Settles publishes and collects the tasks to wake.
    mutating func settle(
        _ confirm: ConfirmRecord,
        _ state: inout ConnectionState,
        into resumptions: inout [Resumption]
    ) throws(ConfirmRing.Violation) {
        guard !self.hasFailed, self.confirms.isOn else { return }
        let settled = try self.confirms.settle(tag: confirm.tag, multiple: confirm.multiple, isAck: confirm.isAck) {
            state.wake($0, WaitResult($1), into: &resumptions)
        }
        state.counts.settle(settled.count, nacked: settled.nacked)
    }
}

// MARK: - Room

extension ChannelState {
    /// Where a publisher waits for room, so that it can leave.
    enum RoomPlace {
        case window(WaitingLine<UInt32>.Ticket)
        case hold(WaitingLine<UInt32>.Ticket)
        case connection(OutboundQueue.Room.Ticket)
    }

    /// Waits for the confirm window.
    mutating func waitForWindow(_ token: UInt32) -> RoomPlace { .window(self.confirms.waitForRoom(token)) }

    /// Waits until the channel's hold ends, or else for the connection's write buffer.
    mutating func waitForRoom(_ token: UInt32, _ state: inout ConnectionState) -> RoomPlace {
        guard self.publishHold.isEmpty else { return .hold(self.heldPublishers.append(token)) }
        return .connection(state.outbound.waitForRoom(token, on: self.number))
    }

    /// A publisher gives up its place.
    mutating func stopWaiting(at place: RoomPlace?, _ state: inout ConnectionState) {
        switch place {
        case .window(let ticket)?: self.confirms.stopWaitingForRoom(ticket)
        case .hold(let ticket)?: _ = self.heldPublishers.remove(ticket)
        case .connection(let ticket)?: state.outbound.stopWaiting(ticket)
        case nil: break
        }
    }

    /// The reason for which publishers wait.
    func causeOfWait(_ state: borrowing ConnectionState) -> String {
        if let reason = state.blockedReason { return "the broker blocks publishers: \(reason)" }
        if self.publishHold.contains(.brokerFlow) {
            return "the broker stopped publishers on this channel (channel.flow)"
        }
        return self.confirms.hasRoom ? "the write buffer is full" : "the confirm window is full"
    }

    /// A reason to hold publishers is gone; they are woken if it was the last.
    mutating func release(
        _ hold: PublishHold,
        _ state: inout ConnectionState,
        into resumptions: inout [Resumption]
    ) {
        self.publishHold.remove(hold)
        guard self.publishHold.isEmpty else { return }
        while let token = self.heldPublishers.popFirst() { state.wake(token, .room, into: &resumptions) }
    }
}

// MARK: - Outcomes

extension ChannelState {
    /// The outcome of a publish made with a receipt, if it is known.
    ///
    /// - Parameters:
    ///   - sequence: The number of the publish.
    ///   - asOperation: Whether its caller continues on another channel when this one has ended.
    ///   - state: The connection's state.
    /// - Returns: The outcome; nil while it is not known.
    func knownOutcome(
        of sequence: UInt64,
        asOperation: Bool,
        _ state: borrowing ConnectionState
    ) -> AMQPPublishOutcome? {
        if let refusal = self.confirms.endings.receipts.refusal(sequence) { return AMQPPublishOutcome(refusal) }
        if self.confirms.isOutstanding(sequence) {
            return (self.failure ?? state.failure).map {
                self.endedOutcome(of: sequence, $0, asOperation: asOperation)
            }
        }
        guard sequence > self.confirms.endings.receipts.forgottenThrough else {
            return .unknown(
                AMQPError(.unknownOutcome, "more than \(ReceiptLedger.limit) refusals came before it was asked for")
            )
        }
        return .confirmed
    }

    /// How the publishes of the channel have ended, all at one moment.
    var confirmCounts: AMQPConfirmCounts {
        var counts = AMQPConfirmCounts()
        guard self.confirms.isOn else { return counts }
        counts.published = self.confirms.ring.next - 1
        counts.nacked = self.confirms.endings.nackedCount
        counts.returned = self.confirms.endings.returnedCount
        counts.refused = self.confirms.refusedCount
        counts.notProcessed = self.confirms.notProcessedCount
        counts.unknown = self.confirms.unknownCount
        counts.unconfirmed = UInt64(self.confirms.ring.outstandingMessages)
        counts.confirmed =
            counts.published - counts.nacked - counts.returned - counts.refused - counts.notProcessed
            - counts.unknown
            - counts.unconfirmed
        return counts
    }

    /// How the publishes stand; nil without confirms.
    var progress: ConnectionSession.PublishWatch.Progress? {
        guard self.confirms.isOn else { return nil }
        let outstanding = self.confirms.ring.outstandingMessages
        let settled = self.confirms.ring.next - 1 - UInt64(outstanding)
        return ConnectionSession.PublishWatch.Progress(
            oldest: outstanding > 0 ? self.confirms.ring.lowest : nil,
            hasConfirmed: settled > self.confirms.endings.nackedCount,
            nacked: self.confirms.endings.nackedCount
        )
    }
}
