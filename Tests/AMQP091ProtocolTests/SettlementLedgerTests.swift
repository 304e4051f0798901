// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import Testing

// SettlementLedger: dialogues written by hand, and seeded random ones against a broker that is as strict as RabbitMQ: it
// answers 406 to a tag it does not hold, with `multiple` too.

@Suite("Settlement ledger")
struct SettlementLedgerTests {
    typealias Frame = SettlementLedger.Frame
    typealias Verdict = SettlementLedger.Verdict

    /// A ledger whose frames are collected.
    struct Stage {
        var ledger = SettlementLedger()
        var frames: [Frame] = []

        mutating func ack(_ tag: UInt64) -> Bool { self.ledger.acknowledge(tag, multiple: false) != nil }
        mutating func ack(upTo tag: UInt64) -> Int { self.ledger.acknowledge(tag, multiple: true)?.count ?? 0 }
        mutating func nack(_ tag: UInt64, requeue: Bool = false) -> Bool {
            self.ledger.refuse(tag, .nack(requeue: requeue)) { self.frames.append($0) }
        }
        mutating func reject(_ tag: UInt64, requeue: Bool = false) -> Bool {
            self.ledger.refuse(tag, .reject(requeue: requeue)) { self.frames.append($0) }
        }
        mutating func nack(upTo tag: UInt64, requeue: Bool = false) -> Int {
            self.ledger.refuse(upTo: tag, requeue: requeue) { self.frames.append($0) }
        }
        mutating func flush() { self.ledger.drain { self.frames.append($0) } }
        mutating func committed() { _ = self.ledger.committed { self.frames.append($0) } }
        mutating func rolledBack() { _ = self.ledger.rolledBack { self.frames.append($0) } }

        /// The frames sent since the last check.
        mutating func sent() -> [Frame] {
            defer { self.frames = [] }
            return self.frames
        }
    }

    static let dropped = Verdict.nack(requeue: false)
    static let requeued = Verdict.nack(requeue: true)

    @Test("The first acknowledgement after a write adds the channel to those with something to send")
    func schedules() {
        var ledger = SettlementLedger()
        #expect(ledger.acknowledge(1, multiple: false)?.isFirst == true)
        #expect(ledger.acknowledge(3, multiple: true)?.isFirst == false)
        ledger.drain { _ in }
        #expect(ledger.acknowledge(4, multiple: false)?.isFirst == true)
        ledger.selecting()
        ledger.committing()
        ledger.drain { _ in }
        #expect(ledger.acknowledge(5, multiple: false)?.isFirst == true)
        ledger.drain { _ in }
        #expect(ledger.committed { _ in } == true)
        #expect(ledger.acknowledge(6, multiple: false)?.isFirst == false)
    }

    @Test("A nack with multiple follows the given acknowledgements, tag by tag, and no others")
    func multipleBehindAcks() {
        var stage = Stage()
        #expect(stage.ack(2) && stage.ack(3))
        #expect(stage.nack(upTo: 4) == 2)
        #expect(stage.sent() == [Frame(2, .ack), Frame(3, .ack), Frame(4, multiple: true, Self.dropped)])
        stage.flush()
        #expect(stage.sent() == [])
    }

    @Test("Acknowledgements before a nack with multiple are merged if nothing below them is unsettled")
    func mergedBeforeMultiple() {
        var stage = Stage()
        #expect(stage.ack(1) && stage.ack(2) && stage.ack(4))
        #expect(stage.nack(upTo: 5) == 2)
        #expect(
            stage.sent() == [
                Frame(2, multiple: true, .ack), Frame(4, .ack), Frame(5, multiple: true, Self.dropped),
            ]
        )
    }

    @Test("A nack with multiple names the highest unsettled delivery, not one the broker no longer holds")
    func namesWhatIsHeld() {
        var stage = Stage()
        #expect(stage.ack(5) == true)
        #expect(stage.nack(upTo: 5) == 4)
        #expect(stage.sent() == [Frame(5, .ack), Frame(4, multiple: true, Self.dropped)])
        #expect(stage.nack(upTo: 5) == 0)
        #expect(stage.ack(upTo: 5) == 0)
        #expect(stage.sent() == [])
    }

    @Test("A nack with multiple that covers one delivery is sent for it alone")
    func multipleOfOne() {
        var stage = Stage()
        #expect(stage.ack(1) && stage.ack(3))
        #expect(stage.nack(upTo: 3, requeue: true) == 1)
        #expect(stage.sent() == [Frame(1, .ack), Frame(3, .ack), Frame(2, Self.requeued)])
    }

    @Test("An acknowledgement with multiple covers unsettled deliveries, and is sent with the next flush")
    func ackMultiple() {
        var stage = Stage()
        #expect(stage.nack(2) == true)
        #expect(stage.ack(upTo: 4) == 3)
        #expect(stage.ack(upTo: 4) == 0)
        stage.flush()
        #expect(stage.sent() == [Frame(2, Self.dropped), Frame(4, multiple: true, .ack)])
    }

    @Test("Refusals keep their place among acknowledgements")
    func order() {
        var stage = Stage()
        #expect(stage.ack(1) && stage.nack(3) && stage.ack(2) && stage.reject(4, requeue: true) && stage.ack(5))
        stage.flush()
        #expect(
            stage.sent() == [
                Frame(1, .ack), Frame(3, Self.dropped), Frame(2, .ack), Frame(4, .reject(requeue: true)),
                Frame(5, .ack),
            ]
        )
    }

    @Test("A delivery is settled once, by the first call")
    func once() {
        var stage = Stage()
        #expect(stage.ack(1) && stage.nack(2) && stage.reject(3))
        for tag in 0...3 as ClosedRange<UInt64> {
            #expect(!stage.ack(tag) && !stage.nack(tag) && !stage.reject(tag))
        }
        #expect(stage.nack(upTo: 3) == 0)
        stage.ledger.markAutomatic(4)
        #expect(stage.ack(upTo: 4) == 0)
        #expect(stage.nack(upTo: .max) == 0)
        #expect(stage.ack(upTo: .max) == 0)
        #expect(stage.nack(.max) == false)
    }

    @Test("Settlements during a commit are sent after it, in order")
    func duringCommit() {
        var stage = Stage()
        stage.ledger.selecting()
        stage.ledger.committing()
        #expect(stage.ack(2) && stage.ack(3))
        #expect(stage.nack(upTo: 4) == 2)
        #expect(stage.ack(5) && stage.reject(6) && stage.ack(7))
        stage.flush()
        #expect(stage.sent() == [])
        stage.committed()
        #expect(
            stage.sent() == [
                Frame(2, .ack), Frame(3, .ack), Frame(4, multiple: true, Self.dropped), Frame(5, .ack),
                Frame(6, .reject(requeue: false)),
            ]
        )
        stage.flush()
        #expect(stage.sent() == [Frame(7, .ack)])
    }

    @Test("A rollback requeues the transaction's deliveries, frame by frame, before later settlements")
    func rollback() {
        var stage = Stage()
        #expect(stage.ack(1) == true)
        stage.flush()
        #expect(stage.sent() == [Frame(1, .ack)])
        stage.ledger.selecting()
        #expect(stage.ack(2) && stage.ack(3) && stage.nack(5))
        stage.flush()
        _ = stage.sent()
        stage.ledger.rollingBack()
        #expect(stage.ack(4) && stage.nack(6) && stage.ack(7))
        #expect(stage.sent() == [])
        stage.rolledBack()
        #expect(
            stage.sent() == [
                Frame(3, multiple: true, Self.requeued), Frame(5, Self.requeued), Frame(4, .ack),
                Frame(6, Self.dropped),
            ]
        )
        // A second rollback before the commit returns all of that again.
        stage.flush()
        _ = stage.sent()
        stage.ledger.rollingBack()
        stage.rolledBack()
        #expect(stage.sent().map(\.tag) == [3, 5, 4, 6, 7])
        stage.ledger.committing()
        stage.committed()
        stage.ledger.rollingBack()
        stage.rolledBack()
        #expect(stage.sent() == [])
    }

    @Test("During basic.recover nothing can be settled, and earlier deliveries are void")
    func recover() {
        var stage = Stage()
        #expect(stage.ack(2) == true)
        stage.flush()
        stage.ledger.recovering()
        #expect(!stage.ack(1) && !stage.nack(3) && !stage.reject(3))
        #expect(stage.ack(upTo: 3) == 0 && stage.nack(upTo: 3) == 0)
        stage.ledger.recovered(through: 4)
        #expect(!stage.ack(4) && !stage.nack(3))
        #expect(stage.ack(5) && stage.ack(6))
        stage.flush()
        #expect(stage.sent() == [Frame(2, .ack), Frame(6, multiple: true, .ack)])
    }

    @Test("A delivery that the client itself requeues during a recover is void with the others")
    func refusedDuringRecover() {
        var stage = Stage()
        stage.ledger.recovering()
        #expect(stage.nack(3) == false)
        stage.ledger.recovered(through: 2)
        #expect(stage.ack(3) == false)
        #expect(stage.ack(4) == true)
        #expect(stage.ledger.oldestOpen == 4)
    }

    // MARK: against a model of the broker

    /// A channel of RabbitMQ, as strict as it is.
    struct Broker {
        var isTransactional = false
        var held: Set<UInt64> = []
        var uncommitted: [(tag: UInt64, verdict: Verdict)] = []
        var ends: [UInt64: Verdict] = [:]
        /// The order in which deliveries were settled.
        var order: [UInt64] = []
        /// Settling now would fail.
        var isAway = false

        mutating func take(_ frame: Frame) {
            #expect(!self.isAway, "a settlement while the broker cannot take one")
            #expect(self.held.contains(frame.tag), "406 unknown delivery tag \(frame.tag)")
            let meant = frame.multiple ? self.held.filter { $0 <= frame.tag }.sorted() : [frame.tag]
            for tag in meant {
                self.held.remove(tag)
                if self.isTransactional {
                    self.uncommitted.append((tag, frame.verdict))
                } else {
                    self.end(tag, frame.verdict)
                }
            }
        }

        mutating func end(_ tag: UInt64, _ verdict: Verdict) {
            self.ends[tag] = verdict
            self.order.append(tag)
        }

        mutating func commit() {
            for (tag, verdict) in self.uncommitted { self.end(tag, verdict) }
            self.uncommitted = []
        }

        mutating func rollBack() {
            for (tag, _) in self.uncommitted { self.held.insert(tag) }
            self.uncommitted = []
        }

        mutating func recover() {
            for tag in self.held { self.end(tag, .nack(requeue: true)) }
            self.held = []
        }
    }

    /// The application, and what it was told.
    struct Dialogue {
        var random: SeededGenerator
        var broker = Broker()
        var ledger = SettlementLedger()
        var next: UInt64 = 1
        var open: Set<UInt64> = []
        /// The settlement of each delivery, and the number of earlier refusals.
        var said: [UInt64: Verdict] = [:]
        var epochs: [UInt64: Int] = [:]
        var epoch = 0
        /// Settled since the last commit.
        var pending: Set<UInt64> = []
        enum Wait { case none, commit, rollback, recover }
        var waiting = Wait.none
        /// `tx.commit` and the like have reached the broker.
        var hasReached = false

        init(seed: UInt64) { self.random = SeededGenerator(seed: seed) }

        private mutating func say(_ tag: UInt64, _ verdict: Verdict) {
            self.open.remove(tag)
            self.said[tag] = verdict
            self.epochs[tag] = self.epoch
            self.pending.insert(tag)
        }

        private mutating func flush() {
            self.ledger.drain { self.broker.take($0) }
        }

        private mutating func deliver() {
            for _ in 0..<Int.random(in: 1...6, using: &self.random) {
                if Int.random(in: 0..<12, using: &self.random) == 0 {
                    self.ledger.markAutomatic(self.next)
                } else {
                    self.open.insert(self.next)
                    self.broker.held.insert(self.next)
                }
                self.next += 1
            }
        }

        private mutating func settle() {
            guard self.next > 1 else { return }
            // Mostly a recent one that is open, at times any.
            let isOdd = Int.random(in: 0..<8, using: &self.random) == 0
            let tag =
                isOdd
                ? UInt64.random(in: 1..<self.next, using: &self.random)
                : self.open.sorted().prefix(30).randomElement(using: &self.random) ?? 1
            let requeue = Bool.random(using: &self.random)
            let isVoid = self.waiting == .recover
            let isOpen = self.open.contains(tag) && !isVoid
            let below = isVoid ? [] : self.open.filter { $0 <= tag }
            switch Int.random(in: 0..<12, using: &self.random) {
            case 0..<6:
                #expect((self.ledger.acknowledge(tag, multiple: false) != nil) == isOpen)
                if isOpen { self.say(tag, .ack) }
            case 6:
                let count = self.ledger.acknowledge(tag, multiple: true)?.count ?? 0
                #expect(count == below.count)
                for tag in below { self.say(tag, .ack) }
            case 7, 8:
                self.refuse(tag, .nack(requeue: requeue), isOpen: isOpen)
            case 9, 10:
                self.refuse(tag, .reject(requeue: requeue), isOpen: isOpen)
            default:
                let count = self.ledger.refuse(upTo: tag, requeue: requeue) { self.broker.take($0) }
                #expect(count == below.count)
                guard count > 0 else { return }
                self.epoch += 1
                for tag in below { self.say(tag, .nack(requeue: requeue)) }
                self.epoch += 1
            }
        }

        private mutating func refuse(_ tag: UInt64, _ verdict: Verdict, isOpen: Bool) {
            #expect(self.ledger.refuse(tag, verdict) { self.broker.take($0) } == isOpen)
            guard isOpen else { return }
            self.epoch += 1
            self.say(tag, verdict)
            self.epoch += 1
        }

        /// A request is sent, reaches the broker later, and is answered later still.
        private mutating func request() {
            switch self.waiting {
            case .none:
                self.flush()
                switch Int.random(in: 0..<6, using: &self.random) {
                case 0:
                    self.waiting = .recover
                    self.ledger.recovering()
                case 1...2 where self.broker.isTransactional:
                    self.waiting = .commit
                    self.ledger.committing()
                    self.broker.isAway = true
                    self.pending = []
                case 3 where self.broker.isTransactional:
                    self.waiting = .rollback
                    self.ledger.rollingBack()
                    self.broker.isAway = true
                    for tag in self.pending { self.said[tag] = .nack(requeue: true) }
                default: break
                }
            case .commit:
                self.broker.commit()
                self.broker.isAway = false
                self.waiting = .none
                _ = self.ledger.committed { self.broker.take($0) }
            case .rollback:
                self.broker.rollBack()
                self.broker.isAway = false
                self.waiting = .none
                _ = self.ledger.rolledBack { self.broker.take($0) }
            case .recover:
                // Deliveries that were on their way came first; all of them are void.
                let tags = self.open
                self.broker.recover()
                self.waiting = .none
                self.ledger.recovered(through: self.next - 1)
                for tag in tags {
                    self.say(tag, .nack(requeue: true))
                    self.pending.remove(tag)
                }
            }
        }

        mutating func run(steps: Int) {
            for step in 0..<steps {
                switch Int.random(in: 0..<20, using: &self.random) {
                case 0..<7: self.deliver()
                case 7..<17: self.settle()
                case 17, 18: self.flush()
                default: self.request()
                }
                if step == steps / 3, self.waiting == .none, Bool.random(using: &self.random) {
                    self.flush()
                    self.broker.isTransactional = true
                    self.ledger.selecting()
                    self.pending = []
                }
            }
            while self.waiting != .none { self.request() }
            self.flush()
            self.broker.commit()
        }
    }

    @Test("In random dialogues the broker's account equals the application's, delivery by delivery", arguments: 0..<200)
    func model(seed: Int) {
        var dialogue = Dialogue(seed: UInt64(seed))
        dialogue.run(steps: 1500)
        #expect(dialogue.broker.ends == dialogue.said)
        #expect(dialogue.broker.held == dialogue.open)
        guard !dialogue.broker.isTransactional else { return }
        // Acknowledgements may pass each other, but no refusal.
        let voided = dialogue.broker.ends.filter { dialogue.epochs[$0.key] == nil }
        #expect(voided.isEmpty)
    }

    @Test("Refusals and acknowledgements keep their order", arguments: 0..<50)
    func keepsOrder(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed))
        var stage = Stage()
        var said: [UInt64: Int] = [:]
        var epoch = 0
        var open = Array(1...500 as ClosedRange<UInt64>)
        while !open.isEmpty {
            let tag = open.remove(at: Int.random(in: 0..<min(9, open.count), using: &random))
            switch Int.random(in: 0..<6, using: &random) {
            case 0:
                epoch += 1
                #expect(stage.nack(tag) == true)
                said[tag] = epoch
                epoch += 1
            case 1: stage.flush(); fallthrough
            default:
                #expect(stage.ack(tag) == true)
                said[tag] = epoch
            }
        }
        stage.flush()
        var held = Set(1...500 as ClosedRange<UInt64>)
        var last = 0
        for frame in stage.sent() {
            let meant = frame.multiple ? held.filter { $0 <= frame.tag } : [frame.tag]
            #expect(meant.allSatisfy { said[$0] ?? 0 >= last })
            last = max(last, meant.compactMap { said[$0] }.max() ?? 0)
            held.subtract(meant)
        }
        #expect(held.isEmpty)
    }
}
