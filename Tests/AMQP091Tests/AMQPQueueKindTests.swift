// SPDX-License-Identifier: Apache-2.0
import AMQP091
import Testing

@Suite("Queue kinds")
struct AMQPQueueKindTests {
    struct Row: CustomTestStringConvertible, Sendable {
        let name: String
        let kind: any AMQPQueueKind
        let arguments: FieldTable
        var testDescription: String { self.name }

        init(_ name: String, _ kind: any AMQPQueueKind, _ arguments: FieldTable) {
            self.name = name
            self.kind = kind
            self.arguments = arguments
        }
    }

    static let rows = [
        Row("a plain classic queue", .classic(), ["x-queue-type": "classic"]),
        Row(
            "a classic queue with everything",
            .classic(
                messageTimeToLive: .seconds(2),
                expires: .milliseconds(1),
                maximumLength: 0,
                maximumOctets: 5,
                overflow: .rejectPublishDeadLetter,
                deadLetter: .exchange("dead", routingKey: "key"),
                maximumPriority: 255,
                singleActiveConsumer: true,
                additionalArguments: ["x-queue-version": 2]
            ),
            [
                "x-queue-type": "classic", "x-message-ttl": 2000, "x-expires": 1, "x-max-length": 0,
                "x-max-length-bytes": 5, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": "dead",
                "x-dead-letter-routing-key": "key", "x-max-priority": 255, "x-single-active-consumer": true,
                "x-queue-version": 2,
            ]
        ),
        Row(
            "a quorum queue that dead-letters at least once",
            .quorum(
                deliveryLimit: 5,
                overflow: .rejectPublish,
                deadLetter: .queue("dead"),
                deadLetterStrategy: .atLeastOnce
            ),
            [
                "x-queue-type": "quorum", "x-delivery-limit": 5, "x-overflow": "reject-publish",
                "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead",
                "x-dead-letter-strategy": "at-least-once",
            ]
        ),
        Row(
            "a quorum queue without the default limit",
            .quorum(deliveryLimit: -1),
            [
                "x-queue-type": "quorum", "x-delivery-limit": -1,
            ]
        ),
        Row(
            "a quorum queue with the timeouts and retries of 4.3",
            {
                var queue = AMQPQuorumQueue()
                queue.consumerTimeout = .seconds(60)
                queue.consumerDisconnectedTimeout = .milliseconds(1)
                queue.delayedRetry = .init(.failed, minimum: .seconds(1), maximum: .seconds(1))
                return queue
            }(),
            [
                "x-queue-type": "quorum", "x-consumer-timeout": 60_000, "x-consumer-disconnected-timeout": 1,
                "x-delayed-retry-type": "failed", "x-delayed-retry-min": 1000, "x-delayed-retry-max": 1000,
            ]
        ),
        Row(
            "a stream with limits",
            .stream(maximumAge: .seconds(3600), maximumOctets: 1 << 30, maximumSegmentOctets: 1 << 20),
            [
                "x-queue-type": "stream", "x-max-age": "3600s", "x-max-length-bytes": 1_073_741_824,
                "x-stream-max-segment-size-bytes": 1_048_576,
            ]
        ),
    ]

    @Test("One default of durable, however a queue is declared: a shared queue is durable, an exclusive one is not")
    func durability() {
        let asked: [(Bool?, Bool, Bool)] = [
            (nil, false, true), (nil, true, false), (true, true, true), (false, false, false),
        ]
        for (durable, exclusive, isDurable) in asked {
            let kind = AMQPClassicQueue.classic(durable: durable, exclusive: exclusive)
            #expect(kind.isDurable == isDurable)
            let topology = AMQPTopology { $0.queue("q", as: .classic(durable: durable, exclusive: exclusive)) }
            #expect(topology.queues.map(\.isDurable) == [isDurable])
        }
        var kind = AMQPClassicQueue()
        kind.isExclusive = true
        #expect(!kind.isDurable)
        kind.isDurable = true
        #expect(kind.isDurable)
        #expect(AMQPTopology { $0.exchange("e") }.exchanges.map(\.isDurable) == [true])
    }

    @Test("A kind becomes the broker's arguments", arguments: rows)
    func arguments(_ row: Row) throws {
        #expect(try row.kind.arguments() == row.arguments)
    }

    static let refused: [(kind: any AMQPQueueKind, words: String)] = [
        (.classic(messageTimeToLive: .milliseconds(-1)), "x-message-ttl is -1 ms; it is 0 to 4294967295 ms"),
        (.classic(messageTimeToLive: .milliseconds(4_294_967_296)), "x-message-ttl is 4294967296 ms"),
        (.classic(expires: .microseconds(1)), "x-expires is 0 ms; it is 1 to 4294967295 ms"),
        (.classic(maximumLength: -1), "x-max-length is -1; it is at least 0"),
        (.classic(maximumPriority: 256), "x-max-priority is 256; it is 1 to 255"),
        (.classic(maximumPriority: 0), "x-max-priority is 0; it is 1 to 255"),
        (.quorum(deliveryLimit: -2), "x-delivery-limit is -2; it is at least -1"),
        (.quorum(consumerTimeout: .zero), "x-consumer-timeout is 0 ms; it is 1 to 4294967295 ms"),
        (.quorum(delayedRetry: .init(.all, minimum: .zero)), "x-delayed-retry-min is 0 ms; it is 1 to"),
        (
            .quorum(delayedRetry: .init(.all, minimum: .seconds(2), maximum: .seconds(1))),
            "x-delayed-retry-max is 1000 ms; it is 2000 to 4294967295 ms"
        ),
        (.quorum(deadLetter: .queue("dead"), deadLetterStrategy: .atLeastOnce), "needs a deadLetter and the overflow"),
        (.stream(maximumAge: .milliseconds(999)), "x-max-age is 0 s; it is at least 1 s"),
        (.stream(maximumSegmentOctets: 0), "x-stream-max-segment-size-bytes is 0; it is at least 1"),
    ]

    @Test("An option outside its range is refused by its name, with the range", arguments: refused)
    func outside(_ kind: any AMQPQueueKind, _ words: String) {
        let error = #expect(throws: AMQPError.self) { try kind.arguments() }
        #expect(error?.code == .invalidArgument)
        #expect(error?.isSafeToRetry == true)
        #expect(error?.replyText.contains(words) == true, "\(error?.replyText ?? "")")
    }
}

@Suite("Typed properties")
struct TypedPropertiesTests {
    @Test("A time to live is written as milliseconds and read back")
    func timeToLive() {
        var properties = BasicProperties()
        properties.timeToLive = .milliseconds(1500)
        #expect(properties.expiration == "1500")
        #expect(properties.timeToLive == .milliseconds(1500))
        properties.timeToLive = .seconds(-1)
        #expect(properties.expiration == "0")
        properties.timeToLive = .seconds(Int64.max)
        #expect(properties.expiration == "4294967295")
        properties.timeToLive = nil
        #expect(properties.isEmpty)
        #expect(BasicProperties(expiration: "soon").timeToLive == nil)
    }

    @Test("Persistence and copies set the properties RabbitMQ reads")
    func others() {
        var properties = BasicProperties()
        properties.isPersistent = true
        properties.carbonCopies = ["a", "b"]
        properties.blindCarbonCopies = ["c"]
        #expect(properties.deliveryMode == 2)
        #expect(properties.headers == ["CC": ["a", "b"], "BCC": ["c"]])
        #expect(properties.carbonCopies == ["a", "b"])
        properties.isPersistent = false
        properties.carbonCopies = []
        properties.blindCarbonCopies = []
        #expect(properties.isEmpty)
    }

    @Test("The deaths of a message are read from its header, whatever is missing there")
    func deaths() {
        let entry: FieldTable = [
            "count": 3, "reason": "expired", "queue": "q", "exchange": "", "routing-keys": ["q", "copy"],
            "time": .timestamp(1_700_000_000),
        ]
        let properties = BasicProperties(headers: ["x-death": .array([.table(entry), .table([:]), .bool(true)])])
        #expect(properties.deaths.count == 2)
        #expect(properties.deaths.first?.count == 3)
        #expect(properties.deaths.first?.reason == "expired")
        #expect(properties.deaths.first?.routingKeys == ["q", "copy"])
        #expect(properties.deaths.first?.timestamp == 1_700_000_000)
        #expect(properties.deaths.last?.queue == "")
    }
}
