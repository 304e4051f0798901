// SPDX-License-Identifier: Apache-2.0
import AMQP091Wire
import Testing

@testable import AMQP091Testing

// RoutingModelTests: topic patterns, headers matches, exchanges, and the way of a message through a virtual host.

@Suite("Model of the in-process broker: routing")
struct RoutingModelTests {
    struct TopicRow: CustomTestStringConvertible, Sendable {
        let pattern: String
        let matching: [String]
        let other: [String]
        var testDescription: String { self.pattern }

        init(_ pattern: String, _ matching: [String], not other: [String]) {
            self.pattern = pattern
            self.matching = matching
            self.other = other
        }
    }

    static let topics = [
        TopicRow("", [""], not: ["a", "."]),
        TopicRow("a", ["a"], not: ["", "b", "a.a", "a."]),
        TopicRow("*", ["a", "#", "*"], not: ["", "a.b"]),
        TopicRow("#", ["", "a", "a.b.c", "..."], not: []),
        TopicRow("a.*", ["a.b", "a."], not: ["a", "a.b.c", "b.a"]),
        TopicRow("a.#", ["a", "a.b", "a.b.c", "a."], not: ["", "b", "ab"]),
        TopicRow("#.b", ["b", "a.b", "b.b", "a.a.b"], not: ["", "a", "b.a"]),
        TopicRow("a.#.b", ["a.b", "a.x.b", "a.b.b", "a.x.y.b"], not: ["a", "b", "a.b.c"]),
        TopicRow("*.#.*", ["a.b", "a.b.c", "."], not: ["", "a"]),
        TopicRow("#.#", ["", "a", "a.b"], not: []),
        TopicRow("a..b", ["a..b"], not: ["a.b", "a.x.b"]),
        TopicRow("#.a.#.a", ["a.a", "x.a.y.a", "a.a.a"], not: ["a", "a.b"]),
        TopicRow("ä.*", ["ä.ö"], not: ["a.ö"]),
    ]

    @Test("A topic pattern matches these keys only", arguments: topics)
    func topic(_ row: TopicRow) {
        let pattern = TopicPattern(row.pattern)
        #expect(row.matching.filter { !pattern.matches($0) } == [])
        #expect(row.other.filter { pattern.matches($0) } == [])
    }

    @Test("A pattern of many # costs at most its length times the key's")
    func topicIsBounded() {
        let pattern = TopicPattern(Array(repeating: "#.a", count: 40).joined(separator: ".") + ".b")
        #expect(!pattern.matches(Array(repeating: "a", count: 120).joined(separator: ".")))
    }

    /// The definition, without a thought for speed: what the fast one is compared with.
    private static func matches(_ pattern: ArraySlice<Substring>, _ words: ArraySlice<Substring>) -> Bool {
        guard let part = pattern.first else { return words.isEmpty }
        let rest = pattern.dropFirst()
        if part == "#" { return (0...words.count).contains { self.matches(rest, words.dropFirst($0)) } }
        guard let word = words.first, part == "*" || part == word else { return false }
        return self.matches(rest, words.dropFirst())
    }

    @Test("Every pattern of three words and every key of up to four match as defined")
    func topicExhaustive() {
        let parts = ["a", "b", "*", "#"]
        var keys: [[String]] = [[]]
        var longest = keys
        for _ in 0..<4 {
            longest = longest.flatMap { key in ["a", "b"].map { key + [$0] } }
            keys += longest
        }
        for first in parts {
            for second in parts {
                for third in parts {
                    let text = [first, second, third].joined(separator: ".")
                    let pattern = TopicPattern(text)
                    for key in keys {
                        let key = key.joined(separator: ".")
                        let expected = Self.matches(TopicPattern.words(text)[...], TopicPattern.words(key)[...])
                        #expect(pattern.matches(key) == expected, "\(text) and \(key)")
                    }
                }
            }
        }
    }

    struct HeadersRow: CustomTestStringConvertible, Sendable {
        let arguments: FieldTable
        let matching: [FieldTable]
        let other: [FieldTable]
        var testDescription: String { "\(self.arguments)" }

        init(_ arguments: FieldTable, _ matching: [FieldTable], not other: [FieldTable]) {
            self.arguments = arguments
            self.matching = matching
            self.other = other
        }
    }

    static let headers = [
        HeadersRow([:], [[:], ["a": 1]], not: []),
        HeadersRow(["x-match": "any"], [], not: [[:], ["a": 1]]),
        HeadersRow(["a": 1, "b": "x"], [["a": 1, "b": "x", "c": 2]], not: [[:], ["a": 1], ["a": 2, "b": "x"]]),
        HeadersRow(["x-match": "any", "a": 1, "b": "x"], [["a": 1], ["b": "x"]], not: [[:], ["a": 2], ["c": 1]]),
        HeadersRow(["a": .int64(1)], [["a": .uint8(1)], ["a": .int32(1)]], not: [["a": "1"], ["a": .double(1)]]),
        HeadersRow(["a": .void], [["a": 1], ["a": "x"], ["a": .void]], not: [["b": 1]]),
        HeadersRow(["x-a": 1, "b": 2], [["b": 2], ["b": 2, "x-a": 3]], not: [["x-a": 1]]),
        HeadersRow(["x-match": "all-with-x", "x-a": 1], [["x-a": 1]], not: [[:], ["x-a": 2]]),
        HeadersRow(["x-match": "any-with-x", "x-a": 1, "b": 2], [["x-a": 1], ["b": 2]], not: [[:], ["x-a": 2]]),
    ]

    @Test("The arguments of a headers binding match these headers only", arguments: headers)
    func headersMatch(_ row: HeadersRow) throws {
        let match = try HeadersMatch(row.arguments)
        #expect(row.matching.filter { !match.matches($0) } == [])
        #expect(row.other.filter { match.matches($0) } == [])
    }

    @Test("An x-match that is not a string, or unknown, is refused")
    func headersRefused() {
        let number = refusal { () throws(Refusal) in _ = try HeadersMatch(["x-match": .int32(1)]) }
        #expect(number == "PRECONDITION_FAILED - Invalid x-match field type signedint; expected longstr")
        let unknown = refusal { () throws(Refusal) in _ = try HeadersMatch(["x-match": "some"]) }
        #expect(unknown?.hasSuffix("expected all, any, all-with-x, or any-with-x") == true)
    }

    @Test("Each kind of exchange routes by its rule; a queue bound twice gets a message once")
    func kinds() throws {
        let stage = ModelStage()
        let (one, two) = (try stage.queue("one"), try stage.queue("two"))
        let direct = try stage.exchange("direct", "direct")
        try direct.bind(.queue(one), "a", [:])
        try direct.bind(.queue(one), "b", [:])
        try direct.bind(.queue(two), "b", [:])
        #expect(stage.routed("direct", "a") == ["one"])
        #expect(stage.routed("direct", "b") == ["one", "two"])
        #expect(stage.routed("direct", "c") == [])
        let fanout = try stage.exchange("fanout", "fanout")
        try fanout.bind(.queue(one), "a", [:])
        try fanout.bind(.queue(one), "b", [:])
        #expect(stage.routed("fanout", "whatever") == ["one"])
        let topic = try stage.exchange("topic", "topic")
        try topic.bind(.queue(one), "#", [:])
        try topic.bind(.queue(one), "a.*", [:])
        try topic.bind(.queue(two), "*.b", [:])
        #expect(stage.routed("topic", "a.b") == ["one", "two"])
        let headers = try stage.exchange("headers", "headers")
        try headers.bind(.queue(two), "ignored", ["a": 1])
        #expect(stage.routed("headers", "x", ["a": 1]) == ["two"])
        #expect(stage.routed("headers", "ignored") == [])
        #expect(stage.routed("", "two") == ["two"])
        #expect(stage.routed("", "three") == [])
    }

    @Test("A repeated binding exists once; unbinding removes exactly the named one")
    func bindings() throws {
        let stage = ModelStage()
        let queue = try stage.queue()
        let exchange = try stage.exchange("x", "direct")
        for _ in 0..<2 { try exchange.bind(.queue(queue), "a", [:]) }
        try exchange.bind(.queue(queue), "a", ["n": 1])
        try exchange.bind(.queue(queue), "b", [:])
        #expect(exchange.bindings.count == 3)
        #expect(!exchange.unbind { $0.isSame(.queue(queue), "c", [:]) })
        #expect(exchange.unbind { $0.isSame(.queue(queue), "a", [:]) })
        #expect(exchange.bindings.map(\.routingKey) == ["a", "b"])
        #expect(stage.routed("x", "a") == ["q"])
        #expect(exchange.unbind { $0.isSame(.queue(queue), "a", ["n": 1]) })
        #expect(stage.routed("x", "a") == [])
        #expect(stage.routed("x", "b") == ["q"])
    }

    @Test("Bindings between exchanges are followed, also in cycles")
    func exchangeToExchange() throws {
        let stage = ModelStage()
        let (one, two) = (try stage.exchange("one", "fanout"), try stage.exchange("two", "topic"))
        try one.bind(.queue(try stage.queue("q")), "", [:])
        try one.bind(.exchange(two), "", [:])
        try two.bind(.exchange(one), "#", [:])
        try two.bind(.queue(try stage.queue("r")), "a.*", [:])
        #expect(stage.routed("one", "a.b") == ["q", "r"])
        #expect(stage.routed("two", "x") == ["q"])
    }

    @Test("Unrouted messages go to the alternate exchange, repeatedly")
    func alternates() throws {
        let stage = ModelStage()
        let main = try stage.exchange("main", "direct", ["alternate-exchange": "second"])
        let second = try stage.exchange("second", "direct", ["alternate-exchange": "last"])
        try main.bind(.queue(try stage.queue("q")), "a", [:])
        try second.bind(.queue(try stage.queue("r")), "b", [:])
        #expect(stage.routed("main", "a") == ["q"])
        #expect(stage.routed("main", "b") == ["r"])
        // An alternate that is not there drops the message; declared later, it gets what comes.
        #expect(stage.routed("main", "c") == [])
        try stage.exchange("last", "fanout", ["alternate-exchange": "main"]).bind(.queue(try stage.queue("s")), "", [:])
        #expect(stage.routed("main", "c") == ["s"])
    }

    @Test("An auto-delete exchange is deleted with the last binding from it, and so are its bindings")
    func autoDelete() throws {
        let stage = ModelStage()
        let inner = try stage.exchange("inner", "fanout", autoDelete: true)
        let outer = try stage.exchange("outer", "fanout", autoDelete: true)
        let queue = try stage.queue()
        try stage.host.bind(.init(queue: "q", exchange: "inner", routingKey: ""), for: nil)
        try outer.bind(.exchange(inner), "", [:])
        #expect(stage.routed("outer", "") == ["q"])
        stage.host.delete(queue)
        #expect(stage.host.exchanges["inner"] == nil)
        #expect(stage.host.exchanges["outer"] == nil)
    }
}
