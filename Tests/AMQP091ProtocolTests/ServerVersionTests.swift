// SPDX-License-Identifier: Apache-2.0
import AMQP091Protocol
import AMQP091Wire
import Testing

@Suite("Server version")
struct ServerVersionTests {
    @Test(
        "A RabbitMQ says its version, of which two numbers count",
        arguments: [
            ("3.10.8", ServerVersion(3, 10)), ("4.0.5", ServerVersion(4, 0)), ("4.3.6", ServerVersion(4, 3)),
            ("4.3.0-rc.1", ServerVersion(4, 3)), ("4.10", ServerVersion(4, 10)), ("4.3+2.gab", ServerVersion(4, 3)),
            ("", nil), ("4", nil), ("four.three", nil), (".4", nil), ("-1.3", ServerVersion(-1, 3)),
        ]
    )
    func reads(_ text: String, _ version: ServerVersion?) {
        #expect(ServerVersion(["product": "RabbitMQ", "version": .string(text)]) == version)
    }

    @Test("Another product, and one without a version, has none")
    func others() {
        #expect(ServerVersion(["product": "LavinMQ", "version": "4.3.0"]) == nil)
        #expect(ServerVersion(["product": "LavinMQ", "behaves_as": "LavinMQ", "version": "4.3.0"]) == nil)
        #expect(ServerVersion(["version": "4.3.0"]) == nil)
        #expect(ServerVersion(["product": "RabbitMQ"]) == nil)
        #expect(ServerVersion([:]) == nil)
    }

    @Test("A broker that stands for RabbitMQ in a test has the version it stands for")
    func standIn() {
        #expect(
            ServerVersion(["product": "a broker", "behaves_as": "RabbitMQ", "version": "4.3.6"]) == ServerVersion(4, 3)
        )
    }

    @Test("Versions are compared by their numbers, not their text")
    func order() {
        #expect(ServerVersion(3, 13) < ServerVersion(4, 0))
        #expect(ServerVersion(4, 3) < ServerVersion(4, 10))
        #expect(ServerVersion(4, 3) >= .v4_3)
    }
}
