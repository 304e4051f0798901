// SPDX-License-Identifier: Apache-2.0
package import AMQP091Wire

// ChannelStateMachine: one channel from channel.open to the end of its close (§2.2.5, §1.5), and its requests.
// Pure: no socket, clock, task or lock. The owner sends what an action names and resumes the waiters it is given.
// Not here: contents (ContentAssembler), confirms (ConfirmRing), settlements (AckRuns), the number (ChannelNumbers).
//
//   idle --open()--> opening --open-ok--> open --close()-------> closing --close-ok--> closed
//                        \_____________________\--channel.close--> closed   (answered with close-ok)
//   In closing and closed every frame is dropped, except close and close-ok.

/// The life of one channel and its requests.
package struct ChannelStateMachine<Waiter, Context> {
    package typealias Requests = RequestQueue<Waiter, Context>
    package typealias CloseReason = ConnectionStateMachine.CloseReason

    /// State of the channel.
    package enum Phase: Hashable, Sendable {
        case idle
        case opening
        case open
        case closing
        case closed
    }

    /// The owner's next step after a received method.
    package enum Action {
        /// The method is the reply to this request. The content of `basic.get-ok` is still to come.
        case replied(Requests.Request, Method)
        /// A delivery, a returned message or a confirm, handled by the owner.
        case pass(Method)
        /// Send `channel.flow-ok` with the same value; publish only while it is true.
        case flow(active: Bool)
        /// The broker cancelled the consumer. Send a `basic.cancel` with no-wait.
        case cancelledByBroker(consumerTag: String)
        /// Send `channel.close-ok`; fail the requests.
        case closedByBroker(CloseReason, Requests.Unanswered)
        /// Send `channel.close-ok`, and keep waiting for the reply to the client's own close.
        case sendCloseOk
        /// The client's close was answered: resume `closers` and fail the requests.
        case closed(closers: [Waiter], Requests.Unanswered)
        /// Close the connection.
        case violation(ReplyCode, String)
        case ignore
    }

    /// The owner's next step for a caller that closes.
    package enum CloseAction {
        /// Send `channel.close`; the waiter is resumed at `closed`.
        case send(Channel.Close)
        /// Close was already sent; the waiter is resumed with the others.
        case wait
        /// Already closed; resume the waiter.
        case alreadyClosed(Waiter?)
    }

    private var opening = false
    private var isOpened = false
    private var handshake = CloseHandshake<Waiter>()
    package var requests = Requests()

    package init() {}

    package var phase: Phase {
        if self.handshake.isClosed { return .closed }
        if !self.handshake.isOpen { return .closing }
        if self.isOpened { return .open }
        return self.opening ? .opening : .idle
    }

    /// True while requests and publishes may be appended.
    package var isOpen: Bool { self.isOpened && self.handshake.isOpen }

    /// Records that `channel.open` is sent; the waiter is resumed with `channel.open-ok`.
    ///
    /// - Returns: False if the channel was opened before; the waiter is not registered.
    package mutating func open(_ waiter: Waiter, context: Context) -> Bool {
        guard !self.opening else { return false }
        self.opening = true
        self.requests.send(.ordered(reply: Channel.OpenOk.id), waiter: waiter, context: context)
        return true
    }

    /// Begins the close by this side.
    package mutating func close(_ waiter: Waiter?, code: ReplyCode = .success, text: String = "") -> CloseAction {
        guard self.opening else {
            _ = self.handshake.abort()  // The broker never heard of this channel.
            return .alreadyClosed(waiter)
        }
        switch self.handshake.close(waiter) {
        case .sendClose:
            return .send(Channel.Close(replyCode: code, replyText: ShortText.cut(text), classID: 0, methodID: 0))
        case .wait:
            return .wait
        case .alreadyClosed(let waiter):
            return .alreadyClosed(waiter)
        }
    }

    /// Ends the channel: the connection was lost, or the wait for close-ok timed out.
    ///
    /// - Returns: All waiters: for the close, and for replies.
    package mutating func connectionLost() -> (closers: [Waiter], Requests.Unanswered) {
        (self.handshake.abort(), self.requests.removeAll())
    }

    /// Handles a received method.
    package mutating func received(_ method: Method) -> Action {
        switch method {
        case .channelClose(let close): return self.receivedClose(close)
        case .channelCloseOk: return self.receivedCloseOk()
        default: break
        }
        guard self.handshake.isOpen else { return .ignore }
        guard self.isOpened else { return self.receivedBeforeOpen(method) }
        switch method {
        case .basicDeliver, .basicReturn, .basicAck, .basicNack:
            return .pass(method)
        case .channelFlow(let flow):
            return .flow(active: flow.active)
        case .basicCancel(let cancel):
            return .cancelledByBroker(consumerTag: cancel.consumerTag)
        default:
            return self.receivedReply(method)
        }
    }

    private mutating func receivedBeforeOpen(_ method: Method) -> Action {
        guard case .channelOpenOk = method, self.opening else {
            return .violation(.channelError, "\(method.id) on a channel that is not open")
        }
        self.isOpened = true
        return self.receivedReply(method)
    }

    private mutating func receivedReply(_ method: Method) -> Action {
        if let request = self.requests.received(method) { return .replied(request, method) }
        switch method {
        case .basicConsumeOk(let ok):
            return .violation(.commandInvalid, "basic.consume-ok for consumer tag '\(ok.consumerTag)', not asked for")
        case .basicCancelOk(let ok):
            return .violation(.commandInvalid, "basic.cancel-ok for consumer tag '\(ok.consumerTag)', not asked for")
        default: return .violation(.commandInvalid, "\(method.id) was not expected")
        }
    }

    private mutating func receivedClose(_ close: Channel.Close) -> Action {
        guard self.opening else { return .violation(.channelError, "channel.close on a channel that is not open") }
        switch self.handshake.receivedClose() {
        case .ignore: return .ignore
        case .sendCloseOkAndWait: return .sendCloseOk
        case .sendCloseOk: break
        }
        let blamed = MethodID(classID: close.classID, methodID: close.methodID)
        let reason = CloseReason(
            code: close.replyCode,
            text: close.replyText,
            method: blamed.classID == 0 ? nil : blamed
        )
        return .closedByBroker(reason, self.requests.removeAll())
    }

    private mutating func receivedCloseOk() -> Action {
        switch self.handshake.receivedCloseOk() {
        case .resume(let closers): .closed(closers: closers, self.requests.removeAll())
        case .unexpected: .violation(.commandInvalid, "channel.close-ok without a close")
        case .ignore: .ignore
        }
    }
}

extension ChannelStateMachine: Sendable where Waiter: Sendable, Context: Sendable {}
extension ChannelStateMachine.Action: Sendable where Waiter: Sendable, Context: Sendable {}
extension ChannelStateMachine.Action: Equatable where Waiter: Equatable, Context: Equatable {}
extension ChannelStateMachine.CloseAction: Sendable where Waiter: Sendable {}
extension ChannelStateMachine.CloseAction: Equatable where Waiter: Equatable {}
