// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import Testing

@Suite("Inequivalent argument")
struct InequivalentArgumentTests {
    struct Row: CustomTestStringConvertible, Sendable {
        let text: String
        let name: String
        let received: InequivalentArgument.Value
        let current: InequivalentArgument.Value
        var testDescription: String { self.text }
    }

    static let rows = [
        Row(
            text: "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': "
                + "received 'true' but current is 'false'",
            name: "durable",
            received: .property("true"),
            current: .property("false")
        ),
        Row(
            text: "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': "
                + "received the value '1' of type 'long' but current is none",
            name: "x-max-length",
            received: .argument("1", type: "long"),
            current: .none
        ),
        Row(
            text: "PRECONDITION_FAILED - inequivalent arg 'x-overflow' for queue 'q': received 'x' in vhost '/': "
                + "received none but current is the value 'drop-head' of type 'longstr'",
            name: "x-overflow",
            received: .none,
            current: .argument("drop-head", type: "longstr")
        ),
        Row(
            text: "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'it''s' in vhost '/': "
                + "received 'topic' but current is 'direct'",
            name: "type",
            received: .property("topic"),
            current: .property("direct")
        ),
        Row(
            text: "PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue 'a name that is so long th",
            name: "x-expires",
            received: .unknown,
            current: .unknown
        ),
    ]

    @Test("The text of a refusal contains the argument and both values", arguments: rows)
    func reads(_ row: Row) throws {
        let difference = try #require(InequivalentArgument(replyText: row.text))
        #expect(difference.name == row.name)
        #expect(difference.received == row.received)
        #expect(difference.current == row.current)
    }

    @Test(
        "Other texts are not taken for one",
        arguments: ["", "NOT_FOUND - no queue 'q' in vhost '/'", "inequivalent arg 'x"]
    )
    func others(_ text: String) {
        #expect(InequivalentArgument(replyText: text) == nil)
    }
}
