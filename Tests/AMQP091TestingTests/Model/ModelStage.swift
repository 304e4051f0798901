// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire

@testable import AMQP091Testing

// ModelStage: the model of the in-process broker without its loop and its sockets: a virtual host whose clock is moved by
// hand, a sink that takes deliveries, and messages made from text.

final class ModelStage: QueueServices {
    var now: UInt64 = 1_000_000_000
    let version: InProcessBroker.RabbitMQVersion
    private(set) var dead: [(text: String, reason: DeathReason)] = []
    private(set) var timers: [UInt64] = []
    private var due: [BrokerQueue] = []
    private var sinks: [ModelSink] = []
    private(set) lazy var host = VirtualHost(name: "/", services: self)

    init(_ version: InProcessBroker.RabbitMQVersion = .v4_3) { self.version = version }

    func serviceSoon(_ queue: BrokerQueue) {
        queue.isServiceDue = true
        self.due.append(queue)
    }

    func deadLetter(_ message: Message, from queue: BrokerQueue, _ reason: DeathReason) {
        self.dead.append((message.text, reason))
    }

    func setTimer(of queue: BrokerQueue, at deadline: UInt64) {
        queue.timerDeadline = deadline
        self.timers.append(deadline)
    }

    /// The end of a turn: queues that are due hand out.
    func turn() {
        while let queue = self.due.popLast() {
            queue.isServiceDue = false
            queue.service()
        }
    }

    func pass(milliseconds: UInt64) { self.now += milliseconds * 1_000_000 }

    // MARK: what there is in it

    func queue(_ name: String = "q") throws(Refusal) -> BrokerQueue {
        try self.host.declare(.init(queue: name, durable: true), for: nil)
    }

    func queue(durable: Bool = true, _ arguments: FieldTable) throws(Refusal) -> BrokerQueue {
        try self.host.declare(.init(queue: "q", durable: durable, arguments: arguments), for: nil)
    }

    func exchange(
        _ name: String,
        _ type: String,
        autoDelete: Bool = false,
        _ arguments: FieldTable = [:]
    ) throws(Refusal) -> BrokerExchange {
        try self.host.declare(.init(exchange: name, type: type, autoDelete: autoDelete, arguments: arguments))
        guard let exchange = self.host.exchanges[name] else { throw .noExchange(name, "/") }
        return exchange
    }

    func sink() -> ModelSink {
        let sink = ModelSink()
        self.sinks.append(sink)
        return sink
    }

    func consumer(
        _ tag: String,
        on queue: BrokerQueue,
        isAutomatic: Bool = false,
        isExclusive: Bool = false,
        priority: Int64 = 0,
        prefetch: Int = 0
    ) throws(Refusal) -> (Consumer, ModelSink) {
        let sink = self.sink()
        let consumer = Consumer(
            tag: tag,
            queue: queue,
            isAutomatic: isAutomatic,
            isExclusive: isExclusive,
            priority: priority,
            prefetch: prefetch,
            arguments: [:],
            sink: sink
        )
        try queue.add(consumer)
        return (consumer, sink)
    }

    /// Where a publish ends up: names of queues, sorted.
    func routed(_ exchange: String, _ key: String, _ headers: FieldTable = [:]) -> [String] {
        guard let exchange = self.host.exchanges[exchange] else { return [] }
        return self.host.route(exchange, keys: [key], headers: headers).map(\.name).sorted()
    }
}

/// A channel that takes everything, or nothing.
final class ModelSink: DeliverySink {
    var isFull = false
    private(set) var entries: [QueueEntry] = []
    private(set) var isCancelled = false

    func hasRoom(for consumer: Consumer) -> Bool { !self.isFull }

    func deliver(_ entry: QueueEntry, to consumer: Consumer) {
        self.entries.append(entry)
        if !consumer.isAutomatic { consumer.unacknowledged += 1 }
    }

    func cancelled(_ consumer: Consumer) { self.isCancelled = true }

    var texts: [String] { self.entries.map(\.message.text) }

    func takeAll() -> [QueueEntry] {
        defer { self.entries = [] }
        return self.entries
    }
}

extension Message {
    static func text(
        _ text: String,
        exchange: String = "",
        key: String = "q",
        priority: UInt8 = 0,
        timeToLive: UInt64? = nil,
        properties: BasicProperties = BasicProperties()
    ) -> Message {
        let empty = UnsafeRawBufferPointer(start: nil, count: 0)
        let octets = Array(text.utf8)
        let bare = octets.withUnsafeBytes {
            Message.make(route: empty, properties: empty, body: $0, priority: 0, timeToLive: nil)
        }
        var properties = properties
        if priority > 0 { properties.priority = priority }
        return bare.with(exchange: exchange, routingKey: key, properties: properties, timeToLive: timeToLive) ?? bare
    }

    var text: String { self.withBody { String(decoding: $0, as: UTF8.self) } }
}

/// The reply text of a refusal; nil for none.
func refusal(_ body: () throws(Refusal) -> Void) -> String? {
    do throws(Refusal) {
        try body()
        return nil
    } catch {
        return error.text
    }
}
