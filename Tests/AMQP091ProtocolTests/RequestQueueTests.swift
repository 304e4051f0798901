// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@testable import AMQP091Protocol

// RequestQueue as dialogue; waiters and contexts are numbers, equal for one request.

@Suite("Request queue")
struct RequestQueueTests {
    typealias Kind = RequestQueue<Int, Int>.Kind

    static let declare = Kind.ordered(reply: Queue.DeclareOk.id)
    static let bind = Kind.ordered(reply: Queue.BindOk.id)
    static let get = Kind.ordered(reply: Basic.GetOk.id, or: Basic.GetEmpty.id)
    static let commit = Kind.exclusive(reply: Tx.CommitOk.id)
    static let declareOk = Method.queueDeclareOk(.init(queue: "q"))
    static let bindOk = Method.queueBindOk(.init())
    static let commitOk = Method.txCommitOk(.init())

    static func consumeOk(_ tag: String) -> Method { .basicConsumeOk(.init(consumerTag: tag)) }
    static func cancelOk(_ tag: String) -> Method { .basicCancelOk(.init(consumerTag: tag)) }

    /// A queue and what its owner has sent and seen.
    struct Owner {
        var queue = RequestQueue<Int, Int>()
        var tickets: [Int: RequestQueue<Int, Int>.Ticket] = [:]
        var sent: [Int] = []
        var gone: Set<Int> = []

        mutating func ask(_ number: Int, _ kind: Kind) {
            if self.queue.maySend(kind) {
                self.queue.send(kind, waiter: number, context: number)
                self.sent.append(number)
            } else {
                self.tickets[number] = self.queue.wait(kind, waiter: number, context: number)
            }
        }

        /// The request that the method answers; nil for a violation.
        mutating func receive(_ method: Method) -> Int? {
            let request = self.queue.received(method)
            self.sendNext()
            return request?.context
        }

        mutating func sendNext() {
            while let next = self.queue.next(isGone: { self.gone.contains($0) }) { self.sent.append(next.context) }
        }

        mutating func withdraw(_ number: Int) -> Bool {
            guard let ticket = self.tickets[number] else { return false }
            return self.queue.withdraw(ticket) != nil
        }
    }

    @Test("A request is sent after the reply to the one before it")
    func turns() {
        var owner = Owner()
        owner.ask(1, Self.declare)
        owner.ask(2, Self.bind)
        owner.ask(3, Self.get)
        #expect(owner.sent == [1])
        let early = owner.receive(Self.bindOk)
        #expect(early == nil)
        let first = owner.receive(Self.declareOk)
        #expect(first == 1 && owner.sent == [1, 2])
        let second = owner.receive(Self.bindOk)
        #expect(second == 2 && owner.sent == [1, 2, 3])
        let third = owner.receive(.basicGetEmpty(.init()))
        #expect(third == 3 && owner.queue.isEmpty)
        let stray = owner.receive(.basicGetEmpty(.init()))
        #expect(stray == nil)
    }

    @Test("consume and cancel wait only for their own tag, and are answered in any order")
    func tags() {
        var owner = Owner()
        owner.ask(1, .consume(tag: "a"))
        owner.ask(2, Self.declare)
        owner.ask(3, .consume(tag: "b"))
        owner.ask(4, .cancel(tag: "a"))
        owner.ask(5, .cancel(tag: "b"))
        #expect(owner.sent == [1, 2, 3])
        let cancelled = owner.receive(Self.cancelOk("a"))
        #expect(cancelled == nil)
        let unknown = owner.receive(Self.consumeOk("c"))
        #expect(unknown == nil)
        let second = owner.receive(Self.declareOk)
        #expect(second == 2)
        let third = owner.receive(Self.consumeOk("b"))
        #expect(third == 3 && owner.sent == [1, 2, 3, 5])
        let first = owner.receive(Self.consumeOk("a"))
        #expect(first == 1 && owner.sent == [1, 2, 3, 5, 4])
        #expect(owner.queue.isCancelling("a") && owner.queue.isCancelling("b"))
        let ends = [owner.receive(Self.cancelOk("a")), owner.receive(Self.cancelOk("b"))]
        #expect(ends == [4, 5])
        #expect(owner.queue.isEmpty)
    }

    @Test("Nothing is sent during a commit, and a commit waits for requests that are answered in order")
    func commits() {
        var owner = Owner()
        owner.ask(1, .consume(tag: "a"))
        owner.ask(2, Self.declare)
        owner.ask(3, Self.commit)
        #expect(owner.sent == [1, 2] && !owner.queue.isExclusive)
        let second = owner.receive(Self.declareOk)
        #expect(second == 2 && owner.sent == [1, 2, 3] && owner.queue.isExclusive)
        owner.ask(4, Self.bind)
        owner.ask(5, .consume(tag: "b"))
        owner.ask(6, .cancel(tag: "a"))
        // Sent before the commit, and answered by another process.
        let first = owner.receive(Self.consumeOk("a"))
        #expect(first == 1 && owner.sent == [1, 2, 3])
        let third = owner.receive(Self.commitOk)
        #expect(third == 3 && owner.sent == [1, 2, 3, 4, 5, 6])
    }

    @Test("A waiting request is withdrawn, a sent one is kept until its reply")
    func withdraws() {
        var owner = Owner()
        owner.ask(1, Self.declare)
        owner.ask(2, Self.bind)
        owner.ask(3, Self.bind)
        let isWithdrawn = owner.withdraw(2)
        let again = owner.withdraw(2)
        let sent = owner.withdraw(1)
        #expect(isWithdrawn && !again && !sent)
        let first = owner.receive(Self.declareOk)
        #expect(first == 1 && owner.sent == [1, 3])
        let late = owner.withdraw(3)
        #expect(!late)
    }

    @Test("A request whose caller is about to withdraw it is not sent")
    func gone() {
        var owner = Owner()
        owner.ask(1, Self.declare)
        owner.ask(2, Self.bind)
        owner.ask(3, Self.bind)
        owner.gone = [2]
        _ = owner.receive(Self.declareOk)
        #expect(owner.sent == [1, 3])
        let isWithdrawn = owner.withdraw(2)
        #expect(isWithdrawn)
        let third = owner.receive(Self.bindOk)
        #expect(third == 3 && owner.queue.isEmpty)
    }

    @Test("A dropped request lets the next one be sent")
    func drops() {
        var owner = Owner()
        owner.ask(1, Self.commit)
        owner.ask(2, .cancel(tag: "a"))
        _ = owner.queue.received(Self.commitOk)
        let next = owner.queue.next(isGone: { _ in false })
        #expect(next?.context == 2)
        if let next { owner.queue.drop(next) }
        #expect(owner.queue.isEmpty)
    }

    @Test("At the end, sent and unsent requests are separated")
    func ends() {
        var owner = Owner()
        owner.ask(1, .consume(tag: "a"))
        owner.ask(2, Self.declare)
        owner.ask(3, Self.bind)
        owner.ask(4, .cancel(tag: "a"))
        let unanswered = owner.queue.removeAll()
        #expect(unanswered.sent.map(\.context) == [2, 1])
        #expect(unanswered.waiting.map(\.context) == [3, 4])
        #expect(owner.queue.isEmpty)
        let isLate = owner.withdraw(3)
        #expect(!isLate)
    }

    @Test("In any order of requests and replies each is answered once, by its own, one per tag and turn")
    func storm() {
        for seed in UInt64(1)...200 {
            var random = SeededGenerator(seed: seed)
            var owner = Owner()
            var unanswered: [Int: Kind] = [:]
            for number in 0..<60 {
                let tag = ["a", "b", "c"].randomElement(using: &random) ?? "a"
                let kinds: [Kind] = [Self.declare, Self.bind, Self.commit, .consume(tag: tag), .cancel(tag: tag)]
                let kind = kinds.randomElement(using: &random) ?? Self.bind
                unanswered[number] = kind
                owner.ask(number, kind)
                // The requests on the wire, and the replies that may come next.
                for _ in 0..<Int.random(in: 0...2, using: &random) { Self.answer(&owner, &unanswered, &random) }
            }
            while !unanswered.isEmpty { Self.answer(&owner, &unanswered, &random) }
            #expect(owner.queue.isEmpty)
            #expect(Set(owner.sent).count == 60 && owner.sent.count == 60)
        }
    }

    private static func answer(
        _ owner: inout Owner,
        _ unanswered: inout [Int: Kind],
        _ random: inout SeededGenerator
    ) {
        let onWire = owner.sent.filter { unanswered[$0] != nil }
        let ordered = onWire.filter { unanswered[$0]?.tag == nil }
        #expect(ordered.count <= 1)
        guard let number = onWire.randomElement(using: &random), let kind = unanswered.removeValue(forKey: number)
        else { return }
        let method =
            switch kind {
            case .consume(let tag): Self.consumeOk(tag)
            case .cancel(let tag): Self.cancelOk(tag)
            case Self.declare: Self.declareOk
            case Self.bind: Self.bindOk
            default: Self.commitOk
            }
        let answered = owner.receive(method)
        #expect(answered == number)
    }
}

extension RequestQueue.Kind {
    fileprivate var tag: String? {
        switch self {
        case .consume(let tag), .cancel(let tag): tag
        default: nil
        }
    }
}
