// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import SecretValues

// MachineTarget: the client's machines, driven as their owner drives them, by a peer that sends any method at any moment
// and an owner that calls anything. Waiters are numbers: each must be returned exactly once. The property tests drive
// the same with seeds.

enum MachineTarget {
    static func run(_ octets: [UInt8]) {
        var input = FuzzInput(octets)
        var dialogue = MachineDialogue()
        while !input.isAtEnd { dialogue.step(&input) }
        dialogue.end()
    }
}

/// One connection's machines and what must be true of them.
struct MachineDialogue {
    private typealias Machine = ChannelStateMachine<Int, Int>

    private struct Side {
        var machine = Machine()
        var tickets: [(ticket: Machine.Requests.Ticket, waiter: Int)] = []
        var confirms = ConfirmRing(capacity: 16, limit: 256)
        var acks = AckRuns(span: 64, limit: 1024)
        var assembler = ContentAssembler(maximumBodySize: 1 << 20)
        /// Publishes that must still end, by token.
        var publishes: Set<UInt32> = []
        /// Tags that were acknowledged and of which the broker was not told.
        var unsent: Set<UInt64> = []
        var decided: Set<UInt64> = []
    }

    private var connection: ConnectionStateMachine
    private var numbers = ChannelNumbers(maximum: 4)
    private var sides: [UInt16: Side] = [:]
    /// Waiters that were passed to a machine and not returned.
    private var waiting: Set<Int> = []
    private var nextWaiter = 0
    private var nextToken: UInt32 = 0
    private var isViolated = false

    init() {
        guard let tune = try? TuneNegotiation(channelMaximum: 4, frameMaximum: 8192, heartbeat: 10) else {
            fatalError("no tune")
        }
        self.connection = ConnectionStateMachine(
            .init(
                mechanisms: [.plain(user: "u", password: "p")],
                virtualHost: "/",
                clientProperties: [:],
                tune: tune
            )
        )
    }

    private mutating func waiter() -> Int {
        self.nextWaiter += 1
        self.waiting.insert(self.nextWaiter)
        return self.nextWaiter
    }

    private mutating func resume(_ waiter: Int?) {
        guard let waiter else { return }
        promise(self.waiting.remove(waiter) != nil, "waiter \(waiter) was resumed twice")
    }

    private mutating func resume(_ unanswered: Machine.Requests.Unanswered) {
        self.resume((unanswered.sent + unanswered.waiting).compactMap(\.waiter))
    }

    private mutating func resume(_ waiters: [Int]) { for waiter in waiters { self.resume(waiter) } }

    mutating func step(_ input: inout FuzzInput) {
        let order = input.octet()
        let number = UInt16(input.below(6))
        switch order & 15 {
        case 0: self.open()
        case 1, 2: self.request(number, &input)
        case 3: self.cancel(number, &input)
        case 4: self.close(number, &input)
        case 5, 6: self.publish(number, &input)
        case 7: self.settle(number, &input)
        case 8 where order >> 4 == 0: self.closeConnection()
        case 8: self.drain(number)
        case 9: self.receive(Self.answer(order, &input), number)
        case 10, 11, 12: self.receive(Self.method(&input), number)
        case 13: self.received(number) { $0.receivedHeader(bodySize: input.number(octets: input.below(4))) }
        case 14: self.received(number) { $0.receivedBody(count: Int(input.octet())) }
        default:
            let count = input.octet()
            if let method = try? Method.decode(input.take(Int(count)).span.bytes) { self.receive(method, number) }
        }
        self.check()
    }

    /// The link is gone: everybody who waits is told, once.
    mutating func end() {
        self.connection.linkLost()
        for number in self.sides.keys.sorted() {
            guard var side = self.sides.removeValue(forKey: number) else { continue }
            let (closers, unanswered) = side.machine.connectionLost()
            self.resume(closers)
            self.resume(unanswered)
            side.confirms.failAll { _, token in
                promise(side.publishes.remove(token) != nil, "publish \(token) ended twice")
            }
            promise(side.publishes.isEmpty, "publishes without an end: \(side.publishes)")
            promise(side.confirms.outstandingMessages == 0 && side.confirms.outstandingOctets == 0, "something is left")
        }
        promise(self.waiting.isEmpty, "nobody resumed \(self.waiting)")
        promise(self.connection.received(.connectionCloseOk(.init())) == .ignore, "a lost connection listens")
    }

    private func check() {
        for side in self.sides.values {
            promise(side.confirms.outstandingMessages == side.publishes.count, "publishes are miscounted")
            promise(side.confirms.lowest <= side.confirms.next, "a ring that is twisted")
            promise(side.acks.count == side.unsent.count, "acknowledgements are miscounted")
        }
        promise(self.sides.count <= 4 && self.numbers.count == self.sides.count, "more channels than agreed on")
    }

    // MARK: what the owner does

    private mutating func open() {
        guard self.connection.phase == .open, let number = self.numbers.allocate() else { return }
        var side = Side()
        let waiter = self.waiter()
        promise(side.machine.open(waiter, context: waiter), "a new channel was opened before")
        promise(self.sides.updateValue(side, forKey: number.rawValue) == nil, "channel \(number) was given out twice")
    }

    private mutating func request(_ number: UInt16, _ input: inout FuzzInput) {
        guard var side = self.sides[number], side.machine.isOpen else { return }
        let kinds: [Machine.Requests.Kind] = [
            .ordered(reply: Queue.DeclareOk.id), .ordered(reply: Queue.BindOk.id), .ordered(reply: Basic.QosOk.id),
            .consume(tag: "c"), .cancel(tag: "c"), .ordered(reply: Confirm.SelectOk.id),
            .ordered(reply: Basic.GetOk.id, or: Basic.GetEmpty.id), .exclusive(reply: Tx.CommitOk.id),
        ]
        let kind = kinds[input.below(kinds.count)]
        let waiter = self.waiter()
        if side.machine.requests.maySend(kind) {
            side.machine.requests.send(kind, waiter: waiter, context: waiter)
        } else {
            side.tickets.append((side.machine.requests.wait(kind, waiter: waiter, context: waiter), waiter))
        }
        self.sides[number] = side
    }

    private mutating func cancel(_ number: UInt16, _ input: inout FuzzInput) {
        guard let tickets = self.sides[number]?.tickets, !tickets.isEmpty else { return }
        let (ticket, waiter) = tickets[input.below(tickets.count)]
        let taken = self.sides[number]?.machine.requests.withdraw(ticket)?.waiter
        promise(taken == nil || taken == waiter, "another waiter was taken back")
        self.resume(taken)
    }

    private mutating func close(_ number: UInt16, _ input: inout FuzzInput) {
        guard self.sides[number] != nil else { return }
        let waiter = input.octet() & 1 == 0 ? nil : self.waiter()
        if case .alreadyClosed(let given)? = self.sides[number]?.machine.close(waiter) { self.resume(given) }
    }

    private mutating func closeConnection() {
        if case .send(let close) = self.connection.close() { promise(close.replyText.utf8.count <= 255, "a long text") }
    }

    private static func mark(_ exchange: String, _ routingKey: String, _ length: Int) -> MandatoryPublishes.Mark {
        MandatoryPublishes.Mark(exchange: exchange, routingKey: routingKey, bodyHash: UInt64(length))
    }

    private mutating func publish(_ number: UInt16, _ input: inout FuzzInput) {
        guard var side = self.sides[number], side.machine.isOpen, !side.confirms.isFull else { return }
        self.nextToken += 1
        let length = input.below(8)
        let sequence = side.confirms.append(octets: length, token: self.nextToken)
        side.publishes.insert(self.nextToken)
        if input.octet() & 1 == 1 {
            side.confirms.markMandatory(sequence, Self.mark("", "q", length), BasicProperties())
        }
        self.sides[number] = side
    }

    private mutating func settle(_ number: UInt16, _ input: inout FuzzInput) {
        guard var side = self.sides[number] else { return }
        let order = input.octet()
        let tag = input.number(octets: order & 64 == 0 ? 1 : 2)
        switch order & 3 {
        case 0, 1:
            let isTaken = side.acks.settle(tag)
            promise(!isTaken || side.decided.insert(tag).inserted, "tag \(tag) was settled twice")
            if isTaken { side.unsent.insert(tag) }
        case 2:
            let isTaken = side.acks.reject(tag)
            promise(!isTaken || side.decided.insert(tag).inserted, "tag \(tag) was settled twice")
        default:
            let before = side.acks.count
            let isTaken = side.acks.settle(upTo: tag)
            promise(isTaken == (side.acks.count > before), "settled \(tag) and those before it")
            guard isTaken else { break }
            for each in 1...tag where side.decided.insert(each).inserted { side.unsent.insert(each) }
        }
        self.sides[number] = side
    }

    /// The broker is sent exactly the acknowledged tags, each once.
    private mutating func drain(_ number: UInt16) {
        guard var side = self.sides[number] else { return }
        side.acks.drain { tag, multiple in
            promise(side.unsent.remove(tag) != nil, "the broker is told of \(tag) twice")
            guard multiple else { return }
            for each in side.unsent where each <= tag { side.unsent.remove(each) }
            promise((1...tag).allSatisfy(side.decided.contains), "the broker is told of what was not settled")
        }
        promise(side.unsent.isEmpty, "the broker is not told of \(side.unsent)")
        self.sides[number] = side
    }

    // MARK: what the peer does

    /// The methods of a peer that means well, so that a dialogue gets somewhere.
    private static func answer(_ order: UInt8, _ input: inout FuzzInput) -> Method {
        switch order >> 4 {
        case 0:
            .connectionStart(
                .init(
                    versionMajor: 0,
                    versionMinor: 9,
                    serverProperties: [:],
                    mechanisms: Array("PLAIN".utf8),
                    locales: Array("en_US".utf8)
                )
            )
        case 1: .connectionTune(.init(channelMax: 4, frameMax: 8192, heartbeat: 10))
        case 2: .connectionOpenOk(.init())
        case 3: .channelOpenOk(.init())
        case 4: .queueDeclareOk(.init(queue: "q", messageCount: 0, consumerCount: 0))
        case 5: .queueBindOk(.init())
        case 6: .basicQosOk(.init())
        case 7: .basicConsumeOk(.init(consumerTag: "c"))
        case 8: .confirmSelectOk(.init())
        case 9 where input.octet() & 1 == 0: .txCommitOk(.init())
        case 9: .basicGetEmpty(.init())
        case 10: .channelClose(.init(replyCode: .notFound, replyText: "no", classID: 0, methodID: 0))
        case 11: .channelCloseOk(.init())
        case 12: .basicAck(.init(deliveryTag: DeliveryTag(UInt64(input.octet())), multiple: true))
        case 13: .basicAck(.init(deliveryTag: DeliveryTag(UInt64(input.octet())), multiple: false))
        case 14: .basicReturn(.init(replyCode: .noRoute, replyText: "no", exchange: "", routingKey: "q"))
        default:
            .basicDeliver(
                .init(
                    consumerTag: "c",
                    deliveryTag: DeliveryTag(UInt64(input.octet())),
                    redelivered: false,
                    exchange: "",
                    routingKey: ""
                )
            )
        }
    }

    /// Any method at all, by class and number, with arguments from the input.
    private static func method(_ input: inout FuzzInput) -> Method {
        let classes: [UInt8] = [10, 20, 40, 50, 60, 85, 90]
        let head: [UInt8] = [0, classes[input.below(classes.count)], 0, input.octet()]
        var octets = head + input.take(input.below(32))
        // Short arguments are filled up: most methods can be read from zeros.
        for _ in 0..<24 {
            if let method = try? Method.decode(octets.span.bytes) { return method }
            octets.append(0)
        }
        return .channelCloseOk(.init())
    }

    private mutating func receive(_ method: Method, _ number: UInt16) {
        guard !self.isViolated else { return }
        guard number > 0 else { return self.perform(self.connection.received(method)) }
        guard var side = self.sides[number] else {
            // Frames for a resting number are dropped, frames for an unknown one end the connection.
            if self.numbers.standing(of: ChannelNumber(rawValue: number)) == .unknown { self.violate(.channelError) }
            return
        }
        let assembly = side.assembler.receivedMethod(method.id, carriesContent: method.hasContent)
        if case .violation(let code, _) = assembly { return self.violate(code) }
        let action = side.machine.received(method)
        self.sides[number] = side
        self.perform(action, number)
    }

    private mutating func received(_ number: UInt16, _ frame: (inout ContentAssembler) -> ContentAssembler.Action) {
        guard !self.isViolated, var side = self.sides[number] else { return }
        let action = frame(&side.assembler)
        self.sides[number] = side
        if case .violation(let code, _) = action { self.violate(code) }
    }

    private mutating func perform(_ action: ConnectionStateMachine.Action) {
        switch action {
        case .violation(let close):
            promise(close.replyText.utf8.count <= 255, "a text that does not fit")
            self.isViolated = true
        case .opened(let negotiated):
            promise(negotiated.frameMaximum >= 4096 && negotiated.channelMaximum >= 1, "limits of nothing")
        case .sendTuneOkAndOpen(let tuneOk, _, let negotiated):
            promise(tuneOk.frameMax == negotiated.frameMaximum, "another frame size than agreed on")
        case .fail, .closed, .sendCloseOkAndClose: self.isViolated = true
        default: break
        }
    }

    private mutating func violate(_ code: ReplyCode) {
        promise(code.isHard, "\(code) closes no connection")
        self.perform(self.connection.violate(code, "a violation"))
        self.isViolated = true
    }

    private mutating func perform(_ action: Machine.Action, _ number: UInt16) {
        switch action {
        case .replied(let request, _):
            promise(request.context == request.waiter, "another request was answered")
            self.resume(request.waiter)
            while let next = self.sides[number]?.machine.requests.next(isGone: { _ in false }) {
                promise(next.waiter.map(self.waiting.contains) ?? true, "a request of nobody is sent")
            }
        case .closedByBroker(_, let unanswered):
            self.resume(unanswered)
            self.forget(number)
        case .closed(let closers, let unanswered):
            self.resume(closers)
            self.resume(unanswered)
            self.forget(number)
        case .violation(let code, _): self.violate(code)
        case .pass(.basicAck(let ack)): self.confirm(number, ack.deliveryTag.rawValue, ack.multiple, .confirmed)
        case .pass(.basicNack(let nack)): self.confirm(number, nack.deliveryTag.rawValue, nack.multiple, .nacked)
        case .pass(.basicReturn(let back)):
            for length in 0..<8 {
                let found = self.sides[number]?.confirms.receivedReturn(
                    Self.mark(back.exchange, back.routingKey, length),
                    ReturnedProperties(nil),
                    code: back.replyCode,
                    text: back.replyText
                )
                if found ?? nil != nil { break }
            }
        default: break
        }
    }

    private mutating func confirm(_ number: UInt16, _ tag: UInt64, _ multiple: Bool, _ outcome: ConfirmRing.Outcome) {
        guard var side = self.sides[number] else { return }
        let next = side.confirms.next
        do {
            try side.confirms.settle(tag: tag, multiple: multiple, outcome: outcome) { _, token, _ in
                promise(side.publishes.remove(token) != nil, "publish \(token) ended twice")
            }
            promise(tag < next, "a confirm of the future was taken")
            self.sides[number] = side
        } catch {
            promise(tag >= next || tag == 0, "a confirm was refused")
            self.violate(.commandInvalid)
        }
    }

    /// The channel is closed on both sides; its number rests.
    private mutating func forget(_ number: UInt16) {
        guard var side = self.sides.removeValue(forKey: number) else { return }
        self.numbers.release(ChannelNumber(rawValue: number))
        side.confirms.failAll { _, token in
            promise(side.publishes.remove(token) != nil, "publish \(token) ended twice")
        }
        promise(side.publishes.isEmpty, "publishes without an end")
    }
}
