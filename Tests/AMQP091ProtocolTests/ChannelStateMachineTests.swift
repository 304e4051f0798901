// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@testable import AMQP091Protocol

// ChannelStateMachine as dialogue; waiters are numbers.

@Suite("Channel state machine")
struct ChannelStateMachineTests {
    typealias Machine = ChannelStateMachine<Int, String>
    typealias Unanswered = Machine.Requests.Unanswered

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
        _ = machine.open(0, context: "")
        _ = machine.received(Self.openOk)
        return machine
    }

    /// Sends a request.
    static func ask(_ machine: inout Machine, _ waiter: Int, _ kind: Machine.Requests.Kind = declare) {
        #expect(machine.requests.maySend(kind))
        machine.requests.send(kind, waiter: waiter, context: "")
    }

    static func request(_ waiter: Int, _ kind: Machine.Requests.Kind = declare) -> Machine.Requests.Request {
        Machine.Requests.Request(kind: kind, waiter: waiter, context: "")
    }

    static let declare = Machine.Requests.Kind.ordered(reply: Queue.DeclareOk.id)
    static let open = Machine.Requests.Kind.ordered(reply: Channel.OpenOk.id)

    static func isViolation(_ action: Machine.Action, _ code: ReplyCode) -> Bool {
        guard case .violation(code, _) = action else { return false }
        return true
    }

    @Test("A channel opens, serves a request and closes")
    func life() {
        var machine = Machine()
        #expect(machine.phase == .idle)
        let opens = [machine.open(1, context: ""), machine.open(2, context: "")]
        #expect(opens == [true, false])
        #expect(machine.phase == .opening)
        #expect(machine.received(Self.openOk) == .replied(Self.request(1, Self.open), Self.openOk))
        #expect(machine.isOpen)
        Self.ask(&machine, 3)
        #expect(machine.received(Self.declareOk) == .replied(Self.request(3), Self.declareOk))
        let bye = Channel.Close(replyCode: .success, replyText: "bye", classID: 0, methodID: 0)
        #expect(machine.close(4, text: "bye") == .send(bye))
        #expect(machine.close(5) == .wait)
        #expect(!machine.isOpen)
        #expect(machine.received(Self.ack) == .ignore)
        #expect(machine.received(Self.declareOk) == .ignore)
        #expect(machine.received(Self.closeOk) == .closed(closers: [4, 5], Unanswered()))
        #expect(machine.phase == .closed)
        #expect(machine.received(Self.closeOk) == .ignore)
        #expect(machine.received(Self.close) == .ignore)
        #expect(machine.received(Self.ack) == .ignore)
        #expect(machine.close(6) == .alreadyClosed(6))
    }

    @Test("Contents and confirms pass while replies are pending")
    func passes() {
        var machine = Self.opened()
        Self.ask(&machine, 1)
        #expect(machine.received(Self.ack) == .pass(Self.ack))
        #expect(machine.received(Self.declareOk) == .replied(Self.request(1), Self.declareOk))
    }

    @Test("The broker's flow and cancel are reported")
    func flowAndCancel() {
        var machine = Self.opened()
        #expect(machine.received(.channelFlow(Channel.Flow(active: false))) == .flow(active: false))
        let cancel = Method.basicCancel(Basic.Cancel(consumerTag: "c"))
        #expect(machine.received(cancel) == .cancelledByBroker(consumerTag: "c"))
    }

    @Test("The broker's close fails every request, and separates sent from unsent ones")
    func brokerCloses() {
        var machine = Self.opened()
        Self.ask(&machine, 1)
        _ = machine.requests.wait(Self.declare, waiter: 2, context: "")
        let unanswered = Unanswered(sent: [Self.request(1)], waiting: [Self.request(2)])
        #expect(machine.received(Self.close) == .closedByBroker(Self.reason, unanswered))
        #expect(machine.phase == .closed)
        #expect(machine.received(Self.close) == .ignore)
        #expect(!machine.isOpen && machine.requests.isEmpty)
    }

    @Test("The broker may refuse channel.open")
    func refusedOpen() {
        var machine = Machine()
        _ = machine.open(1, context: "")
        let unanswered = Unanswered(sent: [Self.request(1, Self.open)])
        #expect(machine.received(Self.close) == .closedByBroker(Self.reason, unanswered))
    }

    @Test("If both sides close at once, each close is answered, and the client still waits for close-ok")
    func bothClose() {
        var machine = Self.opened()
        Self.ask(&machine, 1)
        _ = machine.close(2)
        #expect(machine.received(Self.close) == .sendCloseOk)
        #expect(machine.phase == .closing)
        #expect(machine.received(Self.closeOk) == .closed(closers: [2], Unanswered(sent: [Self.request(1)])))
    }

    @Test("consume-ok with an unknown tag is a violation that names it")
    func otherTag() {
        var machine = Self.opened()
        Self.ask(&machine, 1, .consume(tag: "mine"))
        let other = Method.basicConsumeOk(Basic.ConsumeOk(consumerTag: "other"))
        guard case .violation(.commandInvalid, let text) = machine.received(other) else {
            Issue.record("no violation")
            return
        }
        #expect(text.contains("'other'"))
    }

    @Test("Unexpected replies, frames before open-ok, and close-ok without close are violations")
    func violations() {
        var machine = Machine()
        #expect(Self.isViolation(machine.received(Self.openOk), .channelError))
        #expect(Self.isViolation(machine.received(Self.close), .channelError))
        _ = machine.open(1, context: "")
        #expect(Self.isViolation(machine.received(Self.ack), .channelError))
        #expect(machine.received(Self.openOk) == .replied(Self.request(1, Self.open), Self.openOk))
        #expect(Self.isViolation(machine.received(Self.openOk), .commandInvalid))
        #expect(Self.isViolation(machine.received(Self.declareOk), .commandInvalid))
        #expect(Self.isViolation(machine.received(Self.closeOk), .commandInvalid))
        #expect(machine.isOpen)
    }

    @Test("A lost connection resumes every waiter")
    func connectionLost() {
        var machine = Self.opened()
        Self.ask(&machine, 1)
        _ = machine.close(2)
        let lost = machine.connectionLost()
        #expect(lost.1 == Unanswered(sent: [Self.request(1)]))
        #expect(lost.closers == [2])
        #expect(machine.phase == .closed)
    }

    @Test("A channel that was never opened closes without sending anything")
    func neverOpened() {
        var machine = Machine()
        #expect(machine.close(1) == .alreadyClosed(1))
        #expect(machine.phase == .closed)
    }
}
