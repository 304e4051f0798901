// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import AMQP091Wire

// Queues: declaring, limits, times to live, dead letters, priorities.

extension BehaviourCase {
    private static func limitCase(
        _ title: String,
        _ arguments: FieldTable,
        bodies: [String],
        kept: [String],
        refused: [UInt64] = []
    ) -> BehaviourCase {
        BehaviourCase(title) { stage in
            try await stage.client.declare(stage.name, arguments)
            try await stage.client.confirmSelect()
            for body in bodies { try stage.client.publish(body, key: stage.name) }
            let nacks = try await stage.client.confirms(upTo: UInt64(bodies.count))
            try expect(nacks, refused, "publishes refused")
            try expect(try await stage.client.drain(stage.name), kept, "messages kept")
        }
    }

    /// A queue whose dead letters go to `.2`.
    static func deadLetterQueue(_ stage: Stage, _ arguments: FieldTable = [:]) async throws {
        try await stage.client.declare("\(stage.name).2")
        try await stage.client.declare(stage.name, Self.deadLetters(to: "\(stage.name).2", arguments))
    }

    /// Checks the first death of a dead letter, in RabbitMQ's fields.
    static func expectDeath(_ event: ScriptedClient.Event, _ stage: Stage, _ reason: String) throws {
        let headers = event.properties.headers ?? FieldTable()
        guard let death = headers["x-death"]?.arrayValue?.first?.tableValue else {
            throw Difference(description: "no x-death in \(headers)")
        }
        try expect(death["reason"], .string(reason), "reason")
        try expect(death["count"], .int64(1), "count")
        try expect(death["queue"], .string(stage.name), "queue")
        try expect(death["exchange"], "", "exchange")
        try expect(death["routing-keys"], [.string(stage.name)], "routing keys")
        guard case .timestamp? = death["time"] else { throw Difference(description: "no time in \(death)") }
        try expect(headers["x-first-death-reason"], .string(reason), "first reason")
        try expect(headers["x-first-death-queue"], .string(stage.name), "first queue")
        try expect(headers["x-first-death-exchange"], "", "first exchange")
    }

    private static func deadLetters(to queue: String, _ arguments: FieldTable = [:]) -> FieldTable {
        var all = arguments
        all["x-dead-letter-exchange"] = ""
        all["x-dead-letter-routing-key"] = .string(queue)
        return all
    }

    private static func republishedDeathCase(_ releases: Releases, _ title: String, counts: [Int64]) -> BehaviourCase {
        BehaviourCase("the x-death of a message that a client publishes \(title)", releases) { stage in
            let n = stage.name
            try await Self.deadLetterQueue(stage)
            try stage.client.publish("m", key: n)
            for count in counts {
                try stage.client.nack(try await stage.client.getSoonUnacknowledged(n), requeue: false)
                let event = try await stage.client.getSoon("\(n).2")
                let deaths = event.properties.headers?["x-death"]?.arrayValue ?? []
                try expect(deaths.count, 1, "deaths")
                try expect(deaths.first?.tableValue?["count"], .int64(count), "count")
                try stage.client.publish("m", key: n, properties: event.properties)
            }
        }
    }

    private static func deadCopiesCase(_ releases: Releases, _ title: String, copies: FieldValue?) -> BehaviourCase {
        BehaviourCase("a dead letter with a key of its queue's \(title)", releases) { stage in
            try await Self.deadLetterQueue(stage)
            try stage.client.publish("m", key: stage.name, properties: BasicProperties(headers: ["CC": ["nobody"]]))
            try stage.client.nack(try await stage.client.getSoonUnacknowledged(stage.name), requeue: false)
            let event = try await stage.client.getSoon("\(stage.name).2")
            try expect(event.properties.headers?["CC"], copies, "CC")
        }
    }

    static let queues: [BehaviourCase] = [
        BehaviourCase("a queue without a name gets one, and stands for empty names after") { stage in
            guard case .queueDeclareOk(let ok) = try await stage.client.call(.queueDeclare(.init(exclusive: true)))
            else {
                throw Difference(description: "no declare-ok")
            }
            try expect(ok.queue.hasPrefix("amq.gen-"), true, "prefix of \(ok.queue)")
            try stage.client.publish("m", key: ok.queue)
            try expect(try await stage.client.get("")?.text, "m", "message of the last queue")
        },
        BehaviourCase("declare-ok counts ready messages and consumers") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            try stage.client.publish("1", key: n)
            try stage.client.publish("2", key: n)
            try await stage.client.waitFor(n, messages: 2)
            try await stage.client.prefetch(1)
            try await stage.client.consume(n)
            _ = try await stage.client.delivery()
            try expect(try await stage.client.counts(n), [1, 1], "counts")
        },
        BehaviourCase("purge and delete tell how many messages went") { stage in
            let n = stage.name
            try await stage.client.declare(n)
            for _ in 0..<3 { try stage.client.publish("m", key: n) }
            try await stage.client.waitFor(n, messages: 3)
            try expect(
                try await stage.client.call(.queuePurge(.init(queue: n))),
                .queuePurgeOk(.init(messageCount: 3)),
                "purge"
            )
            try stage.client.publish("m", key: n)
            try await stage.client.waitFor(n, messages: 1)
            try expect(
                try await stage.client.call(.queueDelete(.init(queue: n))),
                .queueDeleteOk(.init(messageCount: 1)),
                "delete"
            )
        },
        BehaviourCase("an exclusive queue goes with its connection") { stage in
            let other = try await stage.another()
            try await other.call(.queueDeclare(.init(queue: stage.name, exclusive: true)))
            let close = Connection.Close(replyCode: .success, replyText: "", classID: 0, methodID: 0)
            try await other.call(.connectionClose(close))
            try stage.client.send(.queueDeclare(.init(queue: stage.name, passive: true)))
            try expect(try await stage.client.expectClose().code, .notFound, "the queue")
        },
        BehaviourCase("an auto-delete queue goes with its last consumer") { stage in
            let n = stage.name
            try await stage.client.call(.queueDeclare(.init(queue: n, durable: true, autoDelete: true)))
            try await stage.client.consume(n, tag: "a")
            try await stage.client.consume(n, tag: "b")
            try await stage.client.call(.basicCancel(.init(consumerTag: "a")))
            try expect(try await stage.client.counts(n), [0, 1], "counts")
            try await stage.client.call(.basicCancel(.init(consumerTag: "b")))
            try stage.client.send(.queueDeclare(.init(queue: n, passive: true)))
            try expect(try await stage.client.expectClose().code, .notFound, "the queue")
        },
        limitCase("x-max-length drops the oldest", ["x-max-length": 2], bodies: ["1", "2", "3"], kept: ["2", "3"]),
        limitCase(
            "x-max-length-bytes drops the oldest",
            ["x-max-length-bytes": 5],
            bodies: ["123", "45", "6"],
            kept: ["45", "6"]
        ),
        limitCase(
            "x-max-length with reject-publish refuses the newest",
            ["x-max-length": 2, "x-overflow": "reject-publish"],
            bodies: ["1", "2", "3"],
            kept: ["1", "2"],
            refused: [3]
        ),
        BehaviourCase("x-message-ttl drops what is too old") { stage in
            let n = stage.name
            try await stage.client.declare(n, ["x-message-ttl": 50])
            try await stage.client.confirmSelect()
            try stage.client.publish("m", key: n)
            _ = try await stage.client.confirms(upTo: 1)
            try await stage.client.waitFor(n, messages: 0)
        },
        BehaviourCase("an expiration counts beside the queue's, the shorter one") { stage in
            let n = stage.name
            try await Self.deadLetterQueue(stage, ["x-message-ttl": 60_000])
            try stage.client.publish("m", key: n, properties: BasicProperties(expiration: "50"))
            try Self.expectDeath(try await stage.client.getSoon("\(n).2"), stage, "expired")
        },
        BehaviourCase("a time to live of zero reaches a waiting consumer, and nobody else") { stage in
            let n = stage.name
            try await stage.client.declare(n, ["x-message-ttl": 0])
            try stage.client.publish("lost", key: n)
            try await stage.client.waitFor(n, messages: 0)
            try await stage.client.consume(n, noAck: true)
            try stage.client.publish("kept", key: n)
            try expect(try await stage.client.delivery().event.text, "kept", "delivery")
        },
        BehaviourCase("x-expires deletes an unused queue") { stage in
            let n = stage.name
            try await stage.client.declare(n, ["x-expires": 50])
            // Every look at the queue begins its time anew, so it is looked at seldom.
            for _ in 0..<20 {
                try await Task.sleep(for: .milliseconds(250))
                try stage.client.send(.queueDeclare(.init(queue: n, passive: true)))
                let event = try await stage.client.next()
                if case .channelClose(let close) = event.method {
                    try stage.client.send(.channelCloseOk(.init()))
                    return try expect(close.replyCode, .notFound, "the queue")
                }
            }
            throw Difference(description: "the queue is still there")
        },
        BehaviourCase("a rejected message becomes a dead letter, with its death in the headers") { stage in
            let n = stage.name
            try await Self.deadLetterQueue(stage)
            let properties = BasicProperties(headers: ["h": 1], expiration: "100000", messageID: "id")
            try stage.client.publish("m", key: n, properties: properties)
            _ = try await stage.client.get(n, noAck: false)
            try stage.client.nack(1, requeue: false)
            let event = try await stage.client.getSoon("\(n).2")
            try expect(event.text, "m", "body")
            try Self.expectDeath(event, stage, "rejected")
            try expect(event.properties.headers?["h"], 1, "header of the publisher")
            try expect(event.properties.expiration, nil, "expiration")
            try expect(event.properties.messageID, "id", "message id")
            let death = event.properties.headers?["x-death"]?.arrayValue?.first?.tableValue
            try expect(death?["original-expiration"], "100000", "original expiration")
        },
        BehaviourCase("an expired message becomes a dead letter") { stage in
            try await Self.deadLetterQueue(stage, ["x-message-ttl": 20])
            try stage.client.publish("m", key: stage.name)
            try Self.expectDeath(try await stage.client.getSoon("\(stage.name).2"), stage, "expired")
        },
        BehaviourCase("a message pushed out becomes a dead letter") { stage in
            try await Self.deadLetterQueue(stage, ["x-max-length": 1])
            for body in ["1", "2"] { try stage.client.publish(body, key: stage.name) }
            let event = try await stage.client.getSoon("\(stage.name).2")
            try expect(event.text, "1", "body")
            try Self.expectDeath(event, stage, "maxlen")
        },
        Self.republishedDeathCase(.before4, "counts on", counts: [1, 2]),
        Self.republishedDeathCase(.since4, "starts anew", counts: [1, 1]),
        BehaviourCase("a second death in the same queue for the same reason is counted, not added") { stage in
            let n = stage.name
            try await stage.client.declare(n, Self.deadLetters(to: "\(n).2", ["x-message-ttl": 20]))
            try await stage.client.declare("\(n).2", Self.deadLetters(to: n))
            try stage.client.publish("m", key: n)
            for count: Int64 in 1...3 {
                let event = try await stage.client.getSoon("\(n).2", noAck: false)
                guard case .basicGetOk(let ok) = event.method else { throw Difference(description: "no message") }
                let deaths = event.properties.headers?["x-death"]?.arrayValue ?? []
                try expect(deaths.count, count == 1 ? 1 : 2, "deaths")
                try expect(deaths.first?.tableValue?["queue"], .string(n), "queue of the last death")
                try expect(deaths.first?.tableValue?["count"], .int64(count), "count")
                try stage.client.nack(ok.deliveryTag.rawValue, requeue: false)
            }
        },
        BehaviourCase("a dead letter names its last death too", .since4) { stage in
            let n = stage.name
            try await stage.client.declare(n, Self.deadLetters(to: "\(n).2", ["x-message-ttl": 20]))
            try await stage.client.declare("\(n).2", Self.deadLetters(to: "\(n).3"))
            try await stage.client.declare("\(n).3")
            try stage.client.publish("m", key: n)
            let tag = try await stage.client.getSoonUnacknowledged("\(n).2")
            try stage.client.nack(tag, requeue: false)
            let headers = try await stage.client.getSoon("\(n).3").properties.headers ?? FieldTable()
            try expect(headers["x-first-death-queue"], .string(n), "first queue")
            try expect(headers["x-first-death-reason"], "expired", "first reason")
            try expect(headers["x-last-death-queue"], .string("\(n).2"), "last queue")
            try expect(headers["x-last-death-reason"], "rejected", "last reason")
            try expect(headers["x-last-death-exchange"], "", "last exchange")
        },
        Self.deadCopiesCase(.before4, "loses CC", copies: nil),
        Self.deadCopiesCase(.since4, "keeps CC and is not copied", copies: ["nobody"]),
        BehaviourCase("a message does not go round by itself") { stage in
            let n = stage.name
            try await stage.client.declare(
                n,
                ["x-dead-letter-exchange": "", "x-dead-letter-routing-key": .string(n), "x-message-ttl": 20]
            )
            try await stage.client.confirmSelect()
            try stage.client.publish("m", key: n)
            _ = try await stage.client.confirms(upTo: 1)
            try await stage.client.waitFor(n, messages: 0)
        },
        BehaviourCase("priorities come first, and are capped") { stage in
            let n = stage.name
            try await stage.client.declare(n, ["x-max-priority": 5])
            for (body, priority) in [("none", nil), ("1", 1), ("9", 9), ("5", 5), ("2", 2)] as [(String, UInt8?)] {
                try stage.client.publish(body, key: n, properties: BasicProperties(priority: priority))
            }
            try await stage.client.waitFor(n, messages: 5)
            try expect(try await stage.client.drain(n), ["9", "5", "2", "1", "none"], "order")
        },
    ]
}

extension ScriptedClient {
    /// The tag of a message that comes to a queue in a moment and is not acknowledged.
    func getSoonUnacknowledged(_ queue: String) async throws -> UInt64 {
        for _ in 0..<500 {
            if case .basicGetOk(let ok)? = try await self.get(queue, noAck: false)?.method {
                return ok.deliveryTag.rawValue
            }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw BehaviourCase.Difference(description: "no message came to \(queue)")
    }
}
