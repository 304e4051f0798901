// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import Testing

// ChannelStateMachine as dialogue; waiters are numbers.

@Suite("Channel state machine")
struct ChannelStateMachineTests {
    typealias Machine = ChannelStateMachine<Int>

    static let openOk = Method.channelOpenOk(Channel.OpenOk())
    static let declareOk = Method.queueDeclareOk(Queue.DeclareOk(queue: "q", messageCount: 0, consumerCount: 0))
    static let close = Method.channelClose(
        Channel.Close(replyCode: .notFound, replyText: "no queue", classID: 50, methodID: 10)
    )
    static let closeOk = Method.channelCloseOk(Channel.CloseOk())
    static let ack = Method.basicAck(Basic.Ack(deliveryTag: DeliveryTag(rawValue: 1), multiple: false))
    static let reason = ConnectionStateMachine.CloseReason(
        code: .notFound,
        text: "no queue",
        method: MethodID(classID: 50, methodID: 10)
    )

    static func opened() -> Machine {
        var machine = Machine()
        _ = machine.open(0)
        _ = machine.received(Self.openOk)
        return machine
    }

    static func isViolation(_ action: Machine.Action, _ code: ReplyCode) -> Bool {
        guard case .violation(code, _) = action else { return false }
        return true
    }

    @Test("A channel opens, serves a request and closes")
    func life() {
        var machine = Machine()
        #expect(machine.phase == .idle)
        #expect(machine.expect(Queue.DeclareOk.id, waiter: 9) == nil)
        #expect(machine.open(1) != nil)
        #expect(machine.open(2) == nil)
        #expect(machine.phase == .opening)
        #expect(machine.received(Self.openOk) == .resume(1, Self.openOk))
        #expect(machine.isOpen)
        #expect(machine.expect(Queue.DeclareOk.id, waiter: 3) != nil)
        #expect(machine.received(Self.declareOk) == .resume(3, Self.declareOk))
        let bye = Channel.Close(replyCode: .success, replyText: "bye", classID: 0, methodID: 0)
        #expect(machine.close(4, text: "bye") == .send(bye))
        #expect(machine.close(5) == .wait)
        #expect(!machine.isOpen)
        #expect(machine.received(Self.ack) == .ignore)
        #expect(machine.received(Self.declareOk) == .ignore)
        #expect(machine.received(Self.closeOk) == .closed(closers: [4, 5], waiters: []))
        #expect(machine.phase == .closed)
        #expect(machine.received(Self.closeOk) == .ignore)
        #expect(machine.received(Self.close) == .ignore)
        #expect(machine.received(Self.ack) == .ignore)
        #expect(machine.close(6) == .alreadyClosed(6))
    }

    @Test("Contents and confirms pass, also while replies are awaited")
    func passes() {
        var machine = Self.opened()
        _ = machine.expect(Queue.DeclareOk.id, waiter: 1)
        #expect(machine.received(Self.ack) == .pass(Self.ack))
        #expect(machine.received(Self.declareOk) == .resume(1, Self.declareOk))
    }

    @Test("The broker's flow and cancel are told of")
    func flowAndCancel() {
        var machine = Self.opened()
        #expect(machine.received(.channelFlow(Channel.Flow(active: false))) == .flow(active: false))
        let cancel = Method.basicCancel(Basic.Cancel(consumerTag: "c"))
        #expect(machine.received(cancel) == .cancelledByBroker(consumerTag: "c"))
    }

    @Test("The broker's close fails every waiter, in the order they came")
    func brokerCloses() {
        var machine = Self.opened()
        for waiter in 1...3 { _ = machine.expect(Queue.DeclareOk.id, waiter: waiter) }
        #expect(machine.received(Self.close) == .closedByBroker(Self.reason, waiters: [1, 2, 3]))
        #expect(machine.phase == .closed)
        #expect(machine.received(Self.close) == .ignore)
        #expect(machine.expect(Queue.DeclareOk.id, waiter: 4) == nil)
    }

    @Test("The broker may refuse the open itself")
    func refusedOpen() {
        var machine = Machine()
        _ = machine.open(1)
        #expect(machine.received(Self.close) == .closedByBroker(Self.reason, waiters: [1]))
    }

    @Test("When both close at once each close is answered, and ours still waits")
    func bothClose() {
        var machine = Self.opened()
        _ = machine.expect(Queue.DeclareOk.id, waiter: 1)
        _ = machine.close(2)
        #expect(machine.received(Self.close) == .sendCloseOk)
        #expect(machine.phase == .closing)
        #expect(machine.received(Self.closeOk) == .closed(closers: [2], waiters: [1]))
    }

    @Test("A cancelled request swallows its reply")
    func cancelled() {
        var machine = Self.opened()
        guard let ticket = machine.expect(Queue.DeclareOk.id, waiter: 1) else {
            Issue.record("no ticket")
            return
        }
        #expect(machine.cancel(ticket) == 1)
        #expect(machine.received(Self.declareOk) == .swallow(Self.declareOk))
        #expect(machine.pendingReplies == 0)
    }

    @Test("Replies nobody expects, frames before open-ok, and close-ok without close are violations")
    func violations() {
        var machine = Machine()
        #expect(Self.isViolation(machine.received(Self.openOk), .channelError))
        #expect(Self.isViolation(machine.received(Self.close), .channelError))
        _ = machine.open(1)
        #expect(Self.isViolation(machine.received(Self.ack), .channelError))
        #expect(machine.received(Self.openOk) == .resume(1, Self.openOk))
        #expect(Self.isViolation(machine.received(Self.openOk), .commandInvalid))
        #expect(Self.isViolation(machine.received(Self.declareOk), .commandInvalid))
        #expect(Self.isViolation(machine.received(Self.closeOk), .commandInvalid))
        #expect(machine.isOpen)
    }

    @Test("A lost connection answers everyone who waited")
    func connectionLost() {
        var machine = Self.opened()
        _ = machine.expect(Queue.DeclareOk.id, waiter: 1)
        _ = machine.close(2)
        let lost = machine.connectionLost()
        #expect(lost.waiters == [1])
        #expect(lost.closers == [2])
        #expect(machine.phase == .closed)
    }

    @Test("A channel that was never opened closes without a word")
    func neverOpened() {
        var machine = Machine()
        #expect(machine.close(1) == .alreadyClosed(1))
        #expect(machine.phase == .closed)
    }
}
