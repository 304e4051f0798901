// SPDX-License-Identifier: Apache-2.0
import AMQP091Testing
import AMQP091Wire

// Exchanges and bindings: which queues a message reaches.

extension BehaviourCase {
    private static func topicCase(_ pattern: String, matches: [String], not others: [String]) -> BehaviourCase {
        BehaviourCase("topic \(pattern)") { stage in
            let n = stage.name
            try await stage.client.declareExchange("\(n).x", "topic")
            try await stage.client.declare(n)
            try await stage.client.bind(n, "\(n).x", pattern)
            for key in matches + others { try stage.client.publish(key, to: "\(n).x", key: key) }
            try expect(try await stage.client.drain(n), matches, "keys that match")
        }
    }

    private static func headersCase(
        _ arguments: FieldTable,
        matches: [FieldTable],
        not others: [FieldTable]
    ) -> BehaviourCase {
        BehaviourCase("headers \(arguments)") { stage in
            let n = stage.name
            try await stage.client.declareExchange("\(n).x", "headers")
            try await stage.client.declare(n)
            try await stage.client.bind(n, "\(n).x", "", arguments)
            for headers in matches + others {
                let properties = BasicProperties(headers: headers)
                try stage.client.publish("\(headers)", to: "\(n).x", key: "", properties: properties)
            }
            try expect(try await stage.client.drain(n), matches.map { "\($0)" }, "headers that match")
        }
    }

    static let routing: [BehaviourCase] = [
        BehaviourCase("the default exchange routes to the queue of that name") { stage in
            try await stage.client.declare(stage.name)
            try stage.client.publish("m", key: stage.name)
            let event = try await stage.client.get(stage.name)
            guard case .basicGetOk(let ok)? = event?.method else { throw Difference(description: "no message") }
            try expect([ok.exchange, ok.routingKey], ["", stage.name], "exchange and key")
            try expect(ok.messageCount, 0, "messages left")
            try expect(ok.redelivered, false, "redelivered")
        },
        BehaviourCase("a direct exchange routes by the whole key, once per queue") { stage in
            let n = stage.name
            try await stage.client.declareExchange("\(n).x", "direct")
            try await stage.client.declare(n)
            for key in ["a", "b", "a"] { try await stage.client.bind(n, "\(n).x", key) }
            for key in ["a", "b", "c", "ab"] { try stage.client.publish(key, to: "\(n).x", key: key) }
            try expect(try await stage.client.drain(n), ["a", "b"], "keys that match")
        },
        BehaviourCase("a fanout exchange routes to every queue") { stage in
            let n = stage.name
            try await stage.client.declareExchange("\(n).x", "fanout")
            for queue in [n, "\(n).2"] {
                try await stage.client.declare(queue)
                try await stage.client.bind(queue, "\(n).x", "ignored")
            }
            try stage.client.publish("m", to: "\(n).x", key: "other")
            try expect(try await stage.client.drain(n), ["m"], "first queue")
            try expect(try await stage.client.drain("\(n).2"), ["m"], "second queue")
        },
        topicCase("a.*.c", matches: ["a.b.c", "a..c"], not: ["a.c", "a.b.b.c", "a.b.c.d"]),
        topicCase("#", matches: ["a", "a.b", "."], not: []),
        topicCase("a.#", matches: ["a", "a.b", "a.b.c", "a."], not: ["ab", "b.a"]),
        topicCase("#.a.#", matches: ["a", "x.a", "a.x", "x.a.y.a"], not: ["b", "ab"]),
        topicCase("*", matches: ["a"], not: ["a.b"]),
        topicCase("*.#", matches: ["a", "a.b"], not: []),
        topicCase("#.*.b", matches: ["a.b", "x.a.b"], not: ["b", "a.b.c"]),
        headersCase(
            ["x-match": "all", "a": 1, "b": "t"],
            matches: [["a": 1, "b": "t"], ["a": .int32(1), "b": "t", "c": 3]],
            not: [["a": 1], ["a": 2, "b": "t"], [:]]
        ),
        headersCase(
            ["x-match": "any", "a": 1, "b": "t"],
            matches: [["a": 1], ["b": "t", "c": 1]],
            not: [["a": 2], [:]]
        ),
        headersCase(["a": 1], matches: [["a": 1]], not: [["a": "1"]]),
        headersCase(["a": .void], matches: [["a": 1], ["a": "x"]], not: [["b": 1]]),
        headersCase(["x-match": "all", "x-a": 1, "b": 1], matches: [["b": 1]], not: [["x-a": 1]]),
        headersCase(["x-match": "all-with-x", "x-a": 1, "b": 1], matches: [["b": 1, "x-a": 1]], not: [["b": 1]]),
        BehaviourCase("exchanges route to exchanges, each queue once, also in a circle") { stage in
            let n = stage.name
            try await stage.client.declareExchange("\(n).x", "fanout")
            try await stage.client.declareExchange("\(n).y", "topic", internal: true)
            try await stage.client.declare(n)
            try await stage.client.call(.exchangeBind(.init(destination: "\(n).y", source: "\(n).x")))
            try await stage.client.call(
                .exchangeBind(.init(destination: "\(n).x", source: "\(n).y", routingKey: "#"))
            )
            try await stage.client.bind(n, "\(n).x")
            try await stage.client.bind(n, "\(n).y", "a.#")
            try stage.client.publish("m", to: "\(n).x", key: "a.b")
            try expect(try await stage.client.drain(n), ["m"], "messages")
        },
        BehaviourCase("what matches nothing goes to the alternate exchange") { stage in
            let n = stage.name
            try await stage.client.declareExchange("\(n).x", "direct", ["alternate-exchange": .string("\(n).y")])
            try await stage.client.declareExchange("\(n).y", "fanout")
            try await stage.client.declare(n)
            try await stage.client.declare("\(n).2")
            try await stage.client.bind(n, "\(n).x", "a")
            try await stage.client.bind("\(n).2", "\(n).y")
            for key in ["a", "b"] { try stage.client.publish(key, to: "\(n).x", key: key) }
            try expect(try await stage.client.drain(n), ["a"], "matching")
            try expect(try await stage.client.drain("\(n).2"), ["b"], "alternate")
        },
        BehaviourCase("a local random exchange routes to one queue", .since4) { stage in
            let n = stage.name
            try await stage.client.declareExchange("\(n).x", "x-local-random")
            for queue in [n, "\(n).2"] {
                try await stage.client.declare(queue)
                try await stage.client.bind(queue, "\(n).x")
            }
            for number in 1...8 { try stage.client.publish("\(number)", to: "\(n).x", key: "any") }
            let bodies = try await stage.client.drain(n) + stage.client.drain("\(n).2")
            try expect(bodies.sorted(), (1...8).map { "\($0)" }, "messages")
        },
        BehaviourCase("a modulus hash exchange routes a key to the same queue", .since4_3) { stage in
            let n = stage.name
            try await stage.client.declareExchange("\(n).x", "x-modulus-hash")
            for queue in [n, "\(n).2"] {
                try await stage.client.declare(queue)
                try await stage.client.bind(queue, "\(n).x")
            }
            for _ in 1...4 { try stage.client.publish("m", to: "\(n).x", key: "key") }
            let counts = [try await stage.client.drain(n).count, try await stage.client.drain("\(n).2").count]
            try expect(counts.sorted(), [0, 4], "messages of the queues")
        },
        BehaviourCase("an auto-delete exchange goes with its last binding") { stage in
            let n = stage.name
            try await stage.client.declareExchange("\(n).x", "direct", autoDelete: true)
            try await stage.client.declare(n)
            try await stage.client.bind(n, "\(n).x", "a")
            try await stage.client.call(.queueUnbind(.init(queue: n, exchange: "\(n).x", routingKey: "a")))
            try stage.client.send(.exchangeDeclare(.init(exchange: "\(n).x", passive: true)))
            try expect(try await stage.client.expectClose().code, .notFound, "the exchange")
        },
        BehaviourCase("a deleted queue takes its bindings with it") { stage in
            let n = stage.name
            try await stage.client.declareExchange("\(n).x", "fanout")
            try await stage.client.declare(n)
            try await stage.client.bind(n, "\(n).x")
            try await stage.client.call(.queueDelete(.init(queue: n)))
            try await stage.client.declare(n)
            try stage.client.publish("m", to: "\(n).x", key: "")
            try expect(try await stage.client.drain(n), [], "messages")
        },
        BehaviourCase("CC and BCC are more routing keys; BCC is not shown") { stage in
            let n = stage.name
            for queue in [n, "\(n).2", "\(n).3"] { try await stage.client.declare(queue) }
            let headers: FieldTable = ["CC": [.string("\(n).2")], "BCC": [.string("\(n).3")]]
            try stage.client.publish("m", key: n, properties: BasicProperties(headers: headers))
            for queue in [n, "\(n).2", "\(n).3"] {
                guard let event = try await stage.client.get(queue) else {
                    throw Difference(description: "no message in \(queue)")
                }
                try expect(event.properties.headers?["CC"], ["\(n).2"], "CC")
                try expect(event.properties.headers?["BCC"], nil, "BCC")
            }
        },
        BehaviourCase("deleting and unbinding what is not there is no error") { stage in
            let n = stage.name
            try await stage.client.call(.queueDelete(.init(queue: n)))
            try await stage.client.call(.exchangeDelete(.init(exchange: n)))
            try await stage.client.declare(n)
            try await stage.client.call(.queueUnbind(.init(queue: n, exchange: "amq.direct", routingKey: "z")))
            try await stage.client.call(.queueUnbind(.init(queue: n, exchange: "\(n).x", routingKey: "z")))
            try await stage.client.call(.queueUnbind(.init(queue: "\(n).2", exchange: "amq.direct")))
        },
    ]
}
