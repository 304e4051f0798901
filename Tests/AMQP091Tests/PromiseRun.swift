// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollConcurrency
import EpollNetworking
import Testing

// PromiseRun: one run of the model of the client's first promise (PromiseTests): a publisher, perhaps a consumer, some
// messages, some endings; then the account.

struct PromiseRun {
    /// The kind of a message, which decides its possible outcomes.
    enum Kind: CaseIterable {
        case good, event, unroutable, oversized
        /// The broker closes the channel for these.
        case missingExchange, internalExchange, badUserID, badHeader, directReply, tooLarge
        /// The client refuses this one.
        case unencodable

        /// Whether it reaches the queue when it is confirmed.
        var isDelivered: Bool { self == .good || self == .event || self == .oversized }
    }

    struct Item {
        var body: String
        var kind: Kind
        var receipt: AMQPPublishReceipt?
        var outcome: AMQPPublishOutcome?
        var isSend = false
        /// The queue was deleted since, and with it what was in it.
        var mayBeDeleted = false
    }

    let seed: UInt64
    let broker: InProcessBroker
    let proxy: FaultProxy?
    let client: AMQPClient
    let reader: AMQPChannel
    var random: SeededRandom
    var items: [Item] = []
    /// Accepted sends, which nobody has a receipt of.
    var sends = 0
    var isKept = true
    let timeout = Duration.seconds(10)
    /// Confirms are held back.
    var isHeld = false
    var hasOutbox = false
    /// Messages of the outbox that were not confirmed, of which an earlier copy may have arrived.
    var uncertain = 0
    var consumer: PromiseConsumer?
    /// Damaged links so far: a consumer gives up after ten in a minute.
    var violations = 0

    init(seed: UInt64, broker: InProcessBroker, proxy: FaultProxy?, client: AMQPClient, reader: AMQPChannel) {
        self.seed = seed
        self.broker = broker
        self.proxy = proxy
        self.client = client
        self.reader = reader
        self.random = SeededRandom(state: seed)
    }

    /// The first word of a body names it.
    static func name(_ body: String) -> String { String(body.prefix { $0 != " " }) }

    mutating func expect(_ isTrue: Bool, _ text: @autoclosure () -> String) {
        guard !isTrue else { return }
        self.isKept = false
        Issue.record("seed \(self.seed): \(text())")
    }

    mutating func run() async throws {
        try await self.reader.declare(PromiseTests.topology)
        self.hasOutbox = self.random.next(3) > 0
        let publisher = try self.client.openPublisher(
            maxInFlight: [1, 4, 1024][self.random.next(3)],
            outbox: self.hasOutbox ? .octets([600, 3000, 1 << 20][self.random.next(3)]) : .none
        )
        let styles = PromiseConsumer.Style.allCases
        if self.random.next(2) == 0 {
            self.consumer = PromiseConsumer(self.client, styles[self.random.next(styles.count)])
        }
        let consuming = Task<Void, Never> { [consumer] in await consumer?.run() }
        for _ in 0..<(2 + self.random.next(10)) {
            if self.random.next(3) == 0 { try await self.disturb() }
            let start = ContinuousClock.now
            await self.publish(publisher)
            self.expect(ContinuousClock.now - start < self.timeout + .seconds(5), "a call outlived its deadline")
        }
        await self.release()
        self.proxy?.set(.none)
        try await self.end(publisher)
        await self.broker.cancelMethodOrders()
        await self.release()
        try await self.settle(consuming)
    }

    // MARK: endings

    /// Something ends, now or with one of the next methods.
    private mutating func disturb() async throws {
        let publish = Basic.Publish.id
        switch self.random.next(self.proxy == nil ? 20 : 22) {
        case 0: await self.broker.onNext(publish, .refuse(.resourceError, "alarm"))
        case 1: await self.broker.onNext(publish, .drop(.before))
        case 2: await self.broker.onNext(publish, .drop(.during))
        case 3: await self.broker.onNext(publish, .drop(.after))
        case 4: await self.broker.onNext(publish, .refuse(.preconditionFailed, "something"))
        case 5: await self.broker.onNext(publish, .refuse(.internalError, "something"))
        case 6: await self.broker.onNext(publish, .refuse(.connectionForced, "shutdown"))
        case 7: await self.broker.onNext(publish, .delay(.milliseconds(2)))
        case 8: await self.broker.confirm(.nackNext(1 + self.random.next(2)))
        case 9:
            await self.broker.confirm(.hold)
            self.isHeld = true
        case 10: await self.release()
        case 11: await self.broker.onNext(Channel.Open.id, .drop(.after))
        case 12: await self.broker.onNext(Basic.Ack.id, .drop([.before, .after][self.random.next(2)]))
        case 13: await self.broker.onNext(Basic.Ack.id, .refuse(.preconditionFailed, "settlement"))
        case 14: await self.broker.onNext(Basic.Consume.id, .drop([.before, .during, .after][self.random.next(3)]))
        case 15:
            await self.broker.onNext(
                Basic.Consume.id,
                .refuse(.accessRefused, "queue 'q' in vhost '/' in exclusive use")
            )
        case 16: await self.broker.onNext(Basic.Consume.id, .refuse(.resourceLocked, "locked"))
        case 17: try await self.reader.deleteExchange("e")
        case 18: try await self.reader.unbindQueue("q", from: "e", routingKey: "#")
        case 19: try await self.deleteQueue()
        default:
            guard self.violations < 3 else { return }
            self.violations += 1
            self.proxy?.set(.garbage)
        }
    }

    /// The queue goes with all that is in it; its consumer is sent `basic.cancel`, and declares it again.
    private mutating func deleteQueue() async throws {
        for index in self.items.indices { self.items[index].mayBeDeleted = true }
        await self.broker.deleteQueue("q")
        guard self.consumer != nil else { return try await self.reader.declare(PromiseTests.topology) }
        do {
            try await self.broker.waitUntil(queue: "q") { $0?.consumers == 1 }
        } catch {
            self.expect(false, "the consumer did not come back: \(error)")
        }
    }

    private mutating func release() async {
        await self.broker.confirm(.release)
        self.isHeld = false
    }

    // MARK: publishing

    private func message(_ kind: Kind, _ body: String) -> (AMQPMessage, AMQPDestination) {
        func message(_ properties: BasicProperties) -> AMQPMessage {
            AMQPMessage(AMQPBody(body), properties: properties)
        }
        return switch kind {
        case .good: (AMQPMessage(AMQPBody(body)), .queue("q"))
        case .event: (AMQPMessage(AMQPBody(body)), .exchange("e", routingKey: "a"))
        case .unroutable: (AMQPMessage(AMQPBody(body)), .queue("nowhere"))
        case .oversized: (AMQPMessage(AMQPBody(body + String(repeating: " ", count: 700))), .queue("q"))
        case .missingExchange: (AMQPMessage(AMQPBody(body)), .exchange("missing"))
        case .internalExchange: (AMQPMessage(AMQPBody(body)), .exchange("inside"))
        case .badUserID: (message(BasicProperties(userID: "somebody")), .queue("q"))
        case .badHeader: (message(BasicProperties(headers: ["CC": "no array"])), .queue("q"))
        case .directReply: (message(BasicProperties(replyTo: "amq.rabbitmq.reply-to")), .queue("q"))
        case .tooLarge: (AMQPMessage(AMQPBody(body + String(repeating: " ", count: 2000))), .queue("q"))
        case .unencodable: (message(BasicProperties(appID: String(repeating: "x", count: 256))), .queue("q"))
        }
    }

    private mutating func publish(_ publisher: AMQPPublisher) async {
        let kind =
            self.random.next(3) > 0
            ? [Kind.good, .event][self.random.next(2)] : Kind.allCases[self.random.next(Kind.allCases.count)]
        let body = "\(self.seed).\(self.items.count)" + String(repeating: "-", count: self.random.next(4))
        let (message, destination) = self.message(kind, body)
        var item = Item(body: body, kind: kind)
        let isMandatory = kind == .unroutable || kind == .event
        do {
            switch self.random.next(4) {
            case 0:
                item.isSend = true
                // It may wait for room that comes with a confirm.
                let timeout = self.isHeld ? .milliseconds(20) : self.timeout
                try await publisher.send(message, to: destination, mandatory: isMandatory, timeout: timeout)
                self.sends += 1
            case 1:
                // Its confirm is not to be held back.
                await self.release()
                do {
                    try await publisher.publish(message, to: destination, mandatory: isMandatory, timeout: self.timeout)
                    item.outcome = .confirmed
                } catch {
                    item.outcome = Self.outcome(error)
                }
            case 2:
                await self.release()
                item.outcome = await publisher.publish(
                    contentsOf: [message],
                    to: destination,
                    mandatory: isMandatory,
                    timeout: self.timeout
                )[0]
            default:
                await self.release()
                item.receipt = try await publisher.enqueue(
                    message,
                    to: destination,
                    mandatory: isMandatory,
                    timeout: self.timeout
                )
            }
        } catch {
            self.expect(error.isSafeToRetry, "not accepted, and not safe to retry: \(error)")
            item.outcome = .notSent(error)
        }
        self.items.append(item)
    }

    private static func outcome(_ error: AMQPError) -> AMQPPublishOutcome {
        switch error.code {
        case .refused: .refused(error)
        case .returned: .returned(error.replyCode ?? .noRoute, error.replyText)
        case .nacked: .nacked
        default: error.isSafeToRetry ? .notSent(error) : .unknown(error)
        }
    }

    // MARK: the account

    /// All publishes have ended: the books.
    private mutating func end(_ publisher: AMQPPublisher) async throws {
        for index in self.items.indices {
            guard let receipt = self.items[index].receipt else { continue }
            self.items[index].outcome = await receipt.outcome(timeout: self.timeout)
        }
        var reported = 0
        let timeout = self.timeout
        let failure = await OutboxTests.failure(of: { try await publisher.close(timeout: timeout) })
        if let error = failure {
            self.expect(error.code != .timedOut, "the end timed out: \(error)")
            reported = Self.count(error)
        }
        let sends = self.sends
        self.expect(reported <= sends, "\(reported) sends are reported, and \(sends) were made")
        if case .recovering(let recovering) = publisher.source, let books = recovering.outbox?.books {
            let ended = books.confirmed + books.returned + books.nacked + books.refused + books.givenUp
            self.expect(books.held == 0 && books.accepted == ended, "\(books)")
            self.expect(books.unreported == 0 && books.reported == ended - books.confirmed, "\(books)")
            self.expect(books.givenUp == 0, "something was given up: \(books)")
            self.uncertain = books.uncertain
        } else {
            // The end of the last channel may still be under way.
            let start = ContinuousClock.now
            var counts = publisher.counts
            while counts.unconfirmed > 0, ContinuousClock.now - start < .seconds(5) {
                await Task.yield()
                counts = publisher.counts
            }
            self.expect(counts.unconfirmed == 0, "\(counts)")
        }
    }

    /// The consumer has had its time: where everything is.
    private mutating func settle(_ consuming: Task<Void, Never>) async throws {
        var found: Set<String> = []
        if let consumer = self.consumer {
            let due = self.items.filter { $0.outcome == .confirmed && !$0.mayBeDeleted && $0.kind.isDelivered }
                .filter { $0.kind != .oversized }
                .map { Self.name($0.body) }
            let start = ContinuousClock.now
            while !consumer.hasSeen(due), consumer.account.failures.isEmpty, ContinuousClock.now - start < self.timeout
            {
                try await EventLoopGroup.shared.next().sleep(for: .milliseconds(1))
            }
            consuming.cancel()
            await consuming.value
            let account = consumer.account
            found = account.seen
            let missing = due.filter { !account.seen.contains($0) }
            self.expect(missing.isEmpty, "confirmed and not delivered in time: \(missing)")
            self.expect(account.failures.isEmpty, "the consumer ended: \(account.failures)")
            // With an outbox a message may be published twice.
            let hasOutbox = self.hasOutbox
            self.expect(hasOutbox || account.twice.isEmpty, "delivered twice as new: \(account.twice)")
            for item in self.items where item.kind == .oversized {
                self.expect(!account.seen.contains(Self.name(item.body)), "\(item.body) is over the limit")
            }
        }
        await consuming.value
        found.formUnion(try await self.drain())
        for item in self.items { self.check(item, isThere: found.contains(Self.name(item.body))) }
        self.expect(self.uncertain >= 0, "messages are there that did not arrive, by any copy")
    }

    private mutating func check(_ item: Item, isThere: Bool) {
        switch item.outcome {
        case .confirmed? where item.kind.isDelivered:
            self.expect(isThere || item.mayBeDeleted, "\(item.body) (\(item.kind)) was confirmed and is lost")
        case .refused?, .notSent?, .returned?, .nacked?:
            if isThere, self.hasOutbox, item.kind.isDelivered || item.kind == .unroutable {
                self.uncertain -= 1
            } else {
                self.expect(!isThere, "\(item.body) is there: \(item.outcome as Any)")
            }
        case .unknown(let error)?: self.expect(!self.hasOutbox, "unknown with an outbox: \(error)")
        default: break
        }
        if case .refused(let error)? = item.outcome, error.replyCode == .notFound, item.kind == .event {
            let hasOutbox = self.hasOutbox
            self.expect(!hasOutbox && item.receipt != nil, "the exchange is in the topology: \(error)")
        }
        switch item.kind {
        case .good, .event, .oversized, .unroutable: break
        case .missingExchange, .internalExchange, .badUserID, .badHeader, .directReply, .tooLarge, .unencodable:
            self.expect(!isThere, "\(item.body) (\(item.kind)) cannot be there")
            self.expect(item.outcome != .confirmed, "\(item.body) (\(item.kind)) cannot be confirmed")
        }
    }

    /// The names of what is in the queues, which are empty then.
    private func drain() async throws -> Set<String> {
        var names: Set<String> = []
        try await self.reader.declare(PromiseTests.topology)
        for queue in ["q", "dead"] {
            while let delivery = try await self.reader.get(queue, acknowledgement: .automatic) {
                names.insert(Self.name(delivery.body.string))
            }
        }
        return names
    }

    /// How many failures an error stands for.
    private static func count(_ error: AMQPError) -> Int {
        guard let start = error.replyText.range(of: "(the first of ") else { return 1 }
        return Int(error.replyText[start.upperBound...].prefix { $0.isNumber }) ?? 1
    }
}

/// SplitMix64, by its state.
struct SeededRandom {
    var state: UInt64

    mutating func next(_ limit: Int) -> Int {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = self.state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int((mixed ^ (mixed >> 31)) % UInt64(limit))
    }
}

extension StringProtocol {
    fileprivate func range(of text: String) -> Range<Index>? {
        var start = self.startIndex
        while start < self.endIndex {
            if self[start...].hasPrefix(text) { return start..<self.index(start, offsetBy: text.count) }
            start = self.index(after: start)
        }
        return nil
    }
}
