// SPDX-License-Identifier: Apache-2.0
import AMQP091
import AMQP091Testing
import FoundationEssentials
import Testing

@testable import AMQP091Foundation

// JSONTests: values through a broker and back, and every reason to refuse a body.

@Suite("JSON", .timeLimit(.minutes(1)))
struct JSONTests {
    struct Order: Codable, Hashable, Sendable {
        var id: Int
        var lines: [Line]
        struct Line: Codable, Hashable, Sendable { var article: String }
    }

    static let order = Order(id: 42, lines: [.init(article: "apple"), .init(article: "pear")])

    /// Sends a message through a broker and gives `body` what arrives.
    static func deliver(_ message: AMQPMessage, _ body: (AMQPDelivery) throws -> Void) async throws {
        try await InProcessBroker.withBroker { broker in
            try await AMQPConnection.withConnection(broker.configuration) { connection in
                try await connection.withChannel { channel in
                    try await channel.declareQueue("q")
                    try await channel.publish(message, to: .queue("q"))
                    try await broker.waitUntil(depthOf: "q", is: 1)
                    try body(try #require(try await channel.get("q", acknowledgement: .automatic)))
                }
            }
        }
    }

    @Test("A value survives a round trip, with its content type and the other properties")
    func roundTrip() async throws {
        let message = try AMQPMessage(json: Self.order, properties: BasicProperties(messageID: "1"))
        #expect(message.properties.contentType == "application/json")
        try await Self.deliver(message) { delivery in
            let order: Order = try delivery.decode()
            #expect(order == Self.order)
            let properties = try delivery.properties()
            #expect(properties.messageID == "1")
        }
    }

    struct Kind: CustomTestStringConvertible {
        let type: String?
        let encoding: String?
        let passes: Bool
        var testDescription: String { "\(self.type ?? "none"), \(self.encoding ?? "none")" }

        init(_ type: String?, _ encoding: String? = nil, passes: Bool) {
            self.type = type
            self.encoding = encoding
            self.passes = passes
        }
    }

    static let kinds = [
        Kind("application/json", passes: true),
        Kind("Application/JSON; charset=UTF-8", passes: true),
        Kind("application/json; charset=\"utf-8\"; profile=x", passes: true),
        Kind("application/cloudevents+json", passes: true),
        Kind("application/json", "utf-8", passes: true),
        Kind("application/json; charset=utf-16", passes: false),
        Kind("application/json", "gzip", passes: false),
        Kind("application/jsonlines", passes: false),
        Kind("text/plain", passes: false),
        Kind("", passes: false),
        Kind(nil, passes: false),
    ]

    @Test("The content type is checked before the body is decoded", arguments: kinds)
    func contentTypes(_ kind: Kind) async throws {
        let properties = BasicProperties(contentType: kind.type, contentEncoding: kind.encoding)
        try await Self.deliver(AMQPMessage("7", properties: properties)) { delivery in
            if kind.passes {
                let value = try delivery.decode(Int.self)
                #expect(value == 7)
                return
            }
            let error = #expect(throws: AMQPCodingError.self) { _ = try delivery.decode(Int.self) }
            switch error {
            case .contentType(let type)?: #expect(type == kind.type)
            case .contentEncoding(let encoding)?: #expect(encoding == kind.encoding)
            default: Issue.record("\(String(describing: error))")
            }
        }
    }

    @Test("A message without a content type is accepted on request")
    func missingContentType() async throws {
        try await Self.deliver("7") { delivery in
            let value = try delivery.decode(Int.self, acceptsMissingContentType: true)
            #expect(value == 7)
        }
    }

    static let bodies: [(String, String)] = [
        (#"{"id": 1}"#, "there is no lines at its top"),
        (#"{"id": "secret", "lines": []}"#, "there is no Int at id"),
        (#"{"id": 1, "lines": [{"article": null}]}"#, "there is null for a String at lines.[0].article"),
        ("secret", "it is not JSON"),
        ("", "it is not JSON"),
    ]

    @Test("A body of another shape is refused with its position, without its content", arguments: bodies)
    func shapes(_ body: String, _ place: String) async throws {
        let properties = BasicProperties(contentType: "application/json")
        try await Self.deliver(AMQPMessage(body, properties: properties)) { delivery in
            let error = #expect(throws: AMQPCodingError.self) { _ = try delivery.decode(Order.self) }
            #expect(error?.description == "the body cannot be decoded: \(place)")
        }
    }

    @Test("A value that cannot be encoded is refused")
    func encoding() {
        let error = #expect(throws: AMQPCodingError.self) { _ = try AMQPMessage(json: Double.nan) }
        if case .encoding? = error { return }
        Issue.record("\(String(describing: error))")
    }

    @Test("Encoder, decoder and content type can be chosen")
    func custom() async throws {
        struct Event: Codable, Hashable { var orderID: Int }
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        let properties = BasicProperties(contentType: "application/cloudevents+json")
        let message = try AMQPMessage(json: Event(orderID: 1), properties: properties, encoder: encoder)
        #expect(message.body.string == #"{"order_id":1}"#)
        try await Self.deliver(message) { delivery in
            struct Snake: Codable { var order_id: Int }
            let value = try delivery.decode(Snake.self)
            #expect(value.order_id == 1)
        }
    }
}
