// SPDX-License-Identifier: Apache-2.0
@testable import AMQP091
import AMQP091Testing
import AMQP091Wire
import EpollNetworking
import Glibc
import Testing

// PromiseTests: the client's first promise as a model: random publishes of every kind, good and bad, while the broker
// refuses, returns, nacks, closes channels and connections and drops links. Whatever happens: what was accepted is
// confirmed, or reported, or still held; nothing confirmed is missing in the queue; nothing refused or not processed is in
// it; nothing is reported twice; no call outlives its deadline. A failure prints its seed.
// AMQP091_PROMISE_RUNS runs, 1,000 by default; AMQP091_PROMISE_SEED runs one seed alone.

@Suite("Promise", .timeLimit(.minutes(60)))
struct PromiseTests {
    static func number(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }

    static let lanes = 4

    @Test("Accepted is confirmed, reported or held, through random endings", arguments: 0..<UInt64(lanes))
    func promise(lane: UInt64) async throws {
        if let seed = Self.number("AMQP091_PROMISE_SEED") {
            guard lane == 0 else { return }
            return try await Self.run([seed])
        }
        let runs = Self.number("AMQP091_PROMISE_RUNS") ?? 1000
        try await Self.run(stride(from: lane, to: runs, by: Self.lanes))
    }

    static func run(_ seeds: some Sequence<UInt64>) async throws {
        var options = InProcessBroker.Options()
        options.maximumMessageSize = 1000
        try await InProcessBroker.withBroker(options) { broker in
            var configuration = AMQPClientTests.quick(broker)
            configuration.recovery.maximumDelay = .milliseconds(5)
            let reader = try await broker.connect()
            try await AMQPClient.withClient(configuration, topology: OutboxTests.topology) { client in
                try await reader.withChannel { channel in
                    try await channel.declareQueue("q", as: .classic())
                    for seed in seeds {
                        var run = PromiseRun(seed: seed, broker: broker, client: client, reader: channel)
                        try await run.run()
                        if !run.isKept { break }
                    }
                }
            }
            try await reader.close()
        }
    }
}

/// One run: a publisher, some messages, some endings.
private struct PromiseRun {
    /// What a message is, and so what may become of it.
    enum Kind: CaseIterable {
        case good, missingExchange, badUserID, tooLarge, unroutable
    }

    struct Item {
        var body: String
        var kind: Kind
        var receipt: AMQPPublishReceipt?
        var outcome: AMQPPublishOutcome?
    }

    let seed: UInt64
    let broker: InProcessBroker
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

    init(seed: UInt64, broker: InProcessBroker, client: AMQPClient, reader: AMQPChannel) {
        self.seed = seed
        self.broker = broker
        self.client = client
        self.reader = reader
        self.random = SeededRandom(state: seed)
    }

    mutating func expect(_ isTrue: Bool, _ text: @autoclosure () -> String) {
        guard !isTrue else { return }
        self.isKept = false
        Issue.record("seed \(self.seed): \(text())")
    }

    mutating func run() async throws {
        let hasOutbox = self.random.next(3) > 0
        let publisher = try self.client.openPublisher(
            maxInFlight: [1, 4, 1024][self.random.next(3)],
            outbox: hasOutbox ? .octets([600, 3000, 1 << 20][self.random.next(3)]) : .none
        )
        for _ in 0..<(2 + self.random.next(10)) {
            if self.random.next(3) == 0 { await self.disturb() }
            let start = ContinuousClock.now
            await self.publish(publisher)
            self.expect(ContinuousClock.now - start < self.timeout + .seconds(5), "a call outlived its deadline")
        }
        await self.release()
        await self.broker.refuseConnections(false)
        try await self.end(publisher)
        await self.broker.cancelMethodOrders()
        await self.release()
    }

    /// Something ends, now or with the next publish.
    private mutating func disturb() async {
        let publish = Basic.Publish.id
        switch self.random.next(12) {
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
        default: await self.broker.onNext(Channel.Open.id, .drop(.after))
        }
    }

    private mutating func release() async {
        await self.broker.confirm(.release)
        self.isHeld = false
    }

    private func message(_ kind: Kind, _ body: String) -> (AMQPMessage, AMQPDestination) {
        switch kind {
        case .good: (AMQPMessage(body), .queue("q"))
        case .missingExchange: (AMQPMessage(body), .exchange("missing"))
        case .badUserID: (AMQPMessage(body, properties: BasicProperties(userID: "somebody")), .queue("q"))
        case .tooLarge: (AMQPMessage(AMQPBody([UInt8](repeating: 1, count: 2000))), .queue("q"))
        case .unroutable: (AMQPMessage(body), .queue("nowhere"))
        }
    }

    private mutating func publish(_ publisher: AMQPPublisher) async {
        let kind = self.random.next(3) > 0 ? Kind.good : Kind.allCases[self.random.next(Kind.allCases.count)]
        let body = "\(self.seed).\(self.items.count)"
        let (message, destination) = self.message(kind, body)
        var item = Item(body: body, kind: kind)
        let isMandatory = kind == .unroutable
        do {
            switch self.random.next(4) {
            case 0:
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

    /// Everything has ended: the books, and the queue.
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
        let found = try await self.drain()
        for item in self.items {
            let isThere = found.contains(item.body)
            switch item.outcome {
            case .confirmed? where item.kind == .good:
                self.expect(isThere, "\(item.body) was confirmed and is lost")
            case .refused?, .notSent?, .returned?, .nacked?:
                self.expect(!isThere, "\(item.body) is there: \(item.outcome as Any)")
            case .unknown(let error)?:
                if case .recovering(let recovering) = publisher.source, recovering.outbox != nil {
                    self.expect(false, "unknown with an outbox: \(error)")
                }
            default: break
            }
            switch item.kind {
            case .good, .unroutable: break
            case .missingExchange, .badUserID, .tooLarge:
                self.expect(!isThere, "\(item.body) cannot be there")
                self.expect(item.outcome != .confirmed || item.receipt == nil, "\(item.body) cannot be confirmed")
            }
        }
    }

    /// The bodies in the queue, which is empty then.
    private func drain() async throws -> Set<String> {
        var bodies: Set<String> = []
        while let delivery = try await self.reader.get("q", acknowledgement: .automatic) {
            bodies.insert(delivery.body.string)
        }
        return bodies
    }

    /// How many failures an error stands for.
    private static func count(_ error: AMQPError) -> Int {
        guard let start = error.replyText.range(of: "(the first of ") else { return 1 }
        return Int(error.replyText[start.upperBound...].prefix { $0.isNumber }) ?? 1
    }
}

/// SplitMix64, by its state.
private struct SeededRandom {
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
